"""Coordinate descent over what a quant block holds: codes, integer scales and mins, and the float16 factors.

The loss of a row is ``(w − q)ᵀ H (w − q)``. All works on the gradient ``g = H (w − q)`` of one block of columns: a
weight that moves by δ changes the loss by ``δ² Hjj − 2 δ gj`` and the gradient by ``−δ H``. Every move lowers the loss.
Rows are independent of each other, and the compiler reorders nothing, so that bytes do not depend on threads.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np

from lwq.values.compiled import compiled

LANES: Final = 8
"""Neighbouring scales and mins that are tried at once, at most."""
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
    """(sub-block, lanes), as ``levels``."""
    levels: Any
    a: Any
    """(lanes,), as ``b``, ``inverse``, ``delta`` and ``change``."""
    b: Any
    inverse: Any
    delta: Any
    change: Any
    v: Any
    """(quant block,), as ``u``, ``hv`` and ``hu``."""
    u: Any
    hv: Any
    hu: Any


@compiled
def half(x: float) -> float:
    """The float16 nearest to x; infinite beyond its range."""
    if x == 0.0 or not math.isfinite(x):
        return x
    exponent = max(math.frexp(x)[1], -13)
    unit = math.ldexp(1.0, exponent - 11)
    rounded = np.rint(x / unit) * unit
    return rounded if abs(rounded) <= 65504.0 else math.copysign(math.inf, x)


@compiled
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


@compiled
def _put(row: Any, j: int, value: Any) -> None:
    """One weight to another value."""
    delta = value - row.q[j]
    if delta != 0.0:
        row.q[j] = value
        g, h = row.g, row.h[j]
        for k in range(len(g)):
            g[k] -= delta * h[k]


@compiled
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


@compiled
def _spread(local: Any, delta: Any, h: Any) -> None:
    """``local −= h ⊗ delta``, with delta in registers, since the compiler cannot know that it lies elsewhere."""
    d0, d1, d2, d3, d4, d5, d6, d7 = delta[0], delta[1], delta[2], delta[3], delta[4], delta[5], delta[6], delta[7]
    for k in range(len(h)):
        to, share = local[k], h[k]
        to[0] -= d0 * share
        to[1] -= d1 * share
        to[2] -= d2 * share
        to[3] -= d3 * share
        to[4] -= d4 * share
        to[5] -= d5 * share
        to[6] -= d6 * share
        to[7] -= d7 * share


@compiled
def _try_all(row: Any, kind: Any, u: int, at: int, scratch: Any) -> None:
    """The change of loss if a sub-block had each of the neighbouring scales and mins, into ``scratch``.

    Codes are chosen one after another, for all neighbours at once: the lanes are independent, so that they can be
    computed side by side.
    """
    n, start = kind.sub, u * kind.sub
    a, b, inverse, change, local = scratch.a, scratch.b, scratch.inverse, scratch.change, scratch.g
    for lane in range(LANES):
        scale, low = row.scales[u], row.mins[u]
        if lane < len(kind.steps):
            scale, low = scale + kind.steps[lane, 0], low + kind.steps[lane, 1]
        a[lane], b[lane] = np.float32(row.d[at] * scale), np.float32(row.m[at] * low)
        inverse[lane] = np.float32(1.0) / a[lane] if a[lane] != 0.0 else np.float32(0.0)
        change[lane] = 0.0
    for i in range(n):
        for lane in range(LANES):
            local[i, lane] = row.g[start + i]
    first, last = kind.levels[0], kind.levels[-1]
    for i in range(n):
        j = start + i
        own, q = row.h[j, j], row.q[j]
        share = np.float32(1.0) / own if own > 0.0 else np.float32(0.0)
        levels = scratch.levels[i]
        for lane in range(LANES):
            levels[lane] = (q + local[i, lane] * share + b[lane]) * inverse[lane]
        if kind.is_linear:
            for lane in range(LANES):
                levels[lane] = np.rint(min(max(levels[lane], first), last))
        else:
            for lane in range(LANES):
                levels[lane] = kind.levels[nearest(levels[lane], kind.levels, False)]
        delta = scratch.delta
        for lane in range(LANES):
            delta[lane] = a[lane] * levels[lane] - b[lane] - q
            change[lane] += delta[lane] * (delta[lane] * own - np.float32(2.0) * local[i, lane])
        _spread(local[i + 1 :], delta, row.h[j, start + i + 1 : start + n])


@compiled
def _move_scales(row: Any, kind: Any, u: int, at: int, scratch: Any) -> int:
    """A sub-block to the best of the neighbouring scales and mins, with codes that suit them."""
    start, bounds = u * kind.sub, kind.bounds
    least, chosen = np.float32(0.0), -1
    for j in range(start, start + kind.sub):
        least -= np.float32(_LEAST) * row.q[j] * row.q[j] * row.h[j, j]
    _try_all(row, kind, u, at, scratch)
    for i in range(len(kind.steps)):
        scale, low = row.scales[u] + kind.steps[i, 0], row.mins[u] + kind.steps[i, 1]
        if scale < bounds[0] or scale > bounds[1] or low < bounds[2] or low > bounds[3]:
            continue
        if scratch.change[i] < least:
            least, chosen = scratch.change[i], i
    if chosen < 0:
        return 0
    row.scales[u] += kind.steps[chosen, 0]
    row.mins[u] += kind.steps[chosen, 1]
    a, b = np.float32(row.d[at] * row.scales[u]), np.float32(row.m[at] * row.mins[u])
    for i in range(kind.sub):
        level = scratch.levels[i, chosen]
        row.codes[start + i] = nearest(level, kind.levels, kind.is_linear)
        _put(row, start + i, np.float32(a * level - b))
    return 1


@compiled
def _refit(row: Any, kind: Any, at: int, n_subs: int, scratch: Any) -> int:
    """The float16 factors of a quant block by least squares, codes and integers as they are."""
    start, n, vs, us = at * n_subs * kind.sub, n_subs * kind.sub, scratch.v, scratch.u
    has_min = False
    for i in range(n):
        sub = (start + i) // kind.sub
        vs[i] = row.scales[sub] * kind.levels[row.codes[start + i]]
        us[i] = row.mins[sub]
        has_min = has_min or us[i] != 0.0
    hv, hu = scratch.hv, scratch.hu
    hv[:n], hu[:n] = 0.0, 0.0
    for i in range(n):  # H v and H u column by column: sums of whole rows, which the compiler may do side by side
        h = row.h[start + i, start : start + n]
        for k in range(n):
            hv[k] += h[k] * vs[i]
        if has_min:
            for k in range(n):
                hu[k] += h[k] * us[i]
    vv, vu, uu, vg, ug = 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(n):
        vv += vs[i] * hv[i]
        vu += vs[i] * hu[i]
        uu += us[i] * hu[i]
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


@compiled
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


@compiled
def descend(rows: Any, kind: Any) -> int:
    """Moves everything in ``rows`` (a ``Rows``) of a ``Kind`` once; returns the number of moves."""
    n_subs = rows.scales.shape[1] // rows.d.shape[1]
    sub, block = kind.sub, n_subs * kind.sub
    tried = np.empty((2, sub, LANES), np.float32)
    lanes = np.empty((5, LANES), np.float32)
    whole = np.empty((4, block), np.float32)
    scratch = _Scratch(
        tried[0], tried[1], lanes[0], lanes[1], lanes[2], lanes[3], lanes[4], whole[0], whole[1], whole[2], whole[3]
    )
    moved = 0
    for r in range(len(rows.g)):
        row = Rows(rows.g[r], rows.h, rows.q[r], rows.codes[r], rows.scales[r], rows.mins[r], rows.d[r], rows.m[r])
        moved += _sweep(row, kind, n_subs, scratch)
    return moved
