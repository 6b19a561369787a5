"""Every reader of files: what it takes, and how that is changed."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from lwq.errors import LwqError
from tests.crafted_ggufs import SOUND, SOUND_IMATRIX
from tests.fuzz_changes import Change, of_bytes, of_gguf, of_json, of_lines, of_one_each, of_safetensors

CORPUS: Final = Path(__file__).parent / "fuzz_corpus"
_MOST_MARKDOWN: Final = 2000
"""Characters: markdown-it takes time by their square."""
_TRANSCRIPTS: Final = Path(__file__).parent / "transcripts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A reader, what it takes, and how that is changed."""

    seeds: tuple[bytes, ...]
    read: Callable[[Path], object]
    changes: tuple[Change, ...]


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


def _beside(sound: Mapping[str, bytes], name: str, read: Callable[[Path], object]) -> Callable[[Path], object]:
    """A reader of a folder in which one file is the input."""

    def read_folder(path: Path) -> object:
        folder = path.parent / "folder"
        if not folder.is_dir():
            folder.mkdir()
        for file, content in sound.items():
            (folder / file).write_bytes(content)
        (folder / name).write_bytes(path.read_bytes())
        return read(folder)

    return read_folder


def _converted(folder: Path) -> None:
    from lwq.gguf.hf_folder import read_folder

    found = read_folder(folder)
    _ = found.n_layer, found.outtype, found.has_tower, found.stored, found.quantized_as, found.beside_a_tower()


def _chat(folder: Path) -> object:
    from lwq.plan.chat import _of_folder

    return _of_folder(folder)


def _data(path: Path) -> None:
    from lwq.gguf.data import check_against, read_rows, read_tensor, tensor_section_sha256
    from lwq.gguf.header import read_header
    from lwq.gguf.scan import not_finite, scan_f16_range

    header = read_header(path)
    for tensor in header.tensors:
        read_tensor(header, tensor.name), read_rows(header, tensor.name, 2)
    _ = scan_f16_range(header), not_finite(header), tensor_section_sha256(path)
    check_against(path, header.tensors, file_bytes=path.stat().st_size)


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

    cache = Cache(path.parent / "cache")
    folder, raw = cache.steps / "toy-1", path.read_bytes()
    if not folder.is_dir():
        folder.mkdir(parents=True)
        cache.ledger.mkdir()
        (folder / "out.bin").write_bytes(b"result")
    (folder / "step.json").write_bytes(raw)
    (cache.ledger / "toy.json").write_bytes(raw)
    _ = read_entry(folder), cache.remembered("toy")
    with garbage(cache):
        pass


def _hashes(path: Path) -> object:
    from lwq.store.files import known_sha256, sha256_file

    file = path.parent / "hashed"
    file.write_bytes(b"content")
    return known_sha256(file, path), sha256_file(file, memo=path)


def _orders(folder: Path) -> object:
    from lwq.store.ledger import Ledger

    for left in ("orders.sqlite-wal", "orders.sqlite-shm"):
        (folder / left).unlink(missing_ok=True)
    return Ledger(folder).orders()


def _report(folder: Path) -> object:
    from lwq.plan.publish import _rows_before

    return _rows_before(folder)


def _manifest(path: Path) -> object:
    from lwq.llama.toolchain import read_manifest

    return read_manifest(path)


def _family(folder: Path) -> object:
    from lwq.plan.reading import read_all

    return read_all([folder / "family.toml"])


def _part(**asked: Any) -> Callable[[Path], object]:
    """A part of a mixed text."""

    def read(path: Path) -> object:
        from lwq.plan.mixture import mixed
        from lwq.recipe.text import Part

        part = Part(text="x", **asked)
        return mixed((part,), 0, text_of=lambda _: (path, "x"), home=path.parent / "home", template=lambda: str)

    return read


def _markdown(path: Path) -> object:
    from lwq.report.authored import authored, words_of

    text = path.read_bytes().decode("utf-8", "replace")[:_MOST_MARKDOWN]
    return authored(text), words_of(text)


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


