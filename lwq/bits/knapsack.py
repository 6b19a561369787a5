"""The best allocation within a budget: one type for each group of tensors, least damage, exact.

A multiple-choice knapsack: a Lagrangian bound leaves out what no optimum can hold, HiGHS (``scipy.optimize.milp``)
solves the rest as a mixed-integer program.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lwq.errors import LwqError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lwq.metrics.arrays import Doubles

    Places = NDArray[np.int64]
    Flags = NDArray[np.bool_]
    _Cover = tuple[Flags, int]

_GAP: Final = 1e-7
_SECONDS: Final = 60.0
_TRIES: Final = 50
"""Choices of the solver that break the budget by its rounding, after which the greedy one stays."""
_UNITS: Final = 1000.0
"""An allocation near the best has about this objective: HiGHS also stops at an absolute gap of 1e-6."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One way to store a group of tensors."""

    label: str
    n_bytes: int
    damage: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Tensors that get one type together, and their ways; ``layer``: the one they are in."""

    name: str
    members: tuple[str, ...]
    options: tuple[Option, ...]
    layer: int | None = None


class BudgetError(LwqError):
    """A budget that no allowed allocation fits."""


def solve(groups: Sequence[Group], budget_bytes: int) -> dict[str, str]:
    """Group → label of the chosen option; never above the budget.

    Raises:
        BudgetError: even the smallest choices take more bytes.
    """
    ordered = sorted(groups, key=lambda g: g.name)
    offered = [undominated(g.options) for g in ordered]
    least = sum(min(o.n_bytes for o in options) for options in offered)
    if least > budget_bytes:
        raise BudgetError(
            f"the budget is {budget_bytes:,} bytes of tensors, but the smallest allowed types take {least:,}",
            hint="raise the budget, allow smaller types, or lower what min_types asks for",
        )
    labels = [option.label for options in offered for option in options]
    return {
        group.name: labels[at] for group, at in zip(ordered, _milp(_option_table(offered), budget_bytes), strict=True)
    }


def undominated(options: Iterable[Option]) -> tuple[Option, ...]:
    """Options by bytes, without those that another beats in bytes and damage; ties go to the first label."""
    kept: list[Option] = []
    for option in sorted(options, key=lambda o: (o.n_bytes, o.damage, o.label)):
        if not kept or option.damage < kept[-1].damage:
            kept.append(option)
    return tuple(kept)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _OptionTable:
    """All options of all groups, one after another."""

    damage: Doubles
    n_bytes: Doubles
    starts: Places
    group_of: Places

    def cheapest(self, price: float) -> tuple[Doubles, Places]:
        """With bytes at that price: the least cost of each group, and its option."""
        import numpy as np

        cost = self.damage + price * self.n_bytes
        least: Doubles = np.minimum.reduceat(cost, self.starts)
        at = np.flatnonzero(cost == least[self.group_of])
        return least, at[np.unique(self.group_of[at], return_index=True)[1]]

    def bytes_at(self, price: float) -> float:
        return float(self.n_bytes[self.cheapest(price)[1]].sum())


def _option_table(offered: Sequence[Sequence[Option]]) -> _OptionTable:
    import numpy as np

    flat = [option for options in offered for option in options]
    sizes = np.array([len(options) for options in offered], dtype=np.int64)
    return _OptionTable(
        damage=np.array([o.damage for o in flat], dtype=np.float64),
        n_bytes=np.array([o.n_bytes for o in flat], dtype=np.float64),
        starts=np.cumsum(sizes) - sizes,
        group_of=np.repeat(np.arange(len(sizes)), sizes),
    )


def _price(table: _OptionTable, budget_bytes: int) -> float:
    """The least price of a byte at which everybody's cheapest fits the budget (to rounding, from above)."""
    if table.bytes_at(0.0) <= budget_bytes:
        return 0.0
    low, high = 0.0, 1e-6 * (float(table.damage.max()) or 1.0) / (float(table.n_bytes.max()) or 1.0)
    while table.bytes_at(high) > budget_bytes:
        low, high = high, 2 * high
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if table.bytes_at(middle) > budget_bytes else (low, middle)
    return high


