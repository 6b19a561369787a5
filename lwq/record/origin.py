"""Where a file comes from, and whether it is whole: what it says itself, beside what a record says of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lwq.gguf.header import GgufHeader, read_header
from lwq.gguf.scan import not_finite
from lwq.gguf.types import padded
from lwq.record.record import FileHash, Record, Row
from lwq.store.files import sha256_file

_OWN: Final = "lwq."
_SAID: Final = (
    "general.name",
    "general.quantized_by",
    "general.license",
    "quantize.imatrix.file",
    "quantize.imatrix.dataset",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """What is known of one GGUF (of a split model: of all its files)."""

    files: tuple[FileHash, ...]
    n_bytes: int
    n_tensors: int
    architecture: str
    said: tuple[tuple[str, str], ...]
    """(key, value) of the file's own metadata that tell its origin."""
    row: str
    """Name of the record's row that it is; empty without a record, or where that has no such file."""
    faults: tuple[str, ...]
    """What is not whole, or not as the record says."""

    @property
    def is_lwqs(self) -> bool:
        """Whether the file says that lwq made it."""
        return any(key.startswith(_OWN) for key, _ in self.said)


def whereabouts(path: Path, record: Record | None) -> Whereabouts:
    """What a file is, all of it read; of a split model's first shard, what all of them are.

    Args:
        record: the one that came with it, where one did.

    Raises:
        ModelError: not a GGUF, damaged, or cut short.
    """
    header = read_header(path)
    files = tuple(FileHash(file=shard.path.name, sha256=sha256_file(shard.path)) for shard in header.shards)
    known = _known(record, files) if record else None
    faults = [*_unsound(header)]
    if record:
        faults += _unlike(header, files, record, known)
    return Whereabouts(
        files=files,
        n_bytes=header.file_bytes,
        n_tensors=len(header.tensors),
        architecture=header.architecture,
        said=tuple(_said(header)),
        row=known.name if known else "",
        faults=tuple(faults),
    )


def _said(header: GgufHeader) -> Iterator[tuple[str, str]]:
    for key, value in header.metadata.items():
        if key.startswith(_OWN) or key in _SAID:
            yield key, str(value)


def _known(record: Record, files: tuple[FileHash, ...]) -> Row | None:
    """The record's row of that content; where none has it, the row of that name."""
    first = files[0]
    by_content = (row for row in record.rows if first in row.shards or first.sha256 == row.sha256)
    by_name = (row for row in record.rows if row.file == first.file)
    return next(by_content, None) or next(by_name, None)


def _unsound(header: GgufHeader) -> Iterator[str]:
    """What is wrong with the file whatever a record says; the header's reader has refused what is too short."""
    for shard in header.shards:
        ends = (shard.data_offset + t.offset + padded(t.n_bytes, header.alignment) for t in shard.tensors)
        end = max(ends, default=shard.data_offset)
        if shard.file_bytes > end:
            yield f"{shard.path.name} has {shard.file_bytes - end:,} bytes behind its last tensor"
    if what := not_finite(header):
        yield what


def _unlike(header: GgufHeader, files: tuple[FileHash, ...], record: Record, row: Row | None) -> Iterator[str]:
    """How the file differs from what a record says of it."""
    tower = record.projector
    if row is None and tower and tower.file == files[0].file:
        if files[0].sha256 != tower.sha256:
            yield f"has sha256 {files[0].sha256}, the record says {tower.sha256}"
        return
    if row is None:
        yield f"the record {record.name!r} has no such file: neither its name nor its content"
        return
    want = row.shards or (FileHash(file=row.file, sha256=row.sha256),)
    if [f.sha256 for f in files] == [f.sha256 for f in want]:
        return
    if header.file_bytes != row.file_bytes:
        yield f"has {header.file_bytes:,} bytes, the record says {row.file_bytes:,}"
    for have, said in zip(files, want, strict=False):
        if have.sha256 != said.sha256:
            yield f"{have.file} has sha256 {have.sha256}, the record says {said.sha256}"
    types = {tensor.name: tensor.ggml_type for tensor in header.tensors}
    others = [name for name, ggml_type in row.tensor_types if types.get(name) != ggml_type]
    if others:
        yield f"{len(others)} of {len(row.tensor_types)} tensors have other types or are missing, first {others[0]}"
    else:
        yield "its tensors have the types that the record says: metadata or values differ"
