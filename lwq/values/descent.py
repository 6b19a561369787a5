"""Coordinate descent over what a quant block holds: codes, integer scales and mins, and the float16 factors.

The loss of a row is ``(w − q)ᵀ H (w − q)``. All works on the gradient ``g = H (w − q)`` of one block of columns: a
weight that moves by δ changes the loss by ``δ² Hjj − 2 δ gj`` and the gradient by ``−δ H``. Every move lowers the loss.

Rows are independent of each other. They lie side by side in memory (arrays are (columns, rows)), so that the compiler
can compute several at once; within a sub-block its columns are decided one after the other.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np

from lwq.values.compiled import compiled

LEAST: Final = 1e-7
"""A move must lower the loss by this share of the block's own energy, lest rounding decides it."""


class Tile(NamedTuple):
    """Some columns (whole quant blocks) of some rows; all but ``h`` is kept up to date."""

    g: Any
    """float32 (columns, rows): the gradient."""
    h: Any
    """float32 (columns, columns): the same columns of the Gram matrix."""
    q: Any
    """float32 (columns, rows): the weights."""


class Levelled(NamedTuple):
    """What a tile's weights are made of: levels, times scale and factor, less min times its factor."""

    level: Any
    """float32 (columns, rows)."""
    scales: Any
    """int64 (sub-blocks, rows), as ``mins``."""
    mins: Any
    d: Any
    """float32 (quant blocks, rows), as ``m``."""
    m: Any


class Kind(NamedTuple):
    """A type, as ``codes.Grid`` has it."""

    levels: Any
    """float32."""
    is_linear: bool
    steps: Any
    """int64 (moves, 2): by how much a scale and a min may move at once; no move is the first."""
    bounds: Any
    """int64: least and greatest integer scale, least and greatest integer min."""
    sub: int


class _Sub(NamedTuple):
    """A sub-block while neighbouring scales and mins are tried; all float32."""

    g: Any
    """(columns, rows), as ``level`` and ``best``."""
    level: Any
    best: Any
    a: Any
    """(rows,), as all that follow: step and start of the one that is tried."""
    b: Any
    inverse: Any
    delta: Any
    x: Any
    change: Any
    least: Any
    chosen: Any
    """int64: the best of those that were tried; −1 for none."""


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
def to_levels(x: Any, levels: Any, is_linear: bool, out: Any) -> None:
    """The level nearest to each x."""
    if is_linear:
        first, last = levels[0], levels[-1]
        for r in range(len(x)):
            within = first if x[r] < first else x[r]
            out[r] = np.rint(last if within > last else within)
        return
    out[:] = levels[0]
    for k in range(1, len(levels)):
        middle, level = np.float32(0.5) * (levels[k - 1] + levels[k]), levels[k]
        for r in range(len(x)):
            out[r] = level if x[r] > middle else out[r]


@compiled
def shift(to: Any, delta: Any, h: Any) -> None:
    """``to −= δ h`` for all rows."""
    for r in range(len(to)):
        to[r] -= delta[r] * h


@compiled
def put(tile: Any, start: int, new: Any) -> None:
    """Columns from ``start`` on to other values, (columns, rows)."""
    stop = start + len(new)
    delta = new - tile.q[start:stop]
    tile.q[start:stop] = new
    moved = np.dot(tile.h[start:stop].T, delta)
    for k in range(len(tile.g)):
        to, by = tile.g[k], moved[k]
        for r in range(len(to)):
            to[r] -= by[r]


@compiled
def least_of(tile: Any, start: int, stop: int, least: Any) -> None:
    """The change of each row's loss that a move must be below."""
    least[:] = 0.0
    for j in range(start, stop):
        q, share = tile.q[j], np.float32(LEAST) * tile.h[j, j]
        for r in range(len(least)):
            least[r] -= q[r] * q[r] * share


