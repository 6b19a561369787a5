"""The triangular factor of a Gram matrix: by LAPACK, a wide one in blocks that threads share."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import Final

import numpy as np

from lwq.metrics.arrays import Floats
from lwq.values.blas import one_blas_thread

_BLOCK: Final = 2048
"""Columns: fixed, so that bytes do not depend on the number of threads."""


class GramError(ValueError):
    """A Gram matrix that nothing can be fitted by."""


def upper_factor(gram: Floats, n_threads: int) -> Floats:
    """The upper triangular C with H = C Cᵀ; dead channels stand for themselves.

    Raises:
        GramError: no such matrix.
    """
    from scipy.linalg import LinAlgError

    diagonal = np.diagonal(gram)
    living = np.where(diagonal > 0, diagonal, np.float32(1e-4) * diagonal.mean() or np.float32(1.0))
    flipped = gram[::-1, ::-1].copy()
    np.fill_diagonal(flipped, living[::-1])
    try:  # symmetric, so that its transpose is the matrix in the order in which LAPACK can work in place
        with one_blas_thread(), ThreadPoolExecutor(n_threads) as pool:
            lower = _lower_factor(flipped.T, pool)
    except (LinAlgError, ValueError) as error:
        raise GramError(f"the Gram matrix has no factor: {error}") from error
    return np.ascontiguousarray(lower[::-1, ::-1])


def _lower_factor(a: Floats, pool: ThreadPoolExecutor) -> Floats:
    """The lower triangular L with A = L Lᵀ, in the place of A: a column of blocks after another."""
    from scipy.linalg import cholesky, solve_triangular

    if len(a) <= _BLOCK:
        return np.asarray(cholesky(a, lower=True, overwrite_a=True, check_finite=True))
    blocks = [slice(i, min(i + _BLOCK, len(a))) for i in range(0, len(a), _BLOCK)]

    def divide(k: slice, i: slice) -> None:
        a[i, k] = solve_triangular(a[k, k], a[i, k].T, lower=True, check_finite=False).T
        a[k, i] = 0.0

    def subtract(k: slice, at: tuple[slice, slice]) -> None:
        i, j = at
        with np.errstate(invalid="ignore"):  # told by the next block's factor
            a[i, j] -= a[i, k] @ a[j, k].T

    for n_done, k in enumerate(blocks, 1):
        a[k, k] = cholesky(a[k, k], lower=True, check_finite=True)
        below = blocks[n_done:]
        list(pool.map(divide, repeat(k), below))
        pairs = [(i, j) for n, i in enumerate(below, 1) for j in below[:n]]
        list(pool.map(subtract, repeat(k), pairs))
    return a
