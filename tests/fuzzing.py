"""Inputs that are nearly right, for every reader of files: what it does not take, it refuses in words, and soon.

    .venv/bin/python -m tests.fuzzing SECONDS [SEED]      (`make fuzz SECONDS=600`)

Each input is a sound one with one to four changes that know its structure (a key's value, a node of JSON, a cell, a
line) or do not (bytes). A failure is told with the seed and the number that make it again.
"""

from __future__ import annotations

import io
import json
import random
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, Final

from lwq.errors import LwqError
from tests.crafted_ggufs import SOUND, SOUND_IMATRIX, Parts

MOST_SECONDS: Final = 5
MOST_BYTES: Final = 1 << 30
_TRANSCRIPTS: Final = Path(__file__).parent / "transcripts"
_NUMBERS: Final = (
    0,
    1,
    -1,
    2,
    127,
    255,
    1 << 16,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 40,
    1 << 62,
    (1 << 63) - 1,
)
_ODD: Final[tuple[Any, ...]] = (
    None, True, False, 0, -1, 1 << 63, 10**400, 1.5, float("nan"), float("inf"), "", "\0", "\ud800", "x" * 3000,
    "../../x", [], {}, [[]], [None], {"": None}, "2", "nan", "\u202e", "é",
)  # fmt: skip
_WORDS: Final = (
    b"\0", b"\n", b"\r", b'"', b"{", b"[", b"]", b",", b"\t", b"\xff", b"\xef\xbb\xbf", b"nan", b"inf", b"-1", b"1e999",
    b"=", b"'''", b"#", b"_", b"%", b"[1]", b"9" * 5000, b"[" * 5000,
)  # fmt: skip

Change = Callable[[random.Random, bytes], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A reader, what it takes, and how that is changed."""

    seeds: tuple[bytes, ...]
    read: Callable[[Path], object]
    changes: tuple[Change, ...]


# changes


def of_bytes(chance: random.Random, data: bytes) -> bytes:
    """A few bytes changed, cut, doubled, or replaced by a word or a number."""
    at = chance.randrange(len(data) + 1)
    to = min(len(data), at + chance.choice((1, 4, 8, 30, 200)))
    what = chance.randrange(7)
    if what == 0:
        return data[:at]
    if what == 1:
        return data[:at] + data[to:]
    if what == 2:
        return data[:to] + data[at:]
    if what == 3:
        return data[:at] + chance.choice(_WORDS) + data[at:]
    if what == 4:
        return data[:at] + chance.choice(_WORDS) + data[to:]
    if what == 5:
        code = chance.choice(("<i", "<q", "<I", "<Q"))
        size = struct.calcsize(code)
        number = struct.pack(code.upper(), chance.choice(_NUMBERS) % (1 << (8 * size)))
        return data[:at] + number + data[at + size :]
    return data[:at] + bytes(chance.randrange(256) for _ in data[at:to]) + data[to:]


def of_gguf(sound: Parts) -> Change:
    """One key, one tensor's entry or one count changed, and the whole put together again."""

    def change(chance: random.Random, _: bytes) -> bytes:
        kv, tensors = list(sound.kv), list(sound.tensors)
        group = kv if chance.random() < 0.6 else tensors
        i = chance.randrange(len(group))
        what = chance.randrange(4)
        if what == 0:
            group[i] = of_bytes(chance, group[i])
        elif what == 1:
            group.insert(chance.randrange(len(group)), group[i])
        elif what == 2:
            del group[i]
        else:
            chance.shuffle(group)
        counts = {"n_kv": chance.choice(_NUMBERS)} if chance.random() < 0.1 else {}
        return replace(sound, kv=tuple(kv), tensors=tuple(tensors), **counts).whole()

    return change


def of_json(chance: random.Random, data: bytes) -> bytes:
    """One node replaced, removed, doubled, renamed, or wrapped in many lists."""
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError):
        return of_bytes(chance, data)
    places = list(_nodes(whole))
    if not places:
        return json.dumps(chance.choice(_ODD)).encode()
    owner, key = chance.choice(places)
    what = chance.randrange(5)
    if what == 0:
        del owner[key]
    elif what == 1:
        other, name = chance.choice(places)
        owner[key] = json.loads(json.dumps(other[name]))
    elif what == 2 and isinstance(owner, dict):
        owner[str(chance.choice(_ODD))[:50]] = owner.pop(key)
    elif what == 3:
        marker = "\x01deep\x01"
        owner[key] = marker
        n = chance.choice((3, 900, 100_000))
        return json.dumps(whole).encode().replace(json.dumps(marker).encode(), b"[" * n + b"]" * n)
    else:
        owner[key] = deepcopy(chance.choice(_ODD))
    with suppress(ValueError, RecursionError):  # more digits, or deeper, than is written
        return json.dumps(whole, ensure_ascii=chance.random() < 0.8).encode("utf-8", "surrogatepass")
    return data


