"""The bytes of one GGUF file taken apart, strictly and without touching tensor data.

What gguf.cpp refuses, and what it would take unseen, is refused here, before any tool starts: path, expected, found,
way out.

Source: ggml/src/gguf.cpp, ``gguf_init_from_reader``, at the pinned commit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from lwq.gguf.reader import GgufReader, MetaEntry, shown
from lwq.gguf.types import GGUF_ALIGNMENT, TensorInfo, padded

# No model comes near these; what announces more is refused before anything of that size is made.
MAX_KEYS: Final = 1 << 16
MAX_TENSORS: Final = 1 << 18
MAX_ALIGNMENT: Final = 1 << 16
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One file of a model (the only one, unless the model is split)."""

    path: Path
    file_bytes: int
    data_offset: int
    """Where the tensor data starts, from the start of the file."""
    tensors: tuple[TensorInfo, ...]


def parse_file(path: Path, data: bytes | memoryview) -> tuple[int, int, tuple[MetaEntry, ...], Shard]:
    """Version, alignment, metadata and tensors of one GGUF file.

    Raises:
        ModelError: anything that gguf.cpp would refuse.
    """
    reader = GgufReader(path, data)
    version = _checked_start(reader)
    n_tensors, n_kv = reader.number("q", "the header"), reader.number("q", "the header")
    limits = ((n_tensors, "tensors", 24, MAX_TENSORS), (n_kv, "metadata keys", 13, MAX_KEYS))
    for count, of_what, least, most in limits:
        if count > most:
            raise reader.broken(f"announces {count} {of_what}, {most} are the most that are read")
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
            raise reader.broken(f"{what} {shown(name_of(item))} appears twice, expected once")
        by_name[name_of(item)] = item
    return tuple(by_name.values())


def _checked_alignment(reader: GgufReader, entries: tuple[MetaEntry, ...]) -> int:
    for entry in entries:
        if entry.key == "general.alignment":
            value = entry.value
            if (
                entry.value_type == "uint32"
                and isinstance(value, int)
                and value.bit_count() == 1 <= value <= MAX_ALIGNMENT
            ):
                return value
            raise reader.broken(
                f"general.alignment is {shown(value)} ({entry.value_type}), expected a power of two up to"
                f" {MAX_ALIGNMENT} (uint32)"
            )
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
