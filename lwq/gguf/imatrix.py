"""Importance matrices in GGUF, as llama-imatrix writes them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lwq.errors import FileError, ModelError
from lwq.gguf.data import read_tensor
from lwq.gguf.header import GgufHeader, read_array, read_header
from lwq.gguf.reader import shown
from lwq.gguf.statistics import ImatrixEntry
from lwq.gguf.types import split_name

Counts: TypeAlias = NDArray[np.int64]
_SUM, _COUNT = ".in_sum2", ".counts"
_MOST_BYTES = 1 << 33
_ANEW = "collect the imatrix anew"
_OLD = "an imatrix in the old .dat format can be turned into GGUF: `llama-imatrix --in-file OLD -o NEW.gguf`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Imatrix:
    """An importance matrix and where it comes from."""

    entries: tuple[ImatrixEntry, ...]
    datasets: tuple[str, ...]
    n_chunks: int
    chunk_size: int


def read_imatrix(path: Path) -> Imatrix:
    """The importance matrix in a GGUF file.

    Raises:
        FileError: not a GGUF, a GGUF of a model, or sums without counts.
    """
    try:
        header = read_header(path)
    except ModelError as error:
        raise FileError(error.message, hint=_OLD if _is_other(path) else error.hint) from None
    sums = {t.name.removesuffix(_SUM) for t in header.tensors if t.name.endswith(_SUM)}
    counts = {t.name.removesuffix(_COUNT) for t in header.tensors if t.name.endswith(_COUNT)}
    if not sums:
        raise FileError(f"{path}: a GGUF, but no importance matrix", hint="name the file that llama-imatrix wrote")
    if sums != counts:
        alone = sorted(sums ^ counts)[0]
        raise FileError(f"{path}: {alone} has sums or counts but not both", hint=_ANEW)
    if header.file_bytes > _MOST_BYTES:
        raise FileError(f"{path}: an importance matrix of {header.file_bytes:,} bytes is of no model", hint=_ANEW)
    n_chunks, chunk_size = (_number(header, key) for key in ("imatrix.chunk_count", "imatrix.chunk_size"))
    return Imatrix(
        entries=tuple(_entry(header, name) for name in sorted(sums)),
        datasets=_datasets(header),
        n_chunks=n_chunks,
        chunk_size=chunk_size,
    )


def _number(header: GgufHeader, key: str) -> int:
    value = header.metadata.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 31:
        raise FileError(f"{header.path}: {key} is {shown(value)}, expected a whole number", hint=_ANEW)
    return value


def _datasets(header: GgufHeader) -> tuple[str, ...]:
    listed = read_array(header, "imatrix.datasets") if "imatrix.datasets" in header.metadata else ()
    if not all(isinstance(name, str) for name in listed):
        raise FileError(f"{header.path}: imatrix.datasets is {shown(listed)}, expected names", hint=_ANEW)
    return tuple(str(name) for name in listed)


def unreached_experts(entries: Iterable[ImatrixEntry]) -> str:
    """Which experts no token reached, of how many, in a sentence; empty where each was reached."""
    tokens = tokens_of_experts(entries)
    bare = {layer: np.flatnonzero(seen == 0) for layer, seen in tokens.items()}
    n, all_ = sum(b.size for b in bare.values()), sum(seen.size for seen in tokens.values())
    if not n:
        return ""
    listed = [_unreached_of(layer, b, tokens[layer].size) for layer, b in sorted(bare.items()) if b.size]
    more = f"; and others in {len(listed) - 4} layers" if listed[4:] else ""
    return f"Calibration never reached {n:,} of {all_:,} experts ({n / all_:.1%}): {'; '.join(listed[:4])}{more}."


def _unreached_of(layer: int, bare: Counts, n_experts: int) -> str:
    """``layer 3: experts 5, 17 (2 of 64)``."""
    named = f"{', '.join(map(str, bare[:6]))}{', …' if bare.size > 6 else ''}"
    return f"layer {layer}: expert{'s' if bare.size > 1 else ''} {named} ({bare.size} of {n_experts})"


def tokens_of_experts(entries: Iterable[ImatrixEntry]) -> dict[int, Counts]:
    """Layer → tokens that each of its experts saw; the least, where its tensors differ."""
    seen: dict[int, Counts] = {}
    for entry in (e for e in entries if e.counts.size > 1):
        layer = split_name(entry.name)[0]
        if layer is not None and (before := seen.get(layer, entry.counts)).size == entry.counts.size:
            seen[layer] = np.minimum(before, entry.counts)
    return seen


def _is_other(path: Path) -> bool:
    """Whether it is a file, but no GGUF."""
    with suppress(OSError), path.open("rb") as file:
        return file.read(4) not in (b"GGUF", b"")
    return False


def _floats(header: GgufHeader, name: str) -> NDArray[np.float32]:
    """A tensor of sums or counts, which only F32 can be and no number below zero.

    Source: tools/imatrix/imatrix.cpp, ``save_imatrix``.
    """
    if (kind := header.find(name)[1].ggml_type) != "f32":
        raise FileError(f"{header.path}: {name} is {kind}, expected f32", hint=_ANEW)
    values = read_tensor(header, name)
    if not ((values >= 0) & (values < np.inf)).all():
        raise FileError(f"{header.path}: {name} has values that are no sums of squares, or no counts", hint=_ANEW)
    return values


def _entry(header: GgufHeader, name: str) -> ImatrixEntry:
    if not name:
        raise FileError(f"{header.path}: has sums of a tensor without a name", hint=_ANEW)
    counted, in_sum2 = _floats(header, name + _COUNT).reshape(-1), _floats(header, name + _SUM)
    if in_sum2.size % counted.size:
        raise FileError(f"{header.path}: {name} has {in_sum2.size} sums for {counted.size} counts", hint=_ANEW)
    if counted.max() >= 1 << 62:
        raise FileError(f"{header.path}: {name} was counted {counted.max():g} times", hint=_ANEW)
    counts = np.rint(counted).astype(np.int64)
    return ImatrixEntry(name=name, in_sum2=in_sum2.reshape(counts.size, -1), counts=counts)
