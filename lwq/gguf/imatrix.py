"""Importance matrices in GGUF, as llama-imatrix writes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lwq.errors import FileError, ModelError
from lwq.gguf.data import read_tensor
from lwq.gguf.header import GgufHeader, read_array, read_header
from lwq.gguf.statistics import ImatrixEntry

_SUM, _COUNT = ".in_sum2", ".counts"


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
        hint = "an imatrix in the old .dat format can be turned into GGUF: `llama-imatrix --in-file OLD -o NEW.gguf`"
        raise FileError(f"{error.message}", hint=hint) from None
    sums = {t.name.removesuffix(_SUM) for t in header.tensors if t.name.endswith(_SUM)}
    counts = {t.name.removesuffix(_COUNT) for t in header.tensors if t.name.endswith(_COUNT)}
    if not sums:
        raise FileError(f"{path}: a GGUF, but no importance matrix", hint="name the file that llama-imatrix wrote")
    if sums != counts:
        alone = sorted(sums ^ counts)[0]
        raise FileError(f"{path}: {alone} has sums or counts but not both", hint="collect the imatrix anew")
    entries = tuple(_entry(header, name) for name in sorted(sums))
    datasets = read_array(header, "imatrix.datasets") if "imatrix.datasets" in header.metadata else ()
    return Imatrix(
        entries=entries,
        datasets=tuple(str(name) for name in datasets),
        n_chunks=header.number("imatrix.chunk_count") or 0,
        chunk_size=header.number("imatrix.chunk_size") or 0,
    )


def _entry(header: GgufHeader, name: str) -> ImatrixEntry:
    counts = np.rint(read_tensor(header, name + _COUNT).reshape(-1)).astype(np.int64)
    in_sum2 = read_tensor(header, name + _SUM)
    if in_sum2.size % max(1, counts.size):
        raise FileError(
            f"{header.path}: {name} has {in_sum2.size} sums for {counts.size} counts", hint="collect it anew"
        )
    return ImatrixEntry(name=name, in_sum2=in_sum2.reshape(counts.size, -1), counts=counts)
