"""What a GGUF model says of itself: metadata and tensors of one file, or of all shards of a split model."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from lwq.errors import FileError, ModelError
from lwq.gguf.parse import Shard, parse_file
from lwq.gguf.reader import AGAIN, TYPE_NAMES, BigArray, GgufReader, MetaEntry, MetaValue, Scalar, shown
from lwq.gguf.types import TensorInfo, padded


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufHeader:
    """A model's header; of a split model, the first shard's metadata and the tensors of all."""

    path: Path
    version: int
    alignment: int
    entries: tuple[MetaEntry, ...]
    shards: tuple[Shard, ...]

    @property
    def tensors(self) -> tuple[TensorInfo, ...]:
        return tuple(t for shard in self.shards for t in shard.tensors)

    @property
    def metadata(self) -> Mapping[str, MetaValue]:
        return {entry.key: entry.value for entry in self.entries}

    @property
    def kv_bytes(self) -> Mapping[str, int]:
        return {entry.key: entry.n_bytes for entry in self.entries}

    @property
    def n_kv(self) -> int:
        return len(self.entries)

    @property
    def file_bytes(self) -> int:
        return sum(shard.file_bytes for shard in self.shards)

    @property
    def data_offset(self) -> int:
        return self.shards[0].data_offset

    @property
    def architecture(self) -> str:
        return self.text("general.architecture")

    @property
    def n_layer_all(self) -> int:
        """``<architecture>.block_count``, or 0 where the file has none (an imatrix)."""
        return self.number(f"{self.architecture}.block_count") or 0

    @property
    def n_layer_nextn(self) -> int:
        """The last blocks, which predict further tokens: llama.cpp's graph of the next token does not read them."""
        return max(0, min(self.number(f"{self.architecture}.nextn_predict_layers") or 0, self.n_layer_all))

    @property
    def n_layer(self) -> int:
        """Layers that predict the next token: all but those that predict further ones, as llama.cpp counts."""
        return self.n_layer_all - self.n_layer_nextn

    @property
    def tensors_nextn(self) -> tuple[TensorInfo, ...]:
        """The tensors of the blocks that predict further tokens."""
        return tuple(t for t in self.tensors if t.layer is not None and t.layer >= self.n_layer > 0)

    @property
    def n_params(self) -> int:
        return sum(t.n_elements for t in self.tensors)

    @property
    def n_vocab(self) -> int:
        """Tokens of the vocabulary, or 0 where the file has none."""
        tokens = self.metadata.get("tokenizer.ggml.tokens")
        return tokens.n_items if isinstance(tokens, BigArray) else len(tokens) if isinstance(tokens, tuple) else 0

    def text(self, key: str, default: str = "") -> str:
        """The string under ``key``, or ``default`` where there is none."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else default

    def number(self, key: str) -> int | None:
        """The whole number under ``key``, or None."""
        value = self.metadata.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def find(self, name: str) -> tuple[Shard, TensorInfo]:
        """The tensor of that name and the file that holds it.

        Raises:
            ModelError: no such tensor.
        """
        for shard in self.shards:
            for tensor in shard.tensors:
                if tensor.name == name:
                    return shard, tensor
        raise ModelError(
            f"{self.path}: no tensor {name!r} among {len(self.tensors)}",
            hint=f"`lwq inspect {self.path.name}` lists the tensors",
        )


def read_header(path: Path) -> GgufHeader:
    """The header of a GGUF file, checked; of a first shard, the header of the whole split model.

    Raises:
        ModelError: not a GGUF, of an unreadable version, damaged, truncated, or a shard is missing.
    """
    first = read_one(path)
    n_shards = _n_shards(first)
    return first if n_shards < 2 else _with_all_shards(first, n_shards)


def read_one(path: Path) -> GgufHeader:
    """The header of this one file, whatever it says of other shards."""
    _check_is_file(path)
    with _bytes_of(path) as data:
        version, alignment, entries, shard = parse_file(path, data)
    return GgufHeader(path=path, version=version, alignment=alignment, entries=entries, shards=(shard,))


def read_array(header: GgufHeader, key: str) -> tuple[Scalar, ...]:
    """All items of an array of the metadata, big or small.

    Raises:
        ModelError: no such key, or no array.
    """
    value = header.metadata.get(key)
    if isinstance(value, tuple):
        return value
    if not isinstance(value, BigArray):
        raise ModelError(f"{header.path}: {key} is no array of the metadata", hint="look with `lwq inspect`")
    kind = next(number for number, name in TYPE_NAMES.items() if name == value.item_type)
    with _bytes_of(header.path) as data:
        return GgufReader(header.path, data, value.offset, value.n_bytes).items(kind, value.n_items, key)


def _n_shards(header: GgufHeader) -> int:
    """How many files the model is said to be split into."""
    for key in ("split.no", "split.count"):
        value = header.metadata.get(key, 0)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST_SHARDS:
            raise ModelError(
                f"{header.path}: {key} is {shown(value)}, expected a whole number up to {_MOST_SHARDS}", hint=AGAIN
            )
    return header.number("split.count") or 1


def _check_is_file(path: Path) -> None:
    try:
        path.stat()
    except FileNotFoundError:
        hint = "check the spelling and the folder"
        raise ModelError(f"{path}: no such file, expected a GGUF", hint=hint) from None
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else str(error)
        raise ModelError(f"{path}: cannot be looked at: {what}", hint="check the path") from None
    if path.is_dir():
        raise ModelError(f"{path}: a folder, expected a GGUF file", hint="name the .gguf file in it")
    if not path.is_file():
        raise ModelError(f"{path}: not a regular file, expected a GGUF", hint="give a file on a disk")
    if path.stat().st_size == 0:
        raise ModelError(f"{path}: empty (0 bytes), expected a GGUF file", hint=AGAIN)


@contextmanager
def _bytes_of(path: Path) -> Iterator[memoryview]:
    try:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
            memoryview(data) as view,
        ):
            yield view
    except OSError as err:
        raise FileError(f"{path}: cannot be read: {err.strerror}", hint="check its permissions") from err


_MOST_SHARDS: Final = (1 << 16) - 1
"""llama.cpp counts them in 16 bits."""
_SHARD_NAME = re.compile(r"^(.*)-(\d{5})-of-(\d{5})\.gguf$")
EXTENSION = ".gguf"


def is_named_gguf(name: str) -> bool:
    """Whether a file's name ends as that of a GGUF, in small or capital letters."""
    return name.lower().endswith(EXTENSION)


