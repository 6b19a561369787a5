"""Descent over indices, signs, scales and float16 factors of the lattice types; loss and layout as in ``descent``.

Eight weights move at once: signs as the best single weights would have them, then the index whose sizes cost the least,
of all there are: what these cost is a product of what a row asks for and what an index has.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from lwq.values.compiled import compiled
from lwq.values.descent import least_of, put, refit, shift

_GROUP: Final = 8
_STEPS: Final = (0, -1, 1)
"""By how much a scale may move; no move is the first."""
_MOST: Final = 15
"""The greatest scale."""


class Moving(NamedTuple):
    """What a tile's weights are made of: points with signs, times the factor that a scale stands for, times ``d``."""

    points: Any
    """int64 (indices, rows)."""
    signs: Any
    """int64 (groups of eight, rows): bits of negative weights."""
    scales: Any
    """int64 (sub-blocks, rows)."""
    d: Any
    """float32 (quant blocks, rows)."""


class PointTable(NamedTuple):
    """A type, as ``lattices.Lattice`` has it."""

    sizes: Any
    """float32 (entries, indices)."""
    terms: Any
    """float32 (indices, products of two sizes i ≤ j of an index and then its sizes)."""
    sub: int
    first: Any
    """float32, as ``step``."""
    step: Any
    is_even: bool


class _Eight(NamedTuple):
    """Eight weights while they are chosen; float32 (8, rows) where nothing else is said."""

    value: Any
    sign: Any
    linear: Any
    asked: Any
    """(terms, rows): what a point's terms are multiplied by."""
    byte: Any
    """int64 (rows,): bits of negative weights."""
    point: Any
    """int64 (indices, rows)."""
    best: Any
    """(rows,), as ``change``."""
    change: Any


class _Trial(NamedTuple):
    """A sub-block with the scale that is tried, and the best."""

    g: Any
    """float32 (columns, rows), as ``values``."""
    values: Any
    points: Any
    """int64 (indices, rows)."""
    signs: Any
    """int64 (groups, rows)."""
    a: Any
    """float32 (rows,): the step, as ``change`` and ``least``."""
    change: Any
    least: Any
    chosen: Any
    """int64 (rows,): the best of those that were tried; −1 for none."""
    eight: _Eight


def table_of(sizes: Any, sub: int, first: float, step: float, is_even: bool) -> PointTable:
    """A table from its sizes: float32 (indices, entries)."""
    n, columns = sizes.shape[1], np.ascontiguousarray(sizes.T)
    pairs = [sizes[:, i] * sizes[:, j] * (1 if i == j else 2) for i in range(n) for j in range(i, n)]
    terms = np.ascontiguousarray(np.stack([*pairs, *(-2 * sizes.T)], axis=1), np.float32)
    return PointTable(columns, terms, sub, np.float32(first), np.float32(step), is_even)


@compiled
def _choose_signs(eight: Any, q: Any, g: Any, h: Any, a: Any, is_even: bool) -> None:
    """Signs of the best single weights."""
    n_rows = len(a)
    cheapest, worst = np.full(n_rows, np.float32(np.inf)), np.zeros(n_rows, np.int64)
    odd = np.zeros(n_rows, np.int64)
    eight.byte[:] = 0
    for i in range(_GROUP):
        own, sign = h[i, i], eight.sign[i]
        share = np.float32(1.0) / own if own > 0.0 else np.float32(0.0)
        for r in range(n_rows):
            t = q[i, r] + g[i, r] * share
            is_negative = t * a[r] < 0.0
            sign[r] = np.float32(-1.0) if is_negative else np.float32(1.0)
            eight.byte[r] |= int(is_negative) << i
            odd[r] ^= int(is_negative)
            cost = own * abs(t)
            worst[r] = i if cost < cheapest[r] else worst[r]
            cheapest[r] = cost if cost < cheapest[r] else cheapest[r]
    if is_even:
        for r in range(n_rows):
            if odd[r]:
                eight.sign[worst[r], r] = -eight.sign[worst[r], r]
                eight.byte[r] ^= 1 << worst[r]