_CHAT: Final = [{"role": "user", "content": "Why?"}, {"from": "gpt", "value": "So."}]
_MARKDOWN: Final = (
    b"# Title\n\nSome *words*, `code` and [a link](https://example.org).\n\n- one\n- two\n  1. three\n",
    b"| a | b |\n|---|---|\n| 1 | <b>2</b> |\n\n> quoted\n\n![picture](x.png)\n",
)


def _parquet() -> bytes:
    import pyarrow
    from pyarrow import parquet

    file = io.BytesIO()
    rows = [{**_LINES[3], "text": "t"}, {"question": "How?", "choices": ["x"], "answer": 0, "text": "u"}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file.getvalue()


def _tables() -> dict[str, bytes]:
    """Databases that lwq writes: hashes of files, and orders."""
    import tempfile

    from lwq.store.files import sha256_file
    from lwq.store.ledger import Asking, Ledger
    from lwq.store.living import Living

    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "a").write_bytes(b"a")
        os.utime(folder / "a", (1, 1))
        sha256_file(folder / "a", memo=folder / "hashes")
        order = Asking(name="a", folder="/r", recipe="a.toml", cwd="/", arguments={"threads": 1})
        Ledger(folder).post([order], Living.me())
        return {"hashes": (folder / "hashes").read_bytes(), "orders": (folder / "orders.sqlite").read_bytes()}


def readers() -> dict[str, Reader]:
    """All of them by name; each starts from what it once failed on too."""
    found = {**_of_models(), **_of_recipes(), **_of_tasks(), **_of_lwq()}
    return {name: replace(one, seeds=(*one.seeds, *kept(name).values())) for name, one in found.items()}


def kept(name: str) -> dict[str, bytes]:
    """By file: inputs of ``tests/fuzz_corpus`` that a reader once failed on, or nearly."""
    return {path.name: path.read_bytes() for path in sorted((CORPUS / name).glob("*"))}


def _of_models() -> dict[str, Reader]:
    templates = [{"name": "tool", "template": "x"}, {"name": "default", "template": "{{ messages }}"}]
    config = json.dumps({"chat_template": templates, "bos_token": {"content": "<s>"}, "eos_token": "</s>"}).encode()
    found = {
        "gguf": Reader(seeds=(SOUND.whole(),), read=_model, changes=(of_bytes, of_gguf(SOUND), of_gguf(SOUND))),
        "gguf data": Reader(seeds=(SOUND.whole(),), read=_data, changes=(of_bytes, of_gguf(SOUND))),
        "imatrix": Reader(seeds=(SOUND_IMATRIX.whole(),), read=_imatrix, changes=(of_bytes, of_gguf(SOUND_IMATRIX))),
        "imatrix of experts": Reader(
            seeds=((_TRANSCRIPTS / "moe.imatrix.gguf").read_bytes(),), read=_imatrix, changes=(of_bytes,)
        ),
        "safetensors": Reader(seeds=(_SAFETENSORS,), read=_safetensors, changes=(of_bytes, of_safetensors)),
        "tokenizer_config.json": Reader(
            seeds=(config,), read=_beside({}, "tokenizer_config.json", _chat), changes=(of_bytes, of_json)
        ),
    }
    for name, sound in _FOLDER.items():
        change = of_safetensors if name.endswith("tensors") else of_json
        found[name] = Reader(seeds=(sound,), read=_beside(_FOLDER, name, _converted), changes=(of_bytes, change))
    return found


def _of_recipes() -> dict[str, Reader]:
    from tests.run_tiny import RECIPE

    recipe, family = RECIPE.encode(), b'recipe = "tiny.toml"\n[[models]]\nmodel = "a.gguf"\n[[models]]\nmodel = "b"\n'
    chats = b"\n".join(json.dumps({"text": f"a {i}", "messages": _CHAT}).encode() for i in range(3))
    return {
        "recipe": Reader(seeds=(recipe,), read=_recipe, changes=(of_bytes, of_lines)),
        "family": Reader(
            seeds=(family,), read=_beside({"tiny.toml": recipe}, "family.toml", _family), changes=(of_bytes, of_lines)
        ),
        "text": Reader(seeds=(b"One.\n\nTwo words.\n",), read=_part(), changes=(of_bytes, of_lines)),
        "column of texts": Reader(seeds=(chats, _parquet()), read=_part(column="text"), changes=(of_bytes, of_lines)),
        "conversations": Reader(seeds=(chats,), read=_part(chat=True), changes=(of_bytes, of_lines)),
        "markdown": Reader(seeds=_MARKDOWN, read=_markdown, changes=(of_bytes, of_lines)),
    }


