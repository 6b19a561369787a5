"""Rows in codes, and what is multiplied by rows, for the tests of several modules of ``lwq.values``."""

from __future__ import annotations

from typing import Any

import numpy as np

from lwq.gguf.types import GGML_TYPES
from lwq.metrics.arrays import Floats
from lwq.values.codes import GRIDS, Coded
from lwq.values.grams import Gram, packed

Rng = np.random.Generator


def block_of(ggml_type: str) -> int:
    return GGML_TYPES[ggml_type][1]


def any_codes(ggml_type: str, n_rows: int, n_blocks: int, rng: Rng) -> Coded:
    """Whatever the type can hold, its bounds more often than chance would have it; factors of every size."""
    grid, block = GRIDS[ggml_type], block_of(ggml_type)
    n_subs = n_blocks * block // grid.sub
    has_min = grid.mins != (0, 0)
    return Coded(
        codes=_within(rng, 0, len(grid.levels) - 1, (n_rows, n_blocks * block)).astype(np.uint8),
        scales=_within(rng, *grid.scales, (n_rows, n_subs)),
        mins=_within(rng, *grid.mins, (n_rows, n_subs)),
        d=_halves(rng, (n_rows, n_blocks)),
        m=_halves(rng, (n_rows, n_blocks)) * np.float32(has_min),
    )


def _within(rng: Rng, low: int, high: int, shape: tuple[int, int]) -> Any:
    return np.clip(rng.integers(low - 1, high + 2, shape), low, high).astype(np.int16)


def _halves(rng: Rng, shape: tuple[int, int]) -> Floats:
    """Finite float16 of all bit patterns, zero, and the least and largest."""
    found = rng.integers(0, 1 << 16, shape).astype(np.uint16).view(np.float16).astype(np.float32)
    extreme = rng.choice(np.array([0.0, 2.0**-24, -(2.0**-14), 65504.0, -65504.0], np.float32), shape)
    out: Floats = np.where(np.isfinite(found) & (rng.random(shape) < 0.8), found, extreme)
    return out


def correlated(n_tokens: int, n_channels: int, rng: Rng) -> Floats:
    """Tokens whose channels go together and differ in size, as in a model."""
    few = max(2, n_channels // 8)
    mixed = rng.standard_normal((n_tokens, few)) @ rng.standard_normal((few, n_channels))
    sizes = rng.lognormal(0.0, 0.7, n_channels)
    return ((mixed + 0.5 * rng.standard_normal((n_tokens, n_channels))) * sizes).astype(np.float32)


def gram_of(tokens: Floats) -> Gram:
    return packed(tokens.T @ tokens, len(tokens))


def loss(w: Floats, q: Floats, h: Floats) -> Floats:
    """(w − q)ᵀ H (w − q) of each row, in float64."""
    e = w.astype(np.float64) - q
    out: Floats = ((e @ h.astype(np.float64)) * e).sum(axis=1)
    return out