def _nodes(value: Any) -> Iterator[tuple[Any, Any]]:
    pairs: Sequence[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list):
        pairs = list(enumerate(value))
    for key, inner in pairs:
        yield value, key
        yield from _nodes(inner)


def of_lines(chance: random.Random, data: bytes) -> bytes:
    """One line changed, as JSON where it is any; or lines doubled, dropped, shuffled."""
    lines = data.split(b"\n")
    i = chance.randrange(len(lines))
    what = chance.randrange(5)
    if what == 0:
        del lines[i]
    elif what == 1:
        lines.insert(i, chance.choice(lines))
    elif what == 2:
        chance.shuffle(lines)
    else:
        lines[i] = (of_json if lines[i][:1] in (b"{", b"[") else of_bytes)(chance, lines[i])
    return b"\n".join(lines)


def of_safetensors(chance: random.Random, data: bytes) -> bytes:
    """Its header changed as JSON; the length before it true."""
    n = int.from_bytes(data[:8], "little")
    head = of_json(chance, data[8 : 8 + n])
    return len(head).to_bytes(8, "little") + head + data[8 + n :]


# readers


def _model(path: Path) -> None:
    from lwq.gguf.header import read_array, read_header
    from lwq.gguf.reader import BigArray
    from lwq.gguf.size import planned_tensors
    from lwq.gguf.usable import cautions, check_usable

    header = read_header(path)
    _ = header.n_params, header.n_vocab, header.n_layer, header.file_bytes, planned_tensors(header, types={})
    for key, value in header.metadata.items():
        if isinstance(value, BigArray):
            read_array(header, key)
    check_usable(header)
    list(cautions(header, (512,)))


def _imatrix(path: Path) -> None:
    from lwq.gguf.imatrix import read_imatrix, unreached_experts
    from lwq.gguf.statistics import as_printed, layer_statistics, tensor_statistics

    entries = read_imatrix(path).entries
    rows = tensor_statistics(entries)
    _ = [as_printed(row) for row in (*rows, *layer_statistics(rows))], unreached_experts(entries)


def _folder(name: str) -> Callable[[Path], object]:
    def read(path: Path) -> None:
        from lwq.gguf.hf_folder import read_folder

        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            for file, content in {**_FOLDER, name: path.read_bytes()}.items():
                (folder / file).write_bytes(content)
            found = read_folder(folder)
            _ = found.n_layer, found.outtype, found.has_tower, found.stored, found.quantized_as, found.beside_a_tower()

    return read


def _chat(path: Path) -> object:
    from lwq.plan.chat import _of_folder

    with tempfile.TemporaryDirectory() as made:
        (Path(made) / "tokenizer_config.json").write_bytes(path.read_bytes())
        return _of_folder(Path(made))


def _items(kind: Any, name: str) -> Callable[[Path], object]:
    def read(path: Path) -> object:
        from lwq.tasks.files import usable_items

        return usable_items(path, name, kind, skip=True)

    return read


def _transcript(path: Path) -> None:
    from lwq.llama import task_transcripts, transcripts
    from lwq.llama.complaints import complaint

    text = path.read_bytes().decode("utf-8", "replace")
    parsers: tuple[Callable[[], object], ...] = (
        lambda: transcripts.parse_perplexity(text, text),
        lambda: transcripts.parse_damage(text, text),
        lambda: transcripts.parse_dry_run(text),
        lambda: transcripts.parse_speed(text),
        lambda: transcripts.parse_devices(text),
        lambda: transcripts.parse_buffers(text),
        lambda: task_transcripts.parse_task_score("hellaswag", text, text, 4),
        lambda: task_transcripts.parse_task_score("winogrande", text, text, 4),
        lambda: complaint(text),
    )
    for parse in parsers:
        with suppress(LwqError):
            parse()