def _of_tasks() -> dict[str, Reader]:
    from lwq.tasks.formats import render
    from lwq.tasks.items import Item

    lines = tuple(b"\n".join(json.dumps({**one, "n": i}).encode() for i in range(3)) for one in _LINES)
    tables = (
        b"Why?,a,b,c,d,B\nHow?,e,f,g,h,A\n",
        b"Walking: a man\nb\nc\nd\ne\n0\n" * 2,
        b"The _ fell.\tcup\tcat\t1\n" * 3,
        b"index,sentence,choice 1,choice 2,answer\n1,The _ fell.,cup,cat,1\n",
    )
    items = tuple(Item(id=f"{i}", question=f"Why {i}?", choices=("a", "b"), answer=i % 2, line=i) for i in range(3))
    binary = render("multiple-choice", items)
    found = {
        f"items of {kind}": Reader(
            seeds=(*lines, *tables, binary), read=_items(kind, kind), changes=(of_bytes, of_lines, of_lines)
        )
        for kind in ("multiple-choice", "hellaswag", "winogrande")
    }
    found["binary items"] = Reader(seeds=(binary,), read=_items("multiple-choice", "arc"), changes=(of_bytes,))
    found["parquet"] = Reader(seeds=(_parquet(),), read=_items("multiple-choice", "arc"), changes=(of_bytes,))
    return found


def _of_lwq() -> dict[str, Reader]:
    """What lwq and its tools wrote themselves."""
    from lwq.report.record_json import record_to_json
    from tests.sample_record import sample_record

    record = of_one_each(record_to_json(sample_record()).encode(), _is_record)
    transcripts = tuple(p.read_bytes() for p in sorted(_TRANSCRIPTS.iterdir()) if p.suffix in (".txt", ".json"))
    step = {
        "schema": 1, "step": "toy", "key": "1", "key_value": {"step": "toy", "inputs": [1]}, "result": {"x": 1.5},
        "commands": [["a", "b"]], "seconds": 1.0, "tool_seconds": 1.0, "finished": "t", "work": 0.0,
        "outputs": {"out.bin": {"n_bytes": 6, "sha256": "0", "mtime_ns": 5}}, "released": [],
    }  # fmt: skip
    tables = _tables()
    json_changes = (of_bytes, of_json, of_json)
    return {
        "record": Reader(seeds=(record,), read=_record, changes=json_changes),
        "record of before": Reader(seeds=(record,), read=_beside({}, "record.json", _report), changes=json_changes),
        "transcripts": Reader(seeds=transcripts, read=_transcript, changes=(of_bytes, of_lines)),
        "step": Reader(seeds=(json.dumps(step).encode(),), read=_step, changes=json_changes),
        "pieces": Reader(seeds=(b'["a",1]\n["b",{"x":[1.5]},"00"]\n',), read=_pieces, changes=(of_bytes, of_lines)),
        "hashes": Reader(seeds=(tables["hashes"],), read=_hashes, changes=(of_bytes,)),
        "orders": Reader(seeds=(tables["orders"],), read=_beside({}, "orders.sqlite", _orders), changes=(of_bytes,)),
        "manifest": Reader(seeds=(_manifest_of_here(),), read=_manifest, changes=json_changes),
    }


def _is_record(data: bytes) -> bool:
    from lwq.report.record_json import record_from_json

    try:
        record_from_json(data.decode())
    except LwqError:
        return False
    return True


def _manifest_of_here() -> bytes:
    from lwq.llama.toolchain import _MANIFEST_KEYS, PROGRAMS, SCHEMA, cpu_digest

    stated = dict.fromkeys(_MANIFEST_KEYS, "x") | {"schema": SCHEMA, "cpu": cpu_digest(), "links": {"a": "b"}}
    return json.dumps(stated | {"files": {name: {"n_bytes": 1, "mtime_ns": 1} for name in PROGRAMS}}).encode()
