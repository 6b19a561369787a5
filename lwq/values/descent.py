"""Coordinate descent over what a quant block holds: codes, integer scales and mins, and the float16 factors.

The loss of a row is ``(w − q)ᵀ H (w − q)``. All works on the gradient ``g = H (w − q)`` of one block of columns: a
weight that moves by δ changes the loss by ``δ² Hjj − 2 δ gj`` and the gradient by ``−δ H``. Every move lowers the loss.
Rows are independent of each other, and the compiler reorders nothing, so that bytes do not depend on threads.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numba
import numpy as np

_compiled: Final = numba.njit(cache=True, nogil=True, error_model="numpy")
_LEAST: Final = 1e-7
"""A move of scales must lower the loss by this share of the block's own energy, lest rounding decides it."""


class Rows(NamedTuple):
    """Some columns (whole quant blocks) of some rows, or of one; all but ``h`` is kept up to date."""

    g: Any
    """float32 (rows, columns): the gradient."""
    h: Any
    """float32 (columns, columns): the same columns of the Gram matrix."""
    q: Any
    """float32 (rows, columns): the weights that the codes stand for."""
    codes: Any
    scales: Any
    mins: Any
    d: Any
    m: Any


class Kind(NamedTuple):
    """A type, as ``codes.Grid`` has it."""

    levels: Any
    """float32."""
    is_linear: bool
    steps: Any
    """int64 (moves, 2): by how much a scale and a min may move at once."""
    bounds: Any
    """int64: least and greatest integer scale, least and greatest integer min."""
    sub: int


class _Scratch(NamedTuple):
    g: Any
    codes: Any
    best: Any
    v: Any
    u: Any


@_compiled
def half(x: float) -> float:
    """The float16 nearest to x; infinite beyond its range."""
    if x == 0.0 or not math.isfinite(x):
        return x
    exponent = max(math.frexp(x)[1], -13)
    unit = math.ldexp(1.0, exponent - 11)
    rounded = np.rint(x / unit) * unit
    return rounded if abs(rounded) <= 65504.0 else math.copysign(math.inf, x)


@_compiled
def nearest(x: Any, levels: Any, is_linear: bool) -> int:
    """The code of the level nearest to x."""
    if is_linear:
        return int(np.rint(min(max(x, levels[0]), levels[-1]) - levels[0]))
    low, high = 0, len(levels) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if levels[middle] <= x:
            low = middle
        else:
            high = middle
    return low if x - levels[low] <= levels[high] - x else high


@_compiled
def _put(row: Any, j: int, value: Any) -> None:
    """One weight to another value."""
    delta = value - row.q[j]
    if delta != 0.0:
        row.q[j] = value
        g, h = row.g, row.h[j]
        for k in range(len(g)):
            g[k] -= delta * h[k]


@_compiled
def _move_codes(row: Any, kind: Any, u: int, a: Any, b: Any) -> int:
    """Each weight of a sub-block in turn to its best level; a, b: its step and start."""
    moved = 0
    if a == 0.0:
        return 0
    for j in range(u * kind.sub, (u + 1) * kind.sub):
        own = row.h[j, j]
        if own <= 0.0:
            continue
        code = nearest((row.q[j] + row.g[j] / own + b) / a, kind.levels, kind.is_linear)
        if code == row.codes[j]:
            continue
        value = np.float32(a * kind.levels[code] - b)
        delta = value - row.q[j]
        if delta * delta * own - np.float32(2.0) * delta * row.g[j] < 0.0:
            row.codes[j] = code
            _put(row, j, value)
            moved += 1
    return moved


@_compiled
def _tried(row: Any, kind: Any, u: int, a: Any, b: Any, scratch: Any) -> Any:
    """The change of loss if a sub-block had this step and start, codes (in ``scratch``) chosen one after another."""
    n, start = kind.sub, u * kind.sub
    local = scratch.g
    for i in range(n):
        local[i] = row.g[start + i]
    change = np.float32(0.0)
    for i in range(n):
        j = start + i
        own, code = row.h[j, j], 0
        if a != 0.0:
            t = row.q[j] + local[i] / own if own > 0.0 else row.q[j]
            code = nearest((t + b) / a, kind.levels, kind.is_linear)
        scratch.codes[i] = code
        delta = np.float32(a * kind.levels[code] - b) - row.q[j]
        change += delta * (delta * own - np.float32(2.0) * local[i])
        h = row.h[j]
        for k in range(n):
            local[k] -= delta * h[start + k]
    return change


