"""Gram matrices of what enters each multiplication, as they lie in files: H = Σ x xᵀ ÷ n.

A matrix is kept as its diagonal (float32) and the correlations below it (float16, packed row by row): 2 bytes for each
pair of channels. The error of a correlation, 0.0005 at most, is far below what shrinkage adds.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from lwq.errors import ModelError
from lwq.metrics.arrays import Floats

SHRINKAGE: Final = 0.25
"""Share of the correlations between channels that is not believed."""
RIDGE: Final = 0.01
"""Added to the diagonal, as a share of its mean."""
_AGAIN: Final = "`lwq cache verify --repair` removes what is damaged; the next run makes that alone again"
DEAD: Final = 1e-9
"""Channels below this share of the largest are dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gram:
    """Of one matrix (an expert's, say)."""

    diagonal: Floats
    """Mean squares, shape (channels,)."""
    correlations: Any
    """float16, the lower triangle without the diagonal, row by row."""
    n_tokens: int

    @property
    def shrinkage(self) -> float:
        """More than usual where there are few tokens for so many channels."""
        n = len(self.diagonal)
        return max(SHRINKAGE, n / (n + self.n_tokens))

    def conditioned(self) -> Floats:
        """The matrix to fit with: shrunk, with a ridge; rows and columns of dead channels are zero."""
        n, scale = len(self.diagonal), np.sqrt(self.diagonal)
        out = np.zeros((n, n), np.float32)
        start, share = 0, np.float32(1 - self.shrinkage)
        for i in range(n):
            out[i, :i] = self.correlations[start : start + i] * (scale[i] * share) * scale[:i]
            start += i
        out += out.T
        np.fill_diagonal(out, self.diagonal + np.float32(RIDGE) * self.diagonal.mean())
        dead = self.diagonal <= DEAD * self.diagonal.max(initial=0.0)
        out[dead], out[:, dead] = 0.0, 0.0
        return out


def packed(total: Floats, n_tokens: int) -> Gram:
    """From Σ x xᵀ, shape (channels, channels)."""
    diagonal = np.diagonal(total) / np.float32(max(1, n_tokens))
    scale = np.sqrt(np.maximum(np.diagonal(total), 0.0))
    inverse = np.where(scale > 0, 1 / np.where(scale > 0, scale, 1), 0).astype(np.float32)
    n, start = len(total), 0
    correlations = np.empty(n * (n - 1) // 2, np.float16)
    for i in range(n):
        correlations[start : start + i] = total[i, :i] * inverse[i] * inverse[:i]
        start += i
    return Gram(diagonal=diagonal, correlations=correlations, n_tokens=n_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Where the Gram matrices of a tensor lie: number of the file, name of the place in it."""

    tensor: str
    file: int
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """Error of a tensor's products with compensated values ÷ with stock values, by type."""

    tensor: str
    ratios: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What was collected at one place of the graph, by expert, with tokens that no Gram matrix holds."""

    grams: Mapping[int, Gram]
    held: Mapping[int, Floats]
    """float32 (tokens, channels)."""


def write_gathered(file: BinaryIO, places: Mapping[str, Gathered]) -> None:
    """Writes what was collected, by the name of the first tensor that reads it."""
    arrays: dict[str, Any] = {}
    for name, place in places.items():
        for expert, gram in place.grams.items():
            arrays[f"{name}/{expert}/diagonal"] = gram.diagonal
            arrays[f"{name}/{expert}/correlations"] = gram.correlations
            arrays[f"{name}/{expert}/tokens"] = np.array(gram.n_tokens)
        for expert, held in place.held.items():
            arrays[f"{name}/{expert}/held"] = held
    np.savez(file, **arrays)


class Grams:
    """What was collected of a model, read as it is asked for.

    Args:
        files: as ``write_gathered`` writes them.
    """

    def __init__(self, files: Iterable[Path], readers: Iterable[Reader]) -> None:
        self._files, self._readers = tuple(files), {r.tensor: r for r in readers}

    def __contains__(self, tensor: str) -> bool:
        return tensor in self._readers

    def place(self, tensor: str) -> str:
        """The name under which a tensor's matrices lie: the same for tensors that are multiplied by the same."""
        return self._readers[tensor].place

    def of(self, tensor: str) -> Gathered:
        """What enters the multiplication by a tensor.

        Raises:
            ModelError: nothing was collected for it, or the file is not what was written.
        """
        if tensor not in self._readers:
            raise ModelError(f"{tensor}: no Gram matrix was collected for it", hint="its values stay the stock ones")
        reader = self._readers[tensor]
        path = self._files[reader.file]
        try:
            return _read(path, reader.place)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
            raise ModelError(f"{path}: is not what was collected: {error}", hint=_AGAIN) from error


def _read(path: Path, place: str) -> Gathered:
    grams, held = {}, {}
    with np.load(path, allow_pickle=False) as file:
        for entry in file.zip.infolist():  # a name that changed in the directory is not the one beside the data
            file.zip.open(entry).close()
        for key in file.files:
            where, expert, what = key.rsplit("/", 2)
            if where == place and what == "diagonal":
                grams[int(expert)] = Gram(
                    diagonal=file[key],
                    correlations=file[f"{place}/{expert}/correlations"],
                    n_tokens=int(file[f"{place}/{expert}/tokens"]),
                )
            elif where == place and what == "held":
                held[int(expert)] = file[key]
    return Gathered(grams=grams, held=held)