def _step(path: Path) -> None:
    from lwq.store.cache import Cache, read_entry
    from lwq.store.garbage import garbage

    with tempfile.TemporaryDirectory() as made:
        cache = Cache(Path(made))
        folder = cache.steps / "toy-1"
        folder.mkdir(parents=True)
        cache.ledger.mkdir()
        for place in (folder / "step.json", cache.ledger / "toy.json"):
            place.write_bytes(path.read_bytes())
        (folder / "out.bin").write_bytes(b"result")
        _ = read_entry(folder), cache.remembered("toy")
        with garbage(cache):
            pass


def _pieces(path: Path) -> object:
    from lwq.store.pieces import Pieces

    return Pieces(path)


def _record(path: Path) -> object:
    from lwq.report.record_json import read_record

    return read_record(path)


def _recipe(path: Path) -> object:
    from lwq.plan.reading import read_recipe

    return read_recipe(path)


def _safetensors(path: Path) -> object:
    from lwq.gguf.safetensors import read_safetensors

    return read_safetensors(path)


_HEADER = json.dumps({
    "__metadata__": {"format": "pt"}, "a": {"dtype": "F16", "shape": [2, 4], "data_offsets": [0, 16]},
    "b": {"dtype": "F32", "shape": [4], "data_offsets": [16, 32]},
}).encode()  # fmt: skip
_SAFETENSORS = len(_HEADER).to_bytes(8, "little") + _HEADER + bytes(32)
_FOLDER: Mapping[str, bytes] = {
    "config.json": json.dumps({
        "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 2, "vision_config": {},
        "text_config": {"n_layer": 2}, "quantization_config": {"quant_method": "fp8"},
    }).encode(),
    "model.safetensors": _SAFETENSORS,
    "model.safetensors.index.json": json.dumps({"weight_map": dict.fromkeys("ab", "model.safetensors")}).encode(),
    "tekken.json": json.dumps({"special_tokens": [{"rank": 0, "token_str": "<s>"}]}).encode(),
}  # fmt: skip
_LINES = [
    {"ctx": "A man walks", "endings": ["a", "b", "c", "d"], "label": "1", "ind": 4, "activity_label": "Walking"},
    {"sentence": "The _ fell.", "option1": "cup", "option2": "cat", "answer": "1"},
    {"id": "q", "answerKey": "A", "question": {
        "stem": "Why?", "choices": [{"text": "x", "label": "A"}, {"text": "y", "label": "B"}],
    }},
    {"question": "Why?", "choices": ["x", "y", "z"], "answer": 2},
    {"question": "Why?", "mc1_targets": {"choices": ["x", "y"], "labels": [1, 0]}},
]  # fmt: skip


def _parquet() -> bytes:
    import pyarrow
    from pyarrow import parquet

    file = io.BytesIO()
    parquet.write_table(
        pyarrow.Table.from_pylist([_LINES[3], {"question": "How?", "choices": ["x"], "answer": 0}]), file
    )
    return file.getvalue()