@compiled
def _walk(sub: Any, q: Any, h: Any, kind: Any) -> None:
    """All weights of a sub-block in turn to their best levels with the step and start that are tried."""
    n = len(q)
    a, b, inverse, delta, change, x = sub.a, sub.b, sub.inverse, sub.delta, sub.change, sub.x
    for r in range(len(a)):
        inverse[r] = np.float32(1.0) / a[r] if a[r] != 0.0 else np.float32(0.0)
        change[r] = 0.0
    for i in range(n):
        own, qi, gi, level = h[i, i], q[i], sub.g[i], sub.level[i]
        share = np.float32(1.0) / own if own > 0.0 else np.float32(0.0)
        for r in range(len(a)):
            x[r] = (qi[r] + gi[r] * share + b[r]) * inverse[r]
        to_levels(x, kind.levels, kind.is_linear, level)
        for r in range(len(a)):
            delta[r] = a[r] * level[r] - b[r] - qi[r]
        for r in range(len(a)):
            change[r] += delta[r] * (delta[r] * own - np.float32(2.0) * gi[r])
        for k in range(i + 1, n):
            shift(sub.g[k], delta, h[i, k])


@compiled
def _move(tile: Any, of: Any, kind: Any, u: int, sub: Any) -> int:
    """A sub-block to the best of the neighbouring scales and mins, each with levels that suit it."""
    start, stop, bounds, at = u * kind.sub, (u + 1) * kind.sub, kind.bounds, u * len(of.d) // len(of.scales)
    d, m, scales, mins = of.d[at], of.m[at], of.scales[u], of.mins[u]
    own, least, chosen = np.ascontiguousarray(tile.h[start:stop, start:stop]), sub.least, sub.chosen
    least_of(tile, start, stop, least)
    chosen[:] = -1
    for i in range(len(kind.steps)):
        for r in range(len(d)):
            sub.a[r] = np.float32(d[r] * (scales[r] + kind.steps[i, 0]))
            sub.b[r] = np.float32(m[r] * (mins[r] + kind.steps[i, 1]))
        sub.g[:] = tile.g[start:stop]
        _walk(sub, tile.q[start:stop], own, kind)
        for r in range(len(d)):
            scale, low = scales[r] + kind.steps[i, 0], mins[r] + kind.steps[i, 1]
            if scale < bounds[0] or scale > bounds[1] or low < bounds[2] or low > bounds[3]:
                continue
            if sub.change[r] < least[r]:
                least[r], chosen[r] = sub.change[r], i
        for j in range(kind.sub):
            best, level = sub.best[j], sub.level[j]
            for r in range(len(d)):
                best[r] = level[r] if chosen[r] == i else best[r]
    return _take(tile, of, kind, u, sub)


@compiled
def _take(tile: Any, of: Any, kind: Any, u: int, sub: Any) -> int:
    """Makes the chosen moves; returns their number."""
    start, at, moved, chosen = u * kind.sub, u * len(of.d) // len(of.scales), 0, sub.chosen
    for r in range(len(chosen)):
        if chosen[r] >= 0:
            of.scales[u, r] += kind.steps[chosen[r], 0]
            of.mins[u, r] += kind.steps[chosen[r], 1]
            moved += 1
        sub.a[r] = np.float32(of.d[at, r] * of.scales[u, r])
        sub.b[r] = np.float32(of.m[at, r] * of.mins[u, r])
    if not moved:
        return 0
    for j in range(kind.sub):
        level, new, best, q = of.level[start + j], sub.level[j], sub.best[j], tile.q[start + j]
        for r in range(len(chosen)):
            level[r] = best[r] if chosen[r] >= 0 else level[r]
            new[r] = sub.a[r] * level[r] - sub.b[r] if chosen[r] >= 0 else q[r]
    put(tile, start, sub.level)
    return moved


