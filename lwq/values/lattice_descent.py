"""Descent over indices, signs, scales and float16 factors of the lattice types; loss and gradient as in ``descent``.

Eight weights move at once: signs as the best single weights would have them, then the index whose sizes cost the least,
of all there are.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np

from lwq.values.compiled import compiled
from lwq.values.descent import half

_LEAST: Final = 1e-7
_GROUP: Final = 8
_MOST: Final = 15
"""The greatest scale."""


class PointRows(NamedTuple):
    """Some columns (whole quant blocks) of some rows, or of one; all but ``h`` is kept up to date."""

    g: Any
    h: Any
    q: Any
    points: Any
    signs: Any
    scales: Any
    d: Any


class PointTable(NamedTuple):
    """A type, as ``lattices.Lattice`` has it."""

    sizes: Any
    """float32 (entries, indices)."""
    pairs: Any
    """float32 (pairs i ≤ j of entries, indices): products of two sizes of an index."""
    sub: int
    first: Any
    """float32, as ``step``."""
    step: Any
    is_even: bool


class _Eight(NamedTuple):
    """Eight weights while they are chosen, and what costs what."""

    q: Any
    g: Any
    value: Any
    sign: Any
    linear: Any
    cost: Any
    """(indices,)."""
    point: Any


def table_of(sizes: Any, sub: int, first: float, step: float, is_even: bool) -> PointTable:
    """A table from its sizes: float32 (indices, entries)."""
    n = sizes.shape[1]
    pairs = [sizes[:, i] * sizes[:, j] * (1 if i == j else 2) for i in range(n) for j in range(i, n)]
    return PointTable(
        np.ascontiguousarray(sizes.T),
        np.ascontiguousarray(np.stack(pairs), np.float32),
        sub,
        np.float32(first),
        np.float32(step),
        is_even,
    )


@compiled
def _choose_signs(group: Any, h: Any, a: Any, is_even: bool) -> int:
    """Signs of the best single weights; returns their byte."""
    byte, worst, cheapest = 0, -1, np.float32(np.inf)
    for i in range(_GROUP):
        own = h[i, i]
        t = group.q[i] + group.g[i] / own if own > 0.0 else group.q[i]
        is_negative = t * a < 0.0
        group.sign[i] = np.float32(-1.0) if is_negative else np.float32(1.0)
        byte |= int(is_negative) << i
        if own * abs(t) < cheapest:
            cheapest, worst = own * abs(t), i
    odd = 0
    for i in range(_GROUP):
        odd ^= (byte >> i) & 1
    if is_even and odd:
        group.sign[worst] = -group.sign[worst]
        byte ^= 1 << worst
    return byte


@compiled
def _cheapest(group: Any, h: Any, a: Any, table: Any, start: int) -> int:
    """The index of the entries from ``start`` on, the other weights of the group as ``value`` has them."""
    n, cost = len(table.sizes), group.cost
    cost[:] = 0.0
    at = 0
    for i in range(n):
        for j in range(i, n):
            share = a * a * group.sign[start + i] * group.sign[start + j] * h[start + i, start + j]
            pair = table.pairs[at]
            for k in range(len(cost)):
                cost[k] += share * pair[k]
            at += 1
    for i in range(n):
        pull = group.linear[start + i]
        for j in range(_GROUP):
            if j < start or j >= start + n:
                pull -= h[start + i, j] * group.value[j]
        share, size = np.float32(2.0) * a * group.sign[start + i] * pull, table.sizes[i]
        for k in range(len(cost)):
            cost[k] -= share * size[k]
    best = 0
    for k in range(1, len(cost)):
        if cost[k] < cost[best]:
            best = k
    return best


@compiled
def _choose(group: Any, h: Any, a: Any, table: Any) -> Any:
    """Fills ``value`` and ``point``; returns (byte of signs, change of the loss)."""
    n = len(table.sizes)
    byte = _choose_signs(group, h, a, table.is_even)
    for i in range(_GROUP):
        group.value[i] = group.q[i]
        pull = group.g[i]
        for j in range(_GROUP):
            pull += h[i, j] * group.q[j]
        group.linear[i] = pull
    for part in range(_GROUP // n):
        start = part * n
        point = _cheapest(group, h, a, table, start)
        group.point[part] = point
        for i in range(n):
            group.value[start + i] = a * (group.sign[start + i] * table.sizes[i, point])
    change = np.float32(0.0)
    for i in range(_GROUP):
        delta, pull = group.value[i] - group.q[i], np.float32(0.0)
        for j in range(_GROUP):
            pull += h[i, j] * (group.value[j] - group.q[j])
        change += delta * (pull - np.float32(2.0) * group.g[i])
    return byte, change


@compiled
def _load(group: Any, q: Any, g: Any) -> None:
    for i in range(_GROUP):
        group.q[i], group.g[i] = q[i], g[i]


@compiled
def _shift(g: Any, h: Any, delta: Any) -> None:
    """``g −= δ h``."""
    for k in range(len(g)):
        g[k] -= delta * h[k]


@compiled
def _take(row: Any, group: Any, start: int, byte: int, n_parts: int) -> None:
    for i in range(_GROUP):
        delta = group.value[i] - row.q[start + i]
        if delta != 0.0:
            row.q[start + i] = group.value[i]
            _shift(row.g, row.h[start + i], delta)
    row.signs[start // _GROUP] = byte
    for part in range(n_parts):
        row.points[start // _GROUP * n_parts + part] = group.point[part]


@compiled
def _move_groups(row: Any, table: Any, u: int, a: Any, group: Any) -> int:
    """Each group of a sub-block in turn to its best point; with another step ``a`` whatever it costs."""
    moved = 0
    for start in range(u * table.sub, (u + 1) * table.sub, _GROUP):
        stop = start + _GROUP
        _load(group, row.q[start:stop], row.g[start:stop])
        byte, change = _choose(group, row.h[start:stop, start:stop], a, table)
        if change < 0.0:
            _take(row, group, start, byte, _GROUP // len(table.sizes))
            moved += 1
    return moved


@compiled
def _tried(row: Any, table: Any, u: int, a: Any, group: Any, local: Any) -> Any:
    """The change of loss if a sub-block had this step, its groups chosen one after another."""
    first, last = u * table.sub, (u + 1) * table.sub
    local[:] = row.g[first:last]
    total = np.float32(0.0)
    for start in range(first, last, _GROUP):
        stop = start + _GROUP
        _load(group, row.q[start:stop], local[start - first : stop - first])
        _, change = _choose(group, row.h[start:stop, start:stop], a, table)
        total += change
        for i in range(_GROUP):
            _shift(local, row.h[start + i, first:last], group.value[i] - group.q[i])
    return total


@compiled
def _move_scale(row: Any, table: Any, u: int, d: Any, group: Any, local: Any) -> int:
    """A sub-block to the better of the two neighbouring scales."""
    first, last = u * table.sub, (u + 1) * table.sub
    least, chosen = np.float32(0.0), row.scales[u]
    for j in range(first, last):
        least -= np.float32(_LEAST) * row.q[j] * row.q[j] * row.h[j, j]
    for scale in (row.scales[u] - 1, row.scales[u] + 1):
        if 0 <= scale <= _MOST:
            change = _tried(row, table, u, d * (table.first + table.step * np.float32(scale)), group, local)
            if change < least:
                least, chosen = change, scale
    if chosen == row.scales[u]:
        return 0
    row.scales[u] = chosen
    a = d * (table.first + table.step * np.float32(chosen))
    for start in range(first, last, _GROUP):
        stop = start + _GROUP
        _load(group, row.q[start:stop], row.g[start:stop])
        byte, _ = _choose(group, row.h[start:stop, start:stop], a, table)
        _take(row, group, start, byte, _GROUP // len(table.sizes))
    return 1


@compiled
def _refit(row: Any, table: Any, first: int, last: int, at: int, v: Any) -> int:
    """The factor of a quant block by least squares, everything else as it is; v, hv: scratch (2, block)."""
    n, d, hv = last - first, row.d[at], v[1]
    if d == 0.0:
        return 0
    v[0] = row.q[first:last] / d
    hv[:] = 0.0
    for i in range(n):
        _shift(hv, row.h[first + i, first:last], -v[0, i])
    vv, vg = 0.0, 0.0
    for i in range(n):
        vv += v[0, i] * hv[i]
        vg += v[0, i] * row.g[first + i]
    if vv <= 0.0:
        return 0
    new = np.float32(half(d + vg / vv))
    x = float(new) - float(d)
    if x == 0.0 or not math.isfinite(new) or new == 0.0 or x * x * vv - 2.0 * x * vg >= -_LEAST * d * d * vv:
        return 0
    row.d[at] = new
    for u in range(first // table.sub, last // table.sub):
        a = new * (table.first + table.step * np.float32(row.scales[u]))
        n_parts = _GROUP // len(table.sizes)
        for j in range(u * table.sub, (u + 1) * table.sub):
            part = j // len(table.sizes)
            size = table.sizes[j % len(table.sizes), row.points[part]]
            is_negative = (row.signs[part // n_parts] >> (j % _GROUP)) & 1
            value = a * (-size if is_negative else size)
            _shift(row.g, row.h[j], value - row.q[j])
            row.q[j] = value
    return 1


@compiled
def descend_points(rows: Any, table: Any) -> int:
    """Moves everything in ``rows`` (a ``PointRows``) of a ``PointTable`` once; returns the number of moves."""
    n_subs = rows.scales.shape[1] // rows.d.shape[1]
    block = n_subs * table.sub
    eight = np.empty((5, _GROUP), np.float32)
    group = _Eight(
        eight[0], eight[1], eight[2], eight[3], eight[4], np.empty(table.sizes.shape[1], np.float32),
        np.empty(2, np.int64),
    )  # fmt: skip
    local, whole = np.empty(table.sub, np.float32), np.empty((2, block), np.float32)
    moved = 0
    for r in range(len(rows.g)):
        row = PointRows(rows.g[r], rows.h, rows.q[r], rows.points[r], rows.signs[r], rows.scales[r], rows.d[r])
        for u in range(len(row.scales)):
            d = row.d[u // n_subs]
            if d != 0.0:
                a = d * (table.first + table.step * np.float32(row.scales[u]))
                moved += _move_groups(row, table, u, a, group)
                moved += _move_scale(row, table, u, d, group, local)
        for at in range(len(row.d)):
            moved += _refit(row, table, at * block, (at + 1) * block, at, whole)
    return moved