def readers() -> dict[str, Reader]:
    """All of them by name."""
    from lwq.report.record_json import record_to_json
    from tests.run_tiny import RECIPE
    from tests.sample_record import sample_record

    lines = tuple(b"\n".join(json.dumps({**one, "n": i}).encode() for i in range(3)) for one in _LINES)
    tables = (
        b"Why?,a,b,c,d,B\nHow?,e,f,g,h,A\n",
        b"Walking: a man\nb\nc\nd\ne\n0\n" * 2,
        b"The _ fell.\tcup\tcat\t1\n" * 3,
    )
    record = record_to_json(sample_record()).encode()
    step = {
        "schema": 1, "step": "toy", "key": "1", "key_value": {"step": "toy", "inputs": [1]}, "result": {"x": 1.5},
        "commands": [["a", "b"]], "seconds": 1.0, "tool_seconds": 1.0, "finished": "t", "work": 0.0,
        "outputs": {"out.bin": {"n_bytes": 6, "sha256": "0", "mtime_ns": 5}}, "released": [],
    }  # fmt: skip
    found = {
        "gguf": Reader(seeds=(SOUND.whole(),), read=_model, changes=(of_bytes, of_gguf(SOUND), of_gguf(SOUND))),
        "imatrix": Reader(
            seeds=(SOUND_IMATRIX.whole(), (_TRANSCRIPTS / "moe.imatrix.gguf").read_bytes()),
            read=_imatrix,
            changes=(of_bytes, of_gguf(SOUND_IMATRIX)),
        ),
        "safetensors": Reader(seeds=(_SAFETENSORS,), read=_safetensors, changes=(of_bytes, of_safetensors)),
        "record": Reader(seeds=(record,), read=_record, changes=(of_bytes, of_json, of_json)),
        "recipe": Reader(seeds=(RECIPE.encode(),), read=_recipe, changes=(of_bytes, of_lines)),
        "parquet": Reader(seeds=(_parquet(),), read=_items("multiple-choice", "arc"), changes=(of_bytes,)),
        "transcripts": Reader(
            seeds=tuple(p.read_bytes() for p in sorted(_TRANSCRIPTS.iterdir()) if p.suffix in (".txt", ".json")),
            read=_transcript,
            changes=(of_bytes, of_lines),
        ),
        "step": Reader(seeds=(json.dumps(step).encode(),), read=_step, changes=(of_bytes, of_json)),
        "pieces": Reader(seeds=(b'["a",1]\n["b",{"x":[1.5]},"00"]\n',), read=_pieces, changes=(of_bytes, of_lines)),
    }
    templates = [{"name": "tool", "template": "x"}, {"name": "default", "template": "{{ messages }}"}]
    config = json.dumps({"chat_template": templates, "bos_token": {"content": "<s>"}, "eos_token": "</s>"}).encode()
    found["tokenizer_config.json"] = Reader(seeds=(config,), read=_chat, changes=(of_bytes, of_json))
    for name in _FOLDER:
        change = of_safetensors if name.endswith("tensors") else of_json
        found[name] = Reader(seeds=(_FOLDER[name],), read=_folder(name), changes=(of_bytes, change))
    for kind in ("multiple-choice", "hellaswag", "winogrande"):
        found[f"items of {kind}"] = Reader(
            seeds=(*lines, *tables), read=_items(kind, kind), changes=(of_bytes, of_lines, of_lines)
        )
    return found


def one(reader: Reader, seed: int, number: int) -> bytes:
    """The input of that number: always the same."""
    chance = random.Random(seed * 1_000_003 + number)
    data = chance.choice(reader.seeds)
    for _ in range(chance.choice((1, 1, 2, 4))):
        data = chance.choice(reader.changes)(chance, data)
    return data


@contextmanager
def _soon() -> Iterator[None]:
    def late(_: int, __: FrameType | None) -> None:
        raise TimeoutError(f"took more than {MOST_SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(MOST_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def fault(reader: Reader, data: bytes, path: Path) -> BaseException | None:
    """What came of an input beside an answer or a refusal in words."""
    path.write_bytes(data)
    try:
        with _soon():
            reader.read(path)
    except LwqError as error:
        return None if error.message else AssertionError("refused without a word")
    except Exception as error:
        return error
    return None


def main(seconds: float, seed: int) -> int:
    """Reads inputs for so long, all readers by turns; the number of faults."""
    import resource

    all_readers, ends, n_faults = readers(), time.monotonic() + seconds, 0
    used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (used + MOST_BYTES, -1))
    counts = dict.fromkeys(all_readers, 0)
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < ends:
            for name, reader in all_readers.items():
                turn = min(ends, time.monotonic() + 1)
                while time.monotonic() < turn:
                    data = one(reader, seed, counts[name])
                    if error := fault(reader, data, Path(folder) / "input"):
                        n_faults += 1
                        print(f"{name}: seed {seed}, number {counts[name]}: {type(error).__name__}: {str(error)[:200]}")
                    counts[name] += 1
    for name, n in counts.items():
        print(f"{name:28}{n:>12,}")
    print(f"{len(counts)} readers, {sum(counts.values()):,} inputs, {n_faults} faults (seed {seed})")
    return n_faults


if __name__ == "__main__":
    sys.exit(bool(main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)))