@compiled
def refit(tile: Any, start: int, v: Any, u: Any, d: Any, m: Any) -> Any:
    """The float16 factors of a quant block by least squares: its weights are ``d·v − m·u``.

    Args:
        v: float32 (columns, rows), as ``u``, which may be of no columns.

    Returns:
        Which rows' factors changed.
    """
    stop, n_rows = start + len(v), len(d)
    own, g = np.ascontiguousarray(tile.h[start:stop, start:stop]), tile.g[start:stop]
    hv, changed = np.dot(own, v), np.zeros(n_rows, np.bool_)
    sums = np.zeros((5, n_rows))
    vv, vg, vu, uu, ug = sums[0], sums[1], sums[2], sums[3], sums[4]
    for j in range(len(v)):
        for r in range(n_rows):
            vv[r] += v[j, r] * hv[j, r]
            vg[r] += v[j, r] * g[j, r]
    if len(u):
        hu = np.dot(own, u)
        for j in range(len(v)):
            for r in range(n_rows):
                vu[r] += v[j, r] * hu[j, r]
                uu[r] += u[j, r] * hu[j, r]
                ug[r] += u[j, r] * g[j, r]
    for r in range(n_rows):
        if vv[r] <= 0.0:
            continue
        x, y = vg[r] / vv[r], 0.0  # weights grow by x·v − y·u
        det = vv[r] * uu[r] - vu[r] * vu[r]
        if det > 1e-6 * vv[r] * uu[r]:
            x, y = (vg[r] * uu[r] - ug[r] * vu[r]) / det, (vg[r] * vu[r] - ug[r] * vv[r]) / det
        new_d, new_m = np.float32(half(d[r] + x)), np.float32(half(m[r] + y))
        x, y = float(new_d) - float(d[r]), float(new_m) - float(m[r])
        if (x == 0.0 and y == 0.0) or not (math.isfinite(new_d) and math.isfinite(new_m)):
            continue
        change = x * x * vv[r] - 2.0 * x * y * vu[r] + y * y * uu[r] - 2.0 * (x * vg[r] - y * ug[r])
        if change < -LEAST * float(d[r]) * float(d[r]) * vv[r]:
            d[r], m[r], changed[r] = new_d, new_m, True
    return changed


@compiled
def _refit(tile: Any, of: Any, kind: Any, at: int, n_subs: int) -> int:
    """One quant block."""
    n_rows, first, n = tile.q.shape[1], at * n_subs, n_subs * kind.sub
    v = np.empty((n, n_rows), np.float32)
    u = np.empty((n if kind.bounds[3] > 0 else 0, n_rows), np.float32)
    for j in range(n):
        scales, mins = of.scales[first + j // kind.sub], of.mins[first + j // kind.sub]
        level = of.level[first * kind.sub + j]
        for r in range(n_rows):
            v[j, r] = scales[r] * level[r]
        if len(u):
            for r in range(n_rows):
                u[j, r] = mins[r]
    d, m = of.d[at], of.m[at]
    changed = refit(tile, first * kind.sub, v, u, d, m)
    moved = int(changed.sum())
    if moved:
        for j in range(n):
            scales, mins = of.scales[first + j // kind.sub], of.mins[first + j // kind.sub]
            level, q = of.level[first * kind.sub + j], tile.q[first * kind.sub + j]
            for r in range(n_rows):
                a, b = np.float32(d[r] * scales[r]), np.float32(m[r] * mins[r])
                v[j, r] = a * level[r] - b if changed[r] else q[r]
        put(tile, first * kind.sub, v)
    return moved


@compiled
def descend(tile: Any, of: Any, kind: Any) -> int:
    """Moves everything once: ``of``, a ``Levelled``, of a ``Kind``; returns the number of moves."""
    n_subs, n_rows = len(of.scales) // len(of.d), tile.q.shape[1]
    wide, flat = np.empty((3, kind.sub, n_rows), np.float32), np.empty((7, n_rows), np.float32)
    sub = _Sub(
        wide[0], wide[1], wide[2], flat[0], flat[1], flat[2], flat[3], flat[4], flat[5], flat[6],
        np.empty(n_rows, np.int64),
    )  # fmt: skip
    moved = 0
    for u in range(len(of.scales)):
        moved += _move(tile, of, kind, u, sub)
    for at in range(len(of.d)):
        moved += _refit(tile, of, kind, at, n_subs)
    return moved