def _greedy(table: _OptionTable, price: float, budget_bytes: int) -> Places:
    """Options of the cheapest choice at that price, with the largest improvements that still fit."""
    _, picked = table.cheapest(price)
    spare = budget_bytes - float(table.n_bytes[picked].sum())
    while True:
        grown = table.n_bytes - table.n_bytes[picked][table.group_of]
        change = table.damage - table.damage[picked][table.group_of]
        change[grown > spare] = 0.0
        if change[best := int(change.argmin())] >= 0:
            return picked
        picked[table.group_of[best]] = best
        spare -= float(grown[best])


def _milp(table: _OptionTable, budget_bytes: int) -> list[int]:
    """The option of each group.

    What costs, at the best price of a byte, more above the least than the gap between bound and a greedy allocation
    is in no better allocation, and left out. Source: Kellerer, Pferschy, Pisinger, Knapsack Problems (2004), 11.4.
    """
    import numpy as np

    if not len(table.damage):
        return []
    price = _price(table, budget_bytes)
    picked = _greedy(table, price, budget_bytes)
    upper = float(table.damage[picked].sum())
    least, _ = table.cheapest(price)
    bound = float(least.sum()) - price * budget_bytes
    gap = upper - bound + 1e-9 * upper + 1e-12 * price * budget_bytes  # with room for rounding
    open_ = np.flatnonzero(table.damage + price * table.n_bytes - least[table.group_of] <= gap)
    sizes, first = _beyond(table, open_)
    room = budget_bytes - int(first)
    covers: list[_Cover] = []
    while len(covers) < _TRIES and (taken := _solved(table, open_, room, upper, covers)) is not None:
        at = open_[taken]
        if table.n_bytes[at].sum() <= budget_bytes:
            if table.damage[at].sum() <= upper:
                picked[table.group_of[at]] = at
            break
        covers.append(_cover(table.group_of[open_], sizes, taken, room))
    return [int(at) for at in picked]


def _beyond(table: _OptionTable, open_: Places) -> tuple[Doubles, float]:
    """Bytes of each of these options beyond the smallest of them in its group, and the sum of those smallest."""
    import numpy as np

    groups, n_bytes = table.group_of[open_], table.n_bytes[open_]
    smallest = np.full(len(table.starts), np.inf)
    np.minimum.at(smallest, groups, n_bytes)
    return n_bytes - smallest[groups], float(smallest.sum())


def _cover(groups: Places, sizes: Doubles, taken: Flags, room: int) -> _Cover:
    """What rules out a choice that HiGHS took for one that fits, and all that are as large in the same groups.

    The solver holds a variable for whole within 1e-6: times 1e9 bytes, that hides a thousand.
    """
    import numpy as np

    flags, used, n = np.zeros(len(taken), dtype=bool), 0.0, 0
    for at in sorted(np.flatnonzero(taken), key=lambda i: -sizes[i]):
        flags |= (groups == groups[at]) & (sizes >= sizes[at])
        used, n = used + sizes[at], n + 1
        if used > room:
            break
    return flags, n - 1


def _solved(table: _OptionTable, open_: Places, room: int, upper: float, covers: Sequence[_Cover]) -> Flags | None:
    """Which of these options the best allocation has; None if HiGHS found nothing.

    Args:
        room: bytes that the choice may take beyond the smallest options.
        covers: options, and how many of them a choice has at most.
    """
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_matrix

    n, groups = len(open_), table.group_of[open_]
    sizes, _ = _beyond(table, open_)
    unit = max(1, int(np.gcd.reduce(sizes.astype(np.int64))))  # whole numbers, as small as can be
    with _silent():
        result = milp(
            table.damage[open_] * (_UNITS / (upper or 1.0)),
            constraints=[
                LinearConstraint(csr_matrix((np.ones(n), (groups, np.arange(n)))), 1, 1),
                LinearConstraint(csr_matrix(sizes / unit), -np.inf, room // unit),
                *(LinearConstraint(csr_matrix(flags.astype(np.float64)), -np.inf, most) for flags, most in covers),
            ],
            integrality=np.ones(n),
            bounds=Bounds(0, 1),
            options={"mip_rel_gap": _GAP, "time_limit": _SECONDS},
        )
    return None if result.x is None else np.asarray(result.x > 0.5)


@contextmanager
def _silent() -> Iterator[None]:
    """Nothing reaches stdout: HiGHS prints a line of its own now and then, whatever it is told."""
    sys.stdout.flush()
    libc, kept, nowhere = ctypes.CDLL(None), os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        libc.fflush(None)
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