@compiled
def _cheapest(eight: Any, h: Any, a: Any, table: Any, start: int, point: Any) -> None:
    """The index of the entries from ``start`` on, the other weights of the group as ``value`` has them."""
    n, n_rows, at = len(table.sizes), len(a), 0
    for i in range(start, start + n):
        for j in range(i, start + n):
            asked, left, right, own = eight.asked[at], eight.sign[i], eight.sign[j], h[i, j]
            for r in range(n_rows):
                asked[r] = a[r] * a[r] * left[r] * right[r] * own
            at += 1
    for i in range(start, start + n):
        asked, sign = eight.asked[at], eight.sign[i]
        asked[:] = eight.linear[i]
        for j in range(_GROUP):
            if j < start or j >= start + n:
                shift(asked, eight.value[j], h[i, j])
        for r in range(n_rows):
            asked[r] *= a[r] * sign[r]
        at += 1
    cost, best = np.dot(table.terms, eight.asked), eight.best
    best[:] = cost[0]
    point[:] = 0
    for k in range(1, len(cost)):
        one = cost[k]
        for r in range(n_rows):
            point[r] = k if one[r] < best[r] else point[r]
            best[r] = one[r] if one[r] < best[r] else best[r]


@compiled
def _choose(eight: Any, q: Any, g: Any, h: Any, a: Any, table: Any) -> None:
    """Fills ``value``, ``point``, ``byte`` and ``change``, that of the loss."""
    n, n_rows = len(table.sizes), len(a)
    _choose_signs(eight, q, g, h, a, table.is_even)
    eight.value[:] = q
    eight.linear[:] = g
    for i in range(_GROUP):
        for j in range(_GROUP):
            shift(eight.linear[i], q[j], -h[i, j])
    for part in range(_GROUP // n):
        start, point = part * n, eight.point[part]
        _cheapest(eight, h, a, table, start, point)
        for i in range(n):
            sign, value, sizes = eight.sign[start + i], eight.value[start + i], table.sizes[i]
            for r in range(n_rows):
                value[r] = a[r] * (sign[r] * sizes[point[r]])
    change, pull = eight.change, eight.best
    change[:] = 0.0
    for i in range(_GROUP):
        pull[:] = 0.0
        for j in range(_GROUP):
            value, before, share = eight.value[j], q[j], h[i, j]
            for r in range(n_rows):
                pull[r] += share * (value[r] - before[r])
        for r in range(n_rows):
            change[r] += (eight.value[i, r] - q[i, r]) * (pull[r] - np.float32(2.0) * g[i, r])


@compiled
def _try(tile: Any, of: Any, table: Any, u: int, step: int, trial: Any) -> None:
    """What a sub-block would be with another scale, its groups chosen one after another; kept where it is the best."""
    first, n_rows, n_parts, eight = u * table.sub, len(trial.a), _GROUP // len(table.sizes), trial.eight
    at, n_groups, own = (
        u * len(of.d) // len(of.scales),
        table.sub // _GROUP,
        tile.h[first : first + table.sub, first : first + table.sub],
    )
    values = np.empty((table.sub, n_rows), np.float32)
    points, signs = np.empty((n_groups * n_parts, n_rows), np.int64), np.empty((n_groups, n_rows), np.int64)
    for r in range(n_rows):
        factor = table.first + table.step * np.float32(of.scales[u, r] + _STEPS[step])
        trial.a[r] = of.d[at, r] * factor
        trial.change[r] = 0.0
    trial.g[:] = tile.g[first : first + table.sub]
    for group in range(n_groups):
        start = group * _GROUP
        stop = start + _GROUP
        q = tile.q[first + start : first + stop]
        _choose(eight, q, trial.g[start:stop], own[start:stop, start:stop], trial.a, table)
        values[start:stop] = eight.value
        signs[group] = eight.byte
        points[group * n_parts : (group + 1) * n_parts] = eight.point
        if step == 0:  # a point that costs more than the one that is there is not taken
            for r in range(n_rows):
                if not eight.change[r] < 0.0:
                    values[start:stop, r] = q[:, r]
                    signs[group, r] = of.signs[first // _GROUP + group, r]
                    for part in range(n_parts):
                        points[group * n_parts + part, r] = of.points[(first // _GROUP + group) * n_parts + part, r]
                    eight.change[r] = 0.0
        for r in range(n_rows):
            trial.change[r] += eight.change[r]
        for i in range(_GROUP):
            delta = values[start + i] - q[i]
            for k in range(stop, table.sub):
                shift(trial.g[k], delta, own[start + i, k])
    for r in range(n_rows):
        if 0 <= of.scales[u, r] + _STEPS[step] <= _MOST and trial.change[r] < trial.least[r]:
            trial.least[r], trial.chosen[r] = trial.change[r], step
            trial.values[:, r], trial.points[:, r], trial.signs[:, r] = values[:, r], points[:, r], signs[:, r]


@compiled
def _move(tile: Any, of: Any, table: Any, u: int, trial: Any) -> int:
    """A sub-block to the best of its own scale and the two beside it."""
    first, n_rows, moved = u * table.sub, len(trial.a), 0
    n_groups, n_points = table.sub // _GROUP, table.sub // len(table.sizes)
    chosen = trial.chosen
    chosen[:] = -1
    least_of(tile, first, first + table.sub, trial.least)
    for step in range(len(_STEPS)):
        _try(tile, of, table, u, step, trial)
    for r in range(n_rows):
        if chosen[r] < 0:
            trial.values[:, r] = tile.q[first : first + table.sub, r]
            continue
        of.scales[u, r] += _STEPS[chosen[r]]
        of.points[u * n_points : (u + 1) * n_points, r] = trial.points[:, r]
        of.signs[u * n_groups : (u + 1) * n_groups, r] = trial.signs[:, r]
        moved += 1
    if moved:
        put(tile, first, trial.values)
    return moved


@compiled
def _signed(of: Any, table: Any, j: int, out: Any) -> None:
    """The sizes of column ``j`` with their signs."""
    n = len(table.sizes)
    points, signs, sizes = of.points[j // n], of.signs[j // _GROUP], table.sizes[j % n]
    for r in range(len(out)):
        size = sizes[points[r]]
        out[r] = -size if (signs[r] >> (j % _GROUP)) & 1 else size


@compiled
def _refit(tile: Any, of: Any, table: Any, at: int, block: int) -> int:
    """One quant block."""
    first, n_rows, d = at * block, tile.q.shape[1], of.d[at]
    v, none = np.empty((block, n_rows), np.float32), np.empty((0, n_rows), np.float32)
    for j in range(block):
        _signed(of, table, first + j, v[j])
        for r in range(n_rows):
            v[j, r] *= table.first + table.step * np.float32(of.scales[(first + j) // table.sub, r])
    changed = refit(tile, first, v, none, d, np.zeros(n_rows, np.float32))
    moved = int(changed.sum())
    if moved:
        for j in range(block):
            _signed(of, table, first + j, v[j])
            for r in range(n_rows):
                factor = table.first + table.step * np.float32(of.scales[(first + j) // table.sub, r])
                v[j, r] = d[r] * factor * v[j, r] if changed[r] else tile.q[first + j, r]
        put(tile, first, v)
    return moved


@compiled
def descend_points(tile: Any, of: Any, table: Any) -> int:
    """Moves everything once: ``of``, a ``Moving``, by a ``PointTable``; returns the number of moves."""
    n_subs, n_rows = len(of.scales) // len(of.d), tile.q.shape[1]
    n, n_terms = table.sub // len(table.sizes), table.terms.shape[1]
    wide, flat = np.empty((3, _GROUP, n_rows), np.float32), np.empty((5, n_rows), np.float32)
    eight = _Eight(
        wide[0], wide[1], wide[2], np.empty((n_terms, n_rows), np.float32), np.empty(n_rows, np.int64),
        np.empty((_GROUP // len(table.sizes), n_rows), np.int64), flat[0], flat[1],
    )  # fmt: skip
    both = np.empty((2, table.sub, n_rows), np.float32)
    trial = _Trial(
        both[0], both[1], np.empty((n, n_rows), np.int64), np.empty((table.sub // _GROUP, n_rows), np.int64),
        flat[2], flat[3], flat[4], np.empty(n_rows, np.int64), eight,
    )  # fmt: skip
    moved = 0
    for u in range(len(of.scales)):
        moved += _move(tile, of, table, u, trial)
    for at in range(len(of.d)):
        moved += _refit(tile, of, table, at, n_subs * table.sub)
    return moved
