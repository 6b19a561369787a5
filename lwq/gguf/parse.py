"""The bytes of one GGUF file taken apart, strictly and without touching tensor data.

Big metadata arrays (a vocabulary of 150,000 tokens) are measured and skipped, not built. What
gguf.cpp refuses is refused here, before any tool starts: path, expected, found, way out.

Source: ggml/src/gguf.cpp, ``gguf_init_from_reader``, at the pinned commit.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

from lwq.errors import ModelError
from lwq.gguf.types import GGML_TYPES, GGUF_ALIGNMENT, TensorInfo, padded, type_name

AGAIN: Final = "fetch the file again and compare its size and sha256 with the publisher's"
MAX_DIMS: Final = 4
MAX_NAME: Final = 63  # bytes of a tensor name (GGML_MAX_NAME without its NUL)
SMALL_ARRAY: Final = 2048  # longer arrays stay in the file

# number in the file -> (name, struct format)
SCALARS: Final[dict[int, tuple[str, str]]] = {
    0: ("uint8", "B"), 1: ("int8", "b"), 2: ("uint16", "H"), 3: ("int16", "h"), 4: ("uint32", "I"),
    5: ("int32", "i"), 6: ("float32", "f"), 7: ("bool", "?"), 10: ("uint64", "Q"), 11: ("int64", "q"),
    12: ("float64", "d"),
}  # fmt: skip
STRING: Final = 8
ARRAY: Final = 9
TYPE_NAMES: Final = {**{number: name for number, (name, _) in SCALARS.items()}, STRING: "string"}

Scalar: TypeAlias = bool | int | float | str
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class BigArray:
    """A long metadata array left in the file; ``gguf.header.read_array`` builds it."""

    item_type: str
    n_items: int
    offset: int
    """Of the first item, from the start of the file."""
    n_bytes: int


MetaValue: TypeAlias = Scalar | tuple[Scalar, ...] | BigArray


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaEntry:
    """One key of the metadata and the bytes it takes in the file, key and type included."""

    key: str
    value_type: str
    """``uint32``, ``string``, …; of an array ``array[string]``."""
    value: MetaValue
    offset: int
    """From the start of the file."""
    n_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One file of a model (the only one, unless the model is split)."""

    path: Path
    file_bytes: int
    data_offset: int
    """Where the tensor data starts, from the start of the file."""
    tensors: tuple[TensorInfo, ...]


class GgufReader:
    """A place in the bytes of one file; every read is checked against the file's end."""

    def __init__(self, path: Path, data: bytes | memoryview, at: int = 0) -> None:
        self.path = path
        self.data = data
        self.size = len(data)
        self.at = at

    def broken(self, what: str, hint: str = AGAIN) -> ModelError:
        return ModelError(f"{self.path}: {what}", hint=hint)

    def skip(self, n_bytes: int, what: str) -> int:
        """Where those bytes start; the reader stands behind them."""
        start, end = self.at, self.at + n_bytes
        if end > self.size:
            raise self.broken(f"truncated in {what}: needs {end} bytes, has {self.size}")
        self.at = end
        return start

    def number(self, code: str, what: str) -> int:
        start = self.skip(struct.calcsize(code), what)
        value: int = struct.unpack_from("<" + code, self.data, start)[0]
        return value

    def string(self, what: str) -> str:
        """The next string; bytes that are not UTF-8 are written as escapes (llama.cpp takes any)."""
        n_bytes = self.number("Q", what)
        start = self.skip(n_bytes, what)
        return bytes(self.data[start : start + n_bytes]).decode("utf-8", "backslashreplace")

    def skip_strings(self, n_items: int, what: str) -> None:
        """Stands behind ``n_items`` strings without building them."""
        length_of, data, at, last = struct.Struct("<Q").unpack_from, self.data, self.at, self.size - 8
        for _ in range(n_items):
            if at > last:
                break
            at += 8 + length_of(data, at)[0]
        else:
            self.at = at
        if at > self.size or self.at != at:
            raise self.broken(f"truncated in {what}: {n_items} strings do not fit in {self.size} bytes")

    def items(self, kind: int, n_items: int, what: str) -> tuple[Scalar, ...]:
        """The next ``n_items`` values of that type."""
        if kind == STRING:
            return tuple(self.string(what) for _ in range(n_items))
        code = f"{n_items}{SCALARS[kind][1]}"
        start = self.skip(struct.calcsize("<" + code), what)
        return struct.unpack_from("<" + code, self.data, start)

    def entry(self) -> MetaEntry:
        start = self.at
        key = self.string("the metadata's keys")
        kind, n_items, what = self.number("i", f"metadata {key!r}"), 1, f"metadata {key!r}"
        is_array = kind == ARRAY
        if is_array:
            kind, n_items = self.number("i", what), self.number("Q", what)
        if not key or kind not in TYPE_NAMES:
            raise self.broken(f"{what} has value type {kind}, expected one of {', '.join(TYPE_NAMES.values())}")
        name = TYPE_NAMES[kind]
        value: MetaValue
        if n_items > SMALL_ARRAY:
            first = self.at
            if kind == STRING:
                self.skip_strings(n_items, what)
            else:
                self.skip(n_items * struct.calcsize(SCALARS[kind][1]), what)
            value = BigArray(item_type=name, n_items=n_items, offset=first, n_bytes=self.at - first)
        else:
            read = self.items(kind, n_items, what)
            value = read if is_array else read[0]
        value_type = f"array[{name}]" if is_array else name
        return MetaEntry(key=key, value_type=value_type, value=value, offset=start, n_bytes=self.at - start)

    def tensor(self) -> TensorInfo:
        """The next tensor's name, shape, type and offset; sizes are checked later, in order."""
        name = self.string("the tensors' names")
        what = f"tensor {name!r}"
        if not name or len(name.encode()) > MAX_NAME:
            raise self.broken(f"{what}: a name of 1 to {MAX_NAME} bytes was expected")
        n_dims = self.number("I", what)
        if not 0 < n_dims <= MAX_DIMS:
            raise self.broken(f"{what} has {n_dims} dimensions, expected 1 to {MAX_DIMS}")
        ne = tuple(self.number("q", what) for _ in range(n_dims))
        number = self.number("i", what)
        ggml_type = type_name(number)
        if ggml_type is None:
            raise self.broken(
                f"{what} has ggml type {number}, which the pinned llama.cpp does not know",
                f"known are {', '.join(GGML_TYPES)}; take a file of one of these types",
            )
        n_weights = GGML_TYPES[ggml_type][1]
        if min(ne) < 0 or ne[0] % n_weights:
            raise self.broken(f"{what} of shape {ne} cannot be {ggml_type} (quant blocks of {n_weights})")
        return TensorInfo(name=name, ne=ne, ggml_type=ggml_type, offset=self.number("Q", what))


