"""Stored rows whose codes, scales and mins make up for each other's errors, as far as a Gram matrix knows them.

First block by block in storage order: what earlier columns of a row got wrong is carried into the columns that follow,
through C (upper, H = C Cᵀ), and ggml's own quantizer chooses a quant block's scales on what is to be met there; types
that ``forms`` knows are then moved toward the least loss with all later columns free. Then passes over all blocks with
the whole H. Sources: GPTQ (arXiv 2210.17323), LDLQ (arXiv 2307.13304).
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np

from lwq.engine.ggml import Ggml
from lwq.metrics.arrays import Bytes, Floats
from lwq.values.blas import one_blas_thread
from lwq.values.factor import upper_factor
from lwq.values.forms import TypeForm, form_of

N_PASSES: Final = 4
_COLUMNS: Final = 256
_ROWS: Final = 128
"""Rows that are worked on together: fixed, so that bytes do not depend on the number of threads."""


class Compensation:
    """Quantizes rows that are multiplied by what one Gram matrix describes.

    Args:
        gram: float32 (channels, channels), as ``Gram.conditioned`` gives it.
        importance: mean squares by channel, for the scales that ggml chooses.

    Raises:
        GramError: a matrix that is not positive.
    """

    def __init__(self, ggml: Ggml, gram: Floats, importance: Floats, n_threads: int) -> None:
        self.ggml, self.importance, self.n_threads = ggml, importance, n_threads
        n = len(gram)
        self._slices = [slice(i, min(i + _COLUMNS, n)) for i in range(0, n, _COLUMNS)]
        with one_blas_thread():
            factor = upper_factor(gram, n_threads)
            self._whole = [gram[:, s] for s in self._slices]  # views: of a wide tensor, one such matrix is a GB
            self._own = [np.ascontiguousarray(gram[s, s]) for s in self._slices]
            self._past = [factor[: s.start, s] for s in self._slices]
            self._next = [np.ascontiguousarray(factor[s, s]) for s in self._slices]
            self._given = [np.ascontiguousarray(c @ c.T) for c in self._next]

    def quantized(self, rows: Floats, ggml_type: str) -> Bytes:
        """Rows as stored: uint8 of shape (rows, bytes of a row).

        Args:
            rows: float32 (rows, channels), all finite.
        """
        pieces, form = [slice(i, i + _ROWS) for i in range(0, len(rows), _ROWS)], form_of(ggml_type)

        def piece(part: slice) -> Bytes:
            return self._piece(rows[part], ggml_type, form)

        with one_blas_thread(), ThreadPoolExecutor(self.n_threads) as pool:
            return np.concatenate(list(pool.map(piece, pieces)))

    def _piece(self, rows: Floats, ggml_type: str, form: TypeForm[Any] | None) -> Bytes:
        w, left = np.ascontiguousarray(rows, np.float32), np.array(rows, np.float32)
        parts = list(self._carried(w, left, ggml_type, form))
        if form is None:
            return np.concatenate(parts, axis=1)
        whole = form.joined(parts)
        self._settled(w, left, whole, form)
        return form.write(whole)

    def _carried(self, w: Floats, left: Floats, ggml_type: str, form: TypeForm[Any] | None) -> Iterator[Any]:
        """Block by block in storage order; ``left`` becomes what is left of the rows: w − q."""
        from scipy.linalg import solve_triangular

        for s, past, own, given in zip(self._slices, self._past, self._next, self._given, strict=True):
            target = w[:, s]
            if s.start:
                carried = solve_triangular(own, (left[:, : s.start] @ past).T, trans=1, check_finite=False)
                target = target + carried.T.astype(np.float32)
            target = np.ascontiguousarray(target)
            data = self.ggml.quantize(target, ggml_type, self.importance[s])
            if form is None:
                left[:, s] = w[:, s] - self.ggml.dequantize(data, ggml_type, s.stop - s.start)
                yield data
                continue
            rows = form.read(data)
            q = form.values(rows)
            form.descend((target - q) @ given, given, q, rows)
            left[:, s] = w[:, s] - q
            yield rows

    def _settled(self, w: Floats, left: Floats, rows: Any, form: TypeForm[Any]) -> None:
        """Passes over all blocks with the whole matrix, until nothing moves."""
        for _ in range(N_PASSES):
            moved = 0
            for s, whole, own in zip(self._slices, self._whole, self._own, strict=True):
                q = w[:, s] - left[:, s]
                moved += form.descend(left @ whole, own, q, form.part(rows, s))
                left[:, s] = w[:, s] - q
            if not moved:
                return
