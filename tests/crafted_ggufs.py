"""GGUF files that are wrong in one way each, made byte by byte from a seed: what nobody's converter writes.

``SOUND`` is a model that passes; each crafted file is that model, or its importance matrix, with one thing changed.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

U8, U32, I32, F32, BOOL, STRING, ARRAY, U64, F64 = 0, 4, 5, 6, 7, 8, 9, 10, 12
_CODES = {U8: "B", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", F64: "d"}
HUGE = (1 << 20, 1 << 31, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)
N_EMBD, N_TOKENS = 32, 8


def text(value: str | bytes, n_bytes: int | None = None) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw) if n_bytes is None else n_bytes) + raw


def key(name: str | bytes, kind: int, value: object = b"") -> bytes:
    """A key with a value of that kind; bytes stand as they are."""
    head = text(name) + struct.pack("<i", kind)
    if isinstance(value, bytes):
        return head + value
    return head + (text(str(value)) if kind == STRING else struct.pack(f"<{_CODES[kind]}", value))


def array(name: str, kind: int, items: Sequence[object], n: int | None = None) -> bytes:
    body = b"".join(text(str(i)) if kind == STRING else struct.pack(f"<{_CODES[kind]}", i) for i in items)
    return key(name, ARRAY, struct.pack("<iQ", kind, len(items) if n is None else n) + body)


def entry(name: str | bytes, ne: Sequence[int], offset: int, kind: int = 0, n_dims: int | None = None) -> bytes:
    n = len(ne) if n_dims is None else n_dims
    dims = b"".join(struct.pack("<Q", size % (1 << 64)) for size in ne)
    return text(name) + struct.pack("<I", n % (1 << 32)) + dims + struct.pack("<iQ", kind, offset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A file from its parts; counts are true where none are given."""

    kv: tuple[bytes, ...]
    tensors: tuple[bytes, ...]
    data: bytes
    start: bytes = b"GGUF" + struct.pack("<I", 3)
    n_tensors: int | None = None
    n_kv: int | None = None
    length: int = 0
    """The file is as long as this, its end a hole."""

    def head(self) -> bytes:
        n_tensors = len(self.tensors) if self.n_tensors is None else self.n_tensors
        n_kv = len(self.kv) if self.n_kv is None else self.n_kv
        counts = struct.pack("<QQ", n_tensors % (1 << 64), n_kv % (1 << 64))
        return self.start + counts + b"".join(self.kv) + b"".join(self.tensors)

    def whole(self) -> bytes:
        head = self.head()
        return head + bytes(-len(head) % 32) + self.data

    def write(self, path: Path) -> Path:
        with path.open("wb") as file:
            file.write(self.whole())
            if self.length:
                file.truncate(self.length)
        return path

    def with_key(self, name: str, raw: bytes) -> Parts:
        """With another value of a key, or one more."""
        kept = tuple(one for one in self.kv if not one.startswith(text(name)))
        return replace(self, kv=(*kept, raw))

    def with_tensor(self, i: int, raw: bytes) -> Parts:
        return replace(self, tensors=(*self.tensors[:i], raw, *self.tensors[i + 1 :]))