def parse_file(path: Path, data: bytes | memoryview) -> tuple[int, int, tuple[MetaEntry, ...], Shard]:
    """Version, alignment, metadata and tensors of one GGUF file.

    Raises:
        ModelError: anything that gguf.cpp would refuse.
    """
    reader = GgufReader(path, data)
    version = _checked_start(reader)
    n_tensors, n_kv = reader.number("q", "the header"), reader.number("q", "the header")
    for count, of_what, least in ((n_tensors, "tensors", 24), (n_kv, "metadata keys", 13)):
        if not 0 <= count <= reader.size // least:
            raise reader.broken(f"announces {count} {of_what}, impossible in {reader.size} bytes")
    entries = _unique(reader, reader.entry, lambda entry: entry.key, n_kv, "metadata key")
    alignment = _checked_alignment(reader, entries)
    tensors = _unique(reader, reader.tensor, lambda tensor: tensor.name, n_tensors, "tensor")
    data_offset = padded(reader.at, alignment) if tensors else reader.at
    _check_offsets(reader, tensors, data_offset, alignment)
    shard = Shard(path=path, file_bytes=reader.size, data_offset=data_offset, tensors=tensors)
    return version, alignment, entries, shard


def _checked_start(reader: GgufReader) -> int:
    """The file's version, when it is a GGUF that the pinned llama.cpp can read."""
    magic = bytes(reader.data[:4])
    if magic != b"GGUF":
        raise reader.broken(f"starts with {magic!r}, expected b'GGUF'", _hint_for(bytes(reader.data[:64])))
    reader.at = 4
    version = reader.number("I", "the header")
    if version and version & 0xFFFF == 0:
        raise reader.broken(
            f"is big-endian (version bytes {version:#010x}), expected little-endian",
            "convert it: python -m gguf.scripts.gguf_convert_endian FILE little",
        )
    if version not in (2, 3):
        raise reader.broken(
            f"is GGUF version {version}, expected 2 or 3",
            "take a newer file of the model, or convert it anew from its Hugging Face folder",
        )
    return version


def _hint_for(start: bytes) -> str:
    if start.startswith(b"version https://git-lfs"):
        return "this is a Git LFS pointer: run `git lfs pull`, or download the file itself"
    if start[:4] in (b"lmgg", b"tjgg", b"fmgg", b"algg"):
        return "this is a GGML file from before GGUF: take a GGUF of the model, or convert it anew"
    if start.lstrip()[:1] in (b"<", b"{"):
        return "this looks like a web page or an error message: download the file itself"
    if start[8:9] == b"{" or start.startswith((b"PK", b"\x80")):
        return "this looks like safetensors or PyTorch: give its Hugging Face folder instead"
    return "give a model in GGUF format"


def _unique(
    reader: GgufReader, read: Callable[[], T], name_of: Callable[[T], str], count: int, what: str
) -> tuple[T, ...]:
    by_name: dict[str, T] = {}
    for _ in range(count):
        item = read()
        if name_of(item) in by_name:
            raise reader.broken(f"{what} {name_of(item)!r} appears twice, expected once")
        by_name[name_of(item)] = item
    return tuple(by_name.values())


def _checked_alignment(reader: GgufReader, entries: tuple[MetaEntry, ...]) -> int:
    for entry in entries:
        if entry.key == "general.alignment":
            value = entry.value
            if entry.value_type == "uint32" and isinstance(value, int) and value.bit_count() == 1:
                return value
            raise reader.broken(f"general.alignment is {value!r}, expected a power of two (uint32)")
    return GGUF_ALIGNMENT


def _check_offsets(reader: GgufReader, tensors: tuple[TensorInfo, ...], data_offset: int, alignment: int) -> None:
    """Data follow each other in the order of the header, each padded, all inside the file."""
    expected = 0
    for tensor in tensors:
        if tensor.offset != expected:
            off = " (not aligned)" if tensor.offset % alignment else ""
            raise reader.broken(f"tensor {tensor.name!r} has offset {tensor.offset}{off}, expected {expected}")
        end = data_offset + expected + tensor.n_bytes
        if end > reader.size:
            raise reader.broken(
                f"truncated in the data of tensor {tensor.name!r}: needs {end} bytes, has {reader.size}"
            )
        expected += padded(tensor.n_bytes, alignment)