def without_extension(name: str) -> str:
    """``MODEL.GGUF`` → ``MODEL``."""
    return name[: -len(EXTENSION)] if is_named_gguf(name) else name


def whole_name(name: str) -> str:
    """``MODEL-00001-of-00002.gguf`` and ``MODEL.gguf`` → ``MODEL``."""
    match = _SHARD_NAME.match(name)
    return match[1] if match else without_extension(name)


def shard_paths(path: Path) -> tuple[Path, ...]:
    """All files of the split model that ``path`` names a shard of, or just ``path``."""
    match = _SHARD_NAME.match(path.name)
    if match is None:
        return (path,)
    stem, n, folder = match[1], int(match[3]), path.parent
    return tuple(folder / f"{stem}-{i:05}-of-{n:05}.gguf" for i in range(1, n + 1))


def _with_all_shards(first: GgufHeader, n_shards: int) -> GgufHeader:
    path = first.path
    if first.number("split.tensors.count") == len(first.tensors):  # keys left over in a file that was merged
        return first
    if at := _second_file(first):
        raise ModelError(
            f"{path}: a second GGUF follows at byte {at:,}: its shards were joined by `cat`",
            hint="take the shards themselves, or merge them with `llama-gguf-split --merge FIRST-SHARD OUT.gguf`",
        )
    match = _SHARD_NAME.match(path.name)
    if match is None or int(match[3]) != n_shards:
        raise ModelError(
            f"{path}: has split.count = {n_shards}, expected a name that ends in -00001-of-{n_shards:05}.gguf",
            hint="give all shards the names they were published under",
        )
    if first.number("split.no") != 0 or int(match[2]) != 1:
        raise ModelError(
            f"{path}: shard {(first.number('split.no') or 0) + 1} of {n_shards}, expected the first",
            hint=f"give {match[1]}-00001-of-{n_shards:05}.gguf",
        )
    names = (f"{match[1]}-{i:05}-of-{n_shards:05}.gguf" for i in range(1, n_shards + 1))
    if missing := list(islice((name for name in names if not (path.parent / name).is_file()), 4)):
        more = ", …" if missing[3:] else ""
        raise ModelError(
            f"{path}: missing shard {', '.join(missing[:3])}{more}", hint=f"fetch what is missing into {path.parent}"
        )
    paths = shard_paths(path)
    headers = (first, *(read_one(p) for p in paths[1:]))
    for i, header in enumerate(headers):
        place = (header.number("split.no"), header.number("split.count"))
        if place != (i, n_shards):
            raise ModelError(f"{header.path}: split.no, split.count are {place}, expected {(i, n_shards)}", hint=AGAIN)
    return _merged(headers)


def _second_file(header: GgufHeader) -> int:
    """Where another GGUF begins behind the data of a file's tensors, or 0."""
    end = header.data_offset + sum(padded(t.n_bytes, header.alignment) for t in header.tensors)
    with _bytes_of(header.path) as data:
        return next((at for at in (end, end - _last_padding(header)) if bytes(data[at : at + 4]) == b"GGUF"), 0)


def _last_padding(header: GgufHeader) -> int:
    """Bytes behind the last tensor that a file may lack."""
    last = header.tensors[-1].n_bytes if header.tensors else 0
    return padded(last, header.alignment) - last


def _merged(headers: tuple[GgufHeader, ...]) -> GgufHeader:
    first = headers[0]
    shards = tuple(header.shards[0] for header in headers)
    seen: set[str] = set()
    for shard in shards:
        for tensor in shard.tensors:
            if tensor.name in seen:
                raise ModelError(f"{shard.path}: tensor {tensor.name!r} is in another shard too", hint=AGAIN)
            seen.add(tensor.name)
    announced = first.number("split.tensors.count")
    if announced is not None and announced != len(seen):
        raise ModelError(f"{first.path}: {len(seen)} tensors in all shards, expected {announced}", hint=AGAIN)
    return GgufHeader(
        path=first.path,
        version=first.version,
        alignment=first.alignment,
        entries=first.entries,
        shards=shards,
    )
