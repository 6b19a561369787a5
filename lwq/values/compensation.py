"""Stored rows whose codes, scales and mins make up for each other's errors, as far as a Gram matrix knows them.

First block by block in storage order: what earlier columns of a row got wrong is carried into the columns that follow,
through C (upper, H = C Cᵀ), and ggml's own quantizer chooses a quant block's scales on what is to be met there; types
whose codes ``layouts`` knows are then moved by ``descent`` toward the least loss with all later columns free. Then
passes over all blocks with the whole H. Sources: GPTQ (arXiv 2210.17323), LDLQ (arXiv 2307.13304).
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np

from lwq.engine.ggml import Ggml
from lwq.gguf.types import GGML_TYPES
from lwq.metrics.arrays import Bytes, Floats
from lwq.values.blas import one_blas_thread
from lwq.values.codes import GRIDS, Coded, values
from lwq.values.layouts import decoded, encoded

N_PASSES: Final = 2
_COLUMNS: Final = 256
_ROWS: Final = 128
"""Rows that are worked on together: fixed, so that bytes do not depend on the number of threads."""
_STEPS: Final = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1), (2, 0), (-2, 0))
"""By how much a scale and a min may move at once."""


class Compensation:
    """Quantizes rows that are multiplied by what one Gram matrix describes.

    Args:
        gram: float32 (channels, channels), as ``Gram.conditioned`` gives it.
        importance: mean squares by channel, for the scales that ggml chooses.

    Raises:
        ValueError: a matrix that is not positive.
    """

    def __init__(self, ggml: Ggml, gram: Floats, importance: Floats, n_threads: int) -> None:
        self.ggml, self.importance, self.n_threads = ggml, importance, n_threads
        n = len(gram)
        self._slices = [slice(i, min(i + _COLUMNS, n)) for i in range(0, n, _COLUMNS)]
        with one_blas_thread():
            factor = _factor(gram)
            self._whole = [np.ascontiguousarray(gram[:, s]) for s in self._slices]
            self._own = [np.ascontiguousarray(gram[s, s]) for s in self._slices]
            self._past = [np.ascontiguousarray(factor[: s.start, s]) for s in self._slices]
            self._next = [np.ascontiguousarray(factor[s, s]) for s in self._slices]
            self._given = [np.ascontiguousarray(c @ c.T) for c in self._next]

    def quantized(self, rows: Floats, ggml_type: str) -> Bytes:
        """Rows as stored: uint8 of shape (rows, bytes of a row).

        Args:
            rows: float32 (rows, channels), all finite.
        """
        pieces = [slice(i, i + _ROWS) for i in range(0, len(rows), _ROWS)]
        with one_blas_thread(), ThreadPoolExecutor(self.n_threads) as pool:
            return np.concatenate(list(pool.map(lambda piece: self._piece(rows[piece], ggml_type), pieces)))

    def _piece(self, rows: Floats, ggml_type: str) -> Bytes:
        w, left = np.ascontiguousarray(rows, np.float32), np.array(rows, np.float32)
        parts = list(self._carried(w, left, ggml_type))
        if ggml_type not in GRIDS:
            return np.concatenate(parts, axis=1)
        coded = Coded(**{k: np.concatenate([getattr(p, k) for p in parts], axis=1) for k in Coded.__slots__})
        self._settled(w, left, coded, ggml_type)
        return encoded(coded, ggml_type)

    def _carried(self, w: Floats, left: Floats, ggml_type: str) -> Iterator[Any]:
        """Block by block in storage order; ``left`` becomes what is left of the rows: w − q."""
        from scipy.linalg import solve_triangular

        for s, past, own, given in zip(self._slices, self._past, self._next, self._given, strict=True):
            target = w[:, s]
            if s.start:
                carried = solve_triangular(own, (left[:, : s.start] @ past).T, trans=1, check_finite=False)
                target = target + carried.T.astype(np.float32)
            target = np.ascontiguousarray(target)
            data = self.ggml.quantize(target, ggml_type, self.importance[s])
            if ggml_type not in GRIDS:
                left[:, s] = w[:, s] - self.ggml.dequantize(data, ggml_type, s.stop - s.start)
                yield data
                continue
            coded = decoded(data, ggml_type)
            q = values(coded, ggml_type)
            _descend((target - q) @ given, given, q, coded, ggml_type)
            left[:, s] = w[:, s] - q
            yield coded

    def _settled(self, w: Floats, left: Floats, coded: Coded, ggml_type: str) -> None:
        """Passes over all blocks with the whole matrix, until nothing moves."""
        grid, block = GRIDS[ggml_type], GGML_TYPES[ggml_type][1]
        for _ in range(N_PASSES):
            moved = 0
            for s, whole, own in zip(self._slices, self._whole, self._own, strict=True):
                q = w[:, s] - left[:, s]
                part = coded.part(slice(None), grid, block, s)
                moved += _descend(left @ whole, own, q, part, ggml_type)
                left[:, s] = w[:, s] - q
            if not moved:
                return


def _descend(g: Floats, h: Floats, q: Floats, coded: Coded, ggml_type: str) -> int:
    """One sweep over a block of columns."""
    from lwq.values.descent import Kind, Rows, descend

    grid = GRIDS[ggml_type]
    scaled, shifted = (low < high for low, high in (grid.scales, grid.mins))
    steps = [(a, b) for a, b in _STEPS if (scaled or not a) and (shifted or not b)]
    kind = Kind(
        np.array(grid.levels, np.float32),
        len(grid.levels) == grid.levels[-1] - grid.levels[0] + 1,
        np.array(steps, np.int64).reshape(-1, 2),
        np.array((*grid.scales, *grid.mins), np.int64),
        grid.sub,
    )
    return int(descend(Rows(g, h, q, coded.codes, coded.scales, coded.mins, coded.d, coded.m), kind))


def _factor(gram: Floats) -> Floats:
    """The upper triangular C with H = C Cᵀ; dead channels stand for themselves.

    Raises:
        ValueError: no such matrix.
    """
    from scipy.linalg import LinAlgError, cholesky

    diagonal = np.diagonal(gram)
    living = np.where(diagonal > 0, diagonal, np.float32(1e-4) * diagonal.mean() or np.float32(1.0))
    whole = gram.copy()
    np.fill_diagonal(whole, living)
    try:
        flipped = cholesky(whole[::-1, ::-1], lower=True, check_finite=True)
    except (LinAlgError, ValueError) as error:
        raise ValueError(f"the Gram matrix has no factor: {error}") from error
    return np.ascontiguousarray(flipped[::-1, ::-1])