@_compiled
def _move_scales(row: Any, kind: Any, u: int, at: int, scratch: Any) -> int:
    """A sub-block to the best of the neighbouring scales and mins, with codes that suit them."""
    start, d, m, bounds = u * kind.sub, row.d[at], row.m[at], kind.bounds
    least, chosen = np.float32(0.0), -1
    for j in range(start, start + kind.sub):
        least -= np.float32(_LEAST) * row.q[j] * row.q[j] * row.h[j, j]
    for i in range(len(kind.steps)):
        scale, low = row.scales[u] + kind.steps[i, 0], row.mins[u] + kind.steps[i, 1]
        if scale < bounds[0] or scale > bounds[1] or low < bounds[2] or low > bounds[3]:
            continue
        change = _tried(row, kind, u, np.float32(d * scale), np.float32(m * low), scratch)
        if change < least:
            least, chosen = change, i
            scratch.best[:] = scratch.codes
    if chosen < 0:
        return 0
    row.scales[u] += kind.steps[chosen, 0]
    row.mins[u] += kind.steps[chosen, 1]
    a, b = np.float32(d * row.scales[u]), np.float32(m * row.mins[u])
    for i in range(kind.sub):
        row.codes[start + i] = scratch.best[i]
        _put(row, start + i, np.float32(a * kind.levels[scratch.best[i]] - b))
    return 1


@_compiled
def _refit(row: Any, kind: Any, at: int, n_subs: int, scratch: Any) -> int:
    """The float16 factors of a quant block by least squares, codes and integers as they are."""
    start, n, vs, us = at * n_subs * kind.sub, n_subs * kind.sub, scratch.v, scratch.u
    has_min = False
    for i in range(n):
        sub = (start + i) // kind.sub
        vs[i] = row.scales[sub] * kind.levels[row.codes[start + i]]
        us[i] = row.mins[sub]
        has_min = has_min or us[i] != 0.0
    vv, vu, uu, vg, ug = 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(n):
        h, hv, hu = row.h[start + i], np.float32(0.0), np.float32(0.0)
        for k in range(n):
            hv += h[start + k] * vs[k]
        if has_min:
            for k in range(n):
                hu += h[start + k] * us[k]
        vv += vs[i] * hv
        vu += vs[i] * hu
        uu += us[i] * hu
        vg += vs[i] * row.g[start + i]
        ug += us[i] * row.g[start + i]
    if vv <= 0.0:
        return 0
    x, y = vg / vv, 0.0  # q grows by x·v − y·u
    det = vv * uu - vu * vu
    if has_min and det > 1e-6 * vv * uu:
        x, y = (vg * uu - ug * vu) / det, (vg * vu - ug * vv) / det
    d, m = np.float32(half(row.d[at] + x)), np.float32(half(row.m[at] + y))
    x, y = d - row.d[at], m - row.m[at]
    if (x == 0.0 and y == 0.0) or not (math.isfinite(d) and math.isfinite(m)):
        return 0
    change = x * x * vv - 2.0 * x * y * vu + y * y * uu - 2.0 * (x * vg - y * ug)
    if change >= -_LEAST * row.d[at] * row.d[at] * vv:
        return 0
    row.d[at], row.m[at] = d, m
    for j in range(start, start + n):
        sub = j // kind.sub
        _put(row, j, np.float32(np.float32(d * row.scales[sub]) * kind.levels[row.codes[j]] - m * row.mins[sub]))
    return 1


@_compiled
def _sweep(row: Any, kind: Any, n_subs: int, scratch: Any) -> int:
    """Everything of a row once."""
    moved = 0
    for u in range(len(row.scales)):
        at = u // n_subs
        a, b = np.float32(row.d[at] * row.scales[u]), np.float32(row.m[at] * row.mins[u])
        moved += _move_codes(row, kind, u, a, b)
        if len(kind.steps):
            moved += _move_scales(row, kind, u, at, scratch)
    for at in range(len(row.d)):
        moved += _refit(row, kind, at, n_subs, scratch)
    return moved


@_compiled
def descend(rows: Any, kind: Any) -> int:
    """Moves everything in ``rows`` (a ``Rows``) of a ``Kind`` once; returns the number of moves."""
    n_subs = rows.scales.shape[1] // rows.d.shape[1]
    sub, block = kind.sub, n_subs * kind.sub
    scratch = _Scratch(
        np.empty(sub, np.float32),
        np.empty(sub, np.uint8),
        np.empty(sub, np.uint8),
        np.empty(block, np.float32),
        np.empty(block, np.float32),
    )
    moved = 0
    for r in range(len(rows.g)):
        row = Rows(rows.g[r], rows.h, rows.q[r], rows.codes[r], rows.scales[r], rows.mins[r], rows.d[r], rows.m[r])
        moved += _sweep(row, kind, n_subs, scratch)
    return moved