_SHAPES = {
    "token_embd.weight": (N_EMBD, N_TOKENS),
    "blk.0.attn_norm.weight": (N_EMBD,),
    "blk.1.attn_norm.weight": (N_EMBD,),
    "output_norm.weight": (N_EMBD,),
}
_OFFSETS = (0, 1024, 1152, 1280)
SOUND = Parts(
    kv=(
        key("general.architecture", STRING, "llama"),
        key("llama.block_count", U32, 2),
        key("llama.context_length", U32, 64),
        key("llama.embedding_length", U32, N_EMBD),
        key("llama.feed_forward_length", U32, 64),
        key("llama.attention.head_count", U32, 2),
        key("llama.attention.layer_norm_rms_epsilon", F32, 1e-5),
        key("tokenizer.ggml.model", STRING, "gpt2"),
        array("tokenizer.ggml.tokens", STRING, [f"token{i}" for i in range(N_TOKENS)]),
        array("tokenizer.ggml.scores", F32, [0.0] * N_TOKENS),
        array("tokenizer.ggml.token_type", I32, [1] * N_TOKENS),
        key("tokenizer.ggml.bos_token_id", U32, 1),
        key("tokenizer.ggml.add_bos_token", BOOL, True),
    ),
    tensors=tuple(entry(n, ne, at) for (n, ne), at in zip(_SHAPES.items(), _OFFSETS, strict=True)),
    data=bytes(1408),
)
SOUND_IMATRIX = Parts(
    kv=(
        key("general.type", STRING, "imatrix"),
        array("imatrix.datasets", STRING, ["text.txt"]),
        key("imatrix.chunk_count", U32, 4),
        key("imatrix.chunk_size", U32, 512),
    ),
    tensors=(entry("blk.0.ffn_up.weight.in_sum2", (8, 1), 0), entry("blk.0.ffn_up.weight.counts", (1, 1), 32)),
    data=struct.pack("<8f", *range(1, 9)) + struct.pack("<f", 4.0) + bytes(28),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crafted:
    """A file, and a pattern of what must be said of it."""

    name: str
    make: Callable[[Path], Path]
    """Writes it into a folder; the path to read."""
    said: str
    is_imatrix: bool = False


def _one(name: str, parts: Parts | bytes, said: str, *, is_imatrix: bool = False) -> Crafted:
    def make(folder: Path) -> Path:
        path = folder / "bad.gguf"
        if isinstance(parts, Parts):
            return parts.write(path)
        path.write_bytes(parts)
        return path

    return Crafted(name=name, make=make, said=said, is_imatrix=is_imatrix)


def crafted(seed: int) -> tuple[Crafted, ...]:
    """All of them; the seed draws places and values where these are many."""
    chance = random.Random(seed)
    makers = (_counts, _lengths, _arrays, _starts, _names, _shapes, _types, _offsets, _alignments, _keys, _lists)
    found = [one for maker in makers for one in maker(chance)]
    return (*found, *_cuts(chance), *_twice(chance), *_shards(), *_imatrices())


def _counts(_: random.Random) -> Iterator[Crafted]:
    for n in (*HUGE, -1, len(SOUND.tensors) + 1):
        yield _one(f"tensors {n}", replace(SOUND, n_tensors=n), "announces|tensors' names|tensor")
    for n in (*HUGE, -1, len(SOUND.kv) + 1):
        yield _one(f"keys {n}", replace(SOUND, n_kv=n), "announces|metadata|truncated")
    for n in (1 << 19, 1 << 30):
        yield _one(f"sparse tensors {n}", replace(SOUND, n_tensors=n, length=1 << 36), "announces .* tensors")
        yield _one(f"sparse keys {n}", replace(SOUND, n_kv=n, length=1 << 36), "announces .* metadata keys")


def _lengths(_: random.Random) -> Iterator[Crafted]:
    for n in HUGE:
        first = text(b"x", n) + struct.pack("<iI", U32, 1)
        yield _one(f"key of {n}", replace(SOUND, kv=(first, *SOUND.kv)), "truncated in the metadata's keys|name of")
        yield _one(f"text of {n}", SOUND.with_key("a", key("a", STRING, text(b"x", n))), "truncated in metadata 'a'")
        items = struct.pack("<iQ", STRING, 1) + text(b"x", n)
        yield _one(f"item of {n}", SOUND.with_key("a", key("a", ARRAY, items)), "truncated in metadata 'a'")
        named = text(b"x", n) + struct.pack("<IQiQ", 1, 1, 0, 0)
        yield _one(f"tensor name of {n}", SOUND.with_tensor(0, named), "truncated in the tensors' names|name of")
    for n in (1 << 27, 1 << 34):
        raw = key("a", STRING, text(b"x", n))
        yield _one(f"sparse text of {n}", replace(SOUND.with_key("a", raw), length=1 << 36), "'a'.* a text of")
        raw = key("a", ARRAY, struct.pack("<iQ", STRING, 1) + text(b"x", n))
        yield _one(f"sparse item of {n}", replace(SOUND.with_key("a", raw), length=1 << 36), "'a'.* bytes|'a'.* text")
        raw = text(b"x", n) + struct.pack("<iI", U32, 1)
        yield _one(f"sparse key of {n}", replace(SOUND, kv=(raw,), length=1 << 36), "a name of")
    yield _one("key of 65536", SOUND.with_key("k", key("k" * 65536, U32, 1)), "a name of 65536 bytes")
    yield _one("tensor name of 64", SOUND.with_tensor(0, entry("t" * 64, (32, 8), 0)), "a name of 64 bytes")


def _arrays(_: random.Random) -> Iterator[Crafted]:
    for kind in (U8, U32, F64, BOOL, STRING):
        for n in HUGE[1:]:
            raw = array("a", kind, [], n)
            yield _one(f"{n} items of {kind}", SOUND.with_key("a", raw), "metadata 'a'")
    for n in ((1 << 21) + 1, 1 << 32):
        raw = array("a", STRING, [], n)
        yield _one(f"sparse {n} texts", replace(SOUND.with_key("a", raw), length=1 << 36), "'a' announces .* strings")
        raw = array("a", F64, [], n << 4)
        yield _one(f"sparse {n} numbers", replace(SOUND.with_key("a", raw), length=1 << 40), "'a' has .* bytes")
    for depth in (1, 3, 5000):
        nested = struct.pack("<iQ", ARRAY, 1) * depth + struct.pack("<iQI", U32, 1, 7)
        yield _one(f"nested {depth}", SOUND.with_key("a", key("a", ARRAY, nested)), "value type 9")
    for kind in (13, 99, -1, -(1 << 31)):
        raw = key("a", ARRAY, struct.pack("<iQ", kind, 1) + bytes(8))
        yield _one(f"items of type {kind}", SOUND.with_key("a", raw), f"value type {kind}")
        yield _one(f"value of type {kind}", SOUND.with_key("a", key("a", kind, bytes(8))), f"value type {kind}")


def _starts(_: random.Random) -> Iterator[Crafted]:
    rest = SOUND.whole()[8:]
    for magic in (b"ggml", b"lmgg", b"FUGG", b"gguf", bytes(4), b"PK\x03\x04", b"\x7fELF", b"<!DO"):
        yield _one(f"magic {magic!r}", magic + struct.pack("<I", 3) + rest, "expected b'GGUF'")
    for version in (0, 1, 4, 5, 0xFFFF, 0xFFFFFFFF):
        yield _one(f"version {version}", b"GGUF" + struct.pack("<I", version) + rest, "version")
    for version in (1, 2, 3):
        yield _one(f"big-endian {version}", b"GGUF" + struct.pack(">I", version) + rest, "big-endian")


_BAD_NAMES: tuple[tuple[str, bytes], ...] = (
    ("empty", b""), ("NUL", b"blk.0\0.weight"), ("only NUL", b"\0"), ("line", b"blk.0\n.weight"),
    ("escape", b"a\x1b[31m"), ("delete", b"a\x7f"), ("not UTF-8", b"a\xff"), ("cut UTF-8", b"a\xe2\x82"),
    ("surrogate", b"a\xed\xa0\x80"), ("overlong", b"\xc0\xaf"), ("right to left", "a\u202eb".encode()),
    ("no width", "a\u200bb".encode()),
)  # fmt: skip
_PATHS: tuple[tuple[str, bytes], ...] = (
    ("slash", b"a/b"), ("escape of path", b"../../../etc/x"), ("absolute", b"/etc/passwd"), ("backslash", b"..\\..\\x"),
    ("drive", b"C:\\x"),
)  # fmt: skip


def _names(_: random.Random) -> Iterator[Crafted]:
    said = "name of 0 bytes|is not UTF-8|characters that no name has"
    for what, raw in (*_BAD_NAMES, *_PATHS):
        yield _one(f"tensor name: {what}", SOUND.with_tensor(1, entry(raw, (32,), 1024)), said)
    for what, raw in _BAD_NAMES:
        yield _one(f"key: {what}", replace(SOUND, kv=(*SOUND.kv, key(raw, U32, 1))), said)


def _shapes(_: random.Random) -> Iterator[Crafted]:
    name = "token_embd.weight"
    for n in (0, 5, 1 << 16, -1):
        raw = entry(name, (32, 8), 0, n_dims=n)
        yield _one(f"{n} dimensions", SOUND.with_tensor(0, raw), "dimensions, expected 1 to 4")
    shapes = (
        (0,), (0, 8), (32, 0), (32, 8, 0), (32, 8, 1, 0), (-1,), (-32, -8), (32, -8), (-(1 << 63), 1), (1 << 62, 2),
        ((1 << 63) - 32, 1), (1 << 32, 1 << 32), (1 << 32, 1 << 31), (1 << 21, 1 << 21, 1 << 21), (1 << 33, 1 << 31, 2),
        (1 << 16, 1 << 16, 1 << 16, 1 << 16), (32, 1 << 58), (1 << 40, 1), (32, 9), (32, 8, 2), (64, 8),
    )  # fmt: skip
    said = "cannot be|more elements|truncated in the data|has offset"
    for kind in (0, 2, 12):
        for ne in shapes[:: 1 if kind == 0 else 2]:
            yield _one(f"shape {ne} of type {kind}", SOUND.with_tensor(0, entry(name, ne, 0, kind)), said)


def _types(chance: random.Random) -> Iterator[Crafted]:
    for kind in (4, 5, 31, 32, 33, 36, 37, 38, -1, 1 << 30, -(1 << 31), chance.randrange(100, 1 << 20)):
        yield _one(f"type {kind}", SOUND.with_tensor(0, entry("t", (32, 8), 0, kind)), f"ggml type {kind}")
    for kind in (10, 12, 14, 16, 23, 34, 40):
        yield _one(f"row of 32 in {kind}", SOUND.with_tensor(0, entry("t", (32, 8), 0, kind)), "cannot be")


def _offsets(chance: random.Random) -> Iterator[Crafted]:
    names = tuple(_SHAPES)
    for i in (0, 1, 3):
        right = _OFFSETS[i]
        for wrong in (right + 1, right + 7, right + 32, right + 4096, 1 << 40, 1 << 63, (1 << 64) - 32, (1 << 64) - 1):
            raw = entry(names[i], _SHAPES[names[i]], wrong)
            yield _one(f"offset {wrong} of {i}", SOUND.with_tensor(i, raw), f"has offset {wrong}")
    for i in (1, 2, 3):
        raw = entry(names[i], _SHAPES[names[i]], chance.choice(_OFFSETS[:i]))
        yield _one(f"overlap of {i}", SOUND.with_tensor(i, raw), "has offset")
    swapped = [entry(names[i], _SHAPES[names[i]], at) for i, at in zip(range(4), reversed(_OFFSETS), strict=True)]
    yield _one("offsets in reverse", replace(SOUND, tensors=tuple(swapped)), "has offset")


def _alignments(_: random.Random) -> Iterator[Crafted]:
    name = "general.alignment"
    for n in (0, 3, 24, 33, (1 << 31) - 1, 1 << 17, 1 << 31, (1 << 32) - 1):
        yield _one(f"alignment {n}", SOUND.with_key(name, key(name, U32, n)), "general.alignment is")
    for kind, value in ((U64, 32), (I32, -32), (STRING, "32"), (F32, 32.0), (BOOL, True), (U8, 32)):
        yield _one(f"alignment of type {kind}", SOUND.with_key(name, key(name, kind, value)), "general.alignment is")
    yield _one("alignment as a list", SOUND.with_key(name, array(name, U32, [32])), "general.alignment is")
    yield _one("alignment that data do not have", SOUND.with_key(name, key(name, U32, 4096)), "has offset|truncated")


def _keys(_: random.Random) -> Iterator[Crafted]:
    wrong: dict[str, tuple[tuple[int, object], ...]] = {
        "llama.block_count": (
            (STRING, "2"), (I32, -2), (I32, 2), (F32, 2.0), (BOOL, True), (U64, 1 << 63), (U32, 513), (U32, 1 << 31),
            (U32, (1 << 32) - 1), (U32, 0),
        ),
        "llama.embedding_length": ((STRING, "32"), (U32, 0), (U32, (1 << 32) - 1), (F64, 32.0), (U32, 31)),
        "llama.context_length": ((STRING, "long"), (U32, 0), (I32, -1), (U64, 64)),
        "llama.feed_forward_length": ((STRING, "64"), (F32, 64.0), (U32, (1 << 32) - 1)),
        "llama.attention.head_count": ((STRING, "2"), (I32, -2), (BOOL, False)),
        "llama.expert_count": ((U32, 1025), (STRING, "8"), (I32, -1)),
        "llama.expert_used_count": ((U32, 3), (STRING, "2")),
        "llama.nextn_predict_layers": ((U32, 513), (I32, -1)),
        "llama.vocab_size": ((U32, 0), (STRING, "8")),
        "llama.attention.layer_norm_rms_epsilon": (
            (F32, float("nan")), (F32, float("inf")), (F32, -1.0), (STRING, "small"), (U32, 1),
        ),
        "llama.rope.freq_base": ((F32, float("nan")), (F32, float("-inf")), (STRING, "1e4")),
        "general.architecture": (
            (U32, 1), (STRING, "../../etc"), (STRING, "a" * 65), (STRING, "llama\0"), (STRING, "a b"), (BOOL, True),
        ),
        "general.type": ((U32, 1),),
        "tokenizer.ggml.model": ((U32, 1), (STRING, "")),
        "tokenizer.ggml.pre": ((F32, 1.0),),
        "tokenizer.chat_template": ((U32, 1),),
        "tokenizer.ggml.bos_token_id": ((STRING, "1"), (I32, -1), (U64, 1 << 63), (F32, 1.0)),
        "tokenizer.ggml.add_bos_token": ((STRING, "yes"), (U32, 1)),
    }  # fmt: skip
    for name, values in wrong.items():
        for kind, value in values:
            said = "expected|but there are|no llama.block_count|embd.weight have|has no tokenizer"
            yield _one(f"{name} = {value!r} ({kind})"[:90], SOUND.with_key(name, key(name, kind, value)), said)
    for n in (1, 3, 600):
        raw = array("llama.attention.head_count", U32, [2] * n)
        yield _one(f"heads of {n} layers", SOUND.with_key("llama.attention.head_count", raw), "one for each of 2")
    yield _one("no block_count", replace(SOUND, kv=(*SOUND.kv[:1], *SOUND.kv[2:])), "no llama.block_count")
    yield _one("layer beyond", SOUND.with_tensor(2, entry("blk.2.x.weight", (32,), 1152)), "has blk.2.x.weight, but")


def _lists(_: random.Random) -> Iterator[Crafted]:
    tokens, scores, types = (f"tokenizer.ggml.{name}" for name in ("tokens", "scores", "token_type"))
    for n in (0, 1, 7, 9, 5000):
        yield _one(f"{n} scores", SOUND.with_key(scores, array(scores, F32, [0.0] * n)), f"scores has {n:,} items")
        yield _one(f"{n} types", SOUND.with_key(types, array(types, I32, [1] * n)), f"token_type has {n:,} items")
        listed = array(tokens, STRING, [str(i) for i in range(n)])
        yield _one(f"{n} tokens", SOUND.with_key(tokens, listed), f"for {n:,} tokens")
    yield _one("scores of texts", SOUND.with_key(scores, array(scores, STRING, ["0"] * 8)), "expected a list")
    yield _one("scores of bytes", SOUND.with_key(scores, array(scores, U8, [0] * 8)), "expected a list")
    yield _one("types of floats", SOUND.with_key(types, array(types, F32, [1.0] * 8)), "expected a list")
    yield _one("one score", SOUND.with_key(scores, key(scores, F32, 0.0)), "expected a list")
    yield _one("tokens of numbers", SOUND.with_key(tokens, array(tokens, U32, list(range(8)))), "expected a list")
    yield _one("tokens as a text", SOUND.with_key(tokens, key(tokens, STRING, "a b c")), "expected a list")
    merges = "tokenizer.ggml.merges"
    yield _one("merges of numbers", SOUND.with_key(merges, array(merges, U32, [1, 2])), "expected a list")
    doubled = array(tokens, STRING, ["same"] * 8)
    yield _one("tokens alike", SOUND.with_key(tokens, doubled), "are both 'same'")


def _cuts(chance: random.Random) -> Iterator[Crafted]:
    whole, head = SOUND.whole(), SOUND.head()
    edges = [0, 3, 4, 7, 8, 15, 16, 23, 24, 25, 31, len(head) - 1, len(head), len(head) + 1]
    at = len(SOUND.start) + 16
    for part in (*SOUND.kv, *SOUND.tensors):
        edges.append(at + chance.randrange(len(part)))
        at += len(part)
    for n in sorted({*edges, *(chance.randrange(len(whole)) for _ in range(12)), len(whole) - 1}):
        yield _one(f"cut at {n}", whole[:n], "truncated|empty|starts with|announces")


def _twice(chance: random.Random) -> Iterator[Crafted]:
    for raw in chance.sample(SOUND.kv, 3):
        kv = (*SOUND.kv, raw)
        yield _one(f"key twice {raw[8:30]!r}", replace(SOUND, kv=kv), "metadata key '.*' appears twice")
    for i in chance.sample(range(4), 2):
        raw = entry(tuple(_SHAPES)[i], (32,), 1408)
        parts = replace(SOUND, tensors=(*SOUND.tensors, raw), data=bytes(1536))
        yield _one(f"tensor twice {i}", parts, "tensor '.*' appears twice")


def _shard(no: object, count: object, n_all: int, tensors: tuple[bytes, ...], kind: int = U32) -> Parts:
    kv = (*SOUND.kv, key("split.no", kind, no), key("split.count", kind, count), key("split.tensors.count", I32, n_all))
    return Parts(kv=kv, tensors=tensors, data=bytes(1024))


_FIRST = (entry("token_embd.weight", (N_EMBD, N_TOKENS), 0),)
_SECOND = (entry("output_norm.weight", (N_EMBD,), 0),)
_SHARDS: dict[str, tuple[object, str]] = {
    "cyclic": ("m-00001-of-00002.gguf", r"split.no, split.count are \(0, 2\), expected \(1, 2\)"),
    "itself": ("m-00002-of-00002.gguf", "missing shard"),
    "absolute": ("/dev/zero", "missing shard"),
    "escape": ("../../../etc/passwd", "missing shard|starts with"),
    "folder": ("/", "missing shard"),
    "missing": (None, "missing shard m-00002"),
    "empty": (b"", "empty"),
    "text": (b"Once upon a time", "starts with"),
    "cut": (_shard(1, 2, 2, _SECOND).whole()[:-1000], "truncated"),
    "third": (_shard(2, 2, 2, _SECOND).whole(), r"\(2, 2\), expected \(1, 2\)"),
    "of three": (_shard(1, 3, 2, _SECOND).whole(), r"\(1, 3\), expected \(1, 2\)"),
    "same tensor": (_shard(1, 2, 2, _FIRST).whole(), "is in another shard too"),
    "more tensors": (
        _shard(1, 2, 2, (*_SECOND, entry("x", (32,), 128))).whole(),
        "3 tensors in all shards, expected 2",
    ),
    "negative place": (_shard(-1, 2, 2, _SECOND, I32).whole(), r"\(-1, 2\), expected"),
}


def _shards() -> Iterator[Crafted]:
    for name, (second, said) in _SHARDS.items():

        def make(folder: Path, second: object = second) -> Path:
            other = folder / "m-00002-of-00002.gguf"
            if isinstance(second, bytes):
                other.write_bytes(second)
            elif isinstance(second, str):
                other.symlink_to(second)
            return _shard(0, 2, 2, _FIRST).write(folder / "m-00001-of-00002.gguf")

        yield Crafted(name=f"second shard {name}", make=make, said=said)
    for kind, count in ((STRING, "2"), (F32, 2.0), (I32, -1), (U32, 1 << 16), (U64, 1 << 63), (BOOL, True)):
        yield _one(f"split.count {count!r}", _shard(0, count, 2, _FIRST, kind) if kind != STRING else SOUND.with_key(
            "split.count", key("split.count", STRING, "2")), "split.(no|count) is")  # fmt: skip
    named = {
        "m-00001-of-00003.gguf": (_shard(0, 2, 2, _FIRST), "expected a name that ends in -00001-of-00002"),
        "m.gguf": (_shard(0, 2, 2, _FIRST), "expected a name that ends in"),
        "m-00001-of-65535.gguf": (_shard(0, 65535, 2, _FIRST), "missing shard"),
        "m-00002-of-00002.gguf": (_shard(1, 2, 2, _SECOND), "shard 2 of 2, expected the first"),
        "m-00001-of-00002.gguf": (_shard(1, 2, 2, _SECOND), "shard 2 of 2, expected the first"),
        "left over.gguf": (_shard(0, 2, 1, _FIRST), "left over"),
    }
    for name, (parts, said) in named.items():

        def write(folder: Path, name: str = name, parts: Parts = parts) -> Path:
            return parts.write(folder / name)

        yield Crafted(name=f"named {name}", make=write, said=said)


def _imatrices() -> Iterator[Crafted]:
    good, (sums, counts) = SOUND_IMATRIX, SOUND_IMATRIX.tensors
    name = "blk.0.ffn_up.weight"

    def of(what: str, parts: Parts | bytes, said: str) -> Crafted:
        return _one(f"imatrix {what}", parts, said, is_imatrix=True)

    yield of("without counts", replace(good, tensors=(sums,)), "sums or counts but not both")
    alone = entry(f"{name}.counts", (1, 1), 0)
    yield of("without sums", replace(good, tensors=(alone,)), "no importance matrix")
    yield of("without tensors", replace(good, tensors=()), "no importance matrix")
    yield of("of a model", SOUND, "no importance matrix")
    yield of(
        "without a name", replace(good, tensors=(entry(".in_sum2", (8, 1), 0), entry(".counts", (1, 1), 32))), "name"
    )
    for kind in (1, 30, 24, 26):
        n_values = 8 * {1: 2, 30: 2, 24: 4, 26: 1}[kind]
        raw = entry(f"{name}.in_sum2", (n_values, 1), 0, kind)
        yield of(f"sums of type {kind}", replace(good, tensors=(raw, counts)), "expected f32")
        n_values //= 8
        raw = entry(f"{name}.counts", (n_values, 1), 32, kind)
        yield of(f"counts of type {kind}", replace(good, tensors=(sums, raw)), "expected f32")
    for value in (float("nan"), float("inf"), float("-inf"), -1.0):
        data = struct.pack("<8f", value, *range(1, 8)) + struct.pack("<f", 4.0) + bytes(28)
        yield of(f"sum {value}", replace(good, data=data), "no sums of squares")
        data = struct.pack("<8f", *range(8)) + struct.pack("<f", value) + bytes(28)
        yield of(f"count {value}", replace(good, data=data), "no counts")
    data = struct.pack("<8f", *range(8)) + struct.pack("<f", 1e30) + bytes(28)
    yield of("count 1e30", replace(good, data=data), "was counted 1e\\+30 times")
    raw = entry(f"{name}.counts", (3, 1), 32)
    yield of("counts that do not fit", replace(good, tensors=(sums, raw)), "8 sums for 3 counts")
    for field in ("imatrix.chunk_count", "imatrix.chunk_size"):
        for kind, value in ((STRING, "4"), (I32, -4), (U32, (1 << 32) - 1), (F32, 4.0), (BOOL, True)):
            yield of(f"{field} {value!r}", good.with_key(field, key(field, kind, value)), f"{field} is")
    field = "imatrix.datasets"
    yield of("datasets of numbers", good.with_key(field, array(field, U32, [1])), "expected names")
    yield of("datasets as a text", good.with_key(field, key(field, STRING, "a")), "is no array")
    yield of("cut", good.whole()[:-40], "truncated")
    yield of("name twice", replace(good, tensors=(sums, sums)), "twice")
    raw = entry("../x.in_sum2", (8, 1), 0)
    yield of("path", replace(good, tensors=(raw, counts)), "characters that no name has")
    big = entry(f"{name}.in_sum2", (1 << 33, 1), 0), entry(f"{name}.counts", (1, 1), 1 << 35)
    yield of("sparse sums", replace(good, tensors=big, length=1 << 36), "is of no model")
