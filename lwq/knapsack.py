"""The best allocation within a budget: one type for each group of tensors, least damage, exact.

A multiple-choice knapsack: a Lagrangian bound leaves out what no optimum can hold, HiGHS (``scipy.optimize.milp``)
solves the rest as a mixed-integer program. A layer may be a choice too: removed, it takes no bytes and costs its own
damage.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lwq.errors import LwqError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Doubles = NDArray[np.float64]
    Places = NDArray[np.int64]
    Flags = NDArray[np.bool_]

REMOVED: Final = "removed"
_GAP: Final = 1e-7
_SECONDS: Final = 60.0
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
    """Tensors that get one type together, and their ways; ``layer`` where their layer may be removed."""

    name: str
    members: tuple[str, ...]
    options: tuple[Option, ...]
    layer: int | None = None


class BudgetError(LwqError):
    """A budget that no allowed allocation fits."""


def solve(groups: Sequence[Group], budget_bytes: int, removable: Mapping[int, float] | None = None) -> dict[str, str]:
    """Group → label of the chosen option (``removed`` where its layer goes); never above the budget.

    Args:
        removable: layer → damage of removing it (nats), for layers that may go.

    Raises:
        BudgetError: even the smallest choices take more bytes.
    """
    layers = removable or {}
    ordered = sorted(groups, key=lambda g: g.name)
    offered = [(g, undominated(g.options)) for g in ordered]
    least = sum(min(o.n_bytes for o in options) for g, options in offered if g.layer not in layers)
    if least > budget_bytes:
        raise BudgetError(
            f"the budget is {budget_bytes:,} bytes of tensors, but the smallest allowed types take {least:,}",
            hint="raise the budget, allow smaller types, or lower what min_types asks for",
        )
    table = _table(offered, layers)
    picked, gone = _milp(table, budget_bytes)
    labels = [option.label for _, options in offered for option in options]
    chosen = {group.name: labels[at] for (group, _), at in zip(offered, picked, strict=True)}
    return chosen | {group.name: REMOVED for group, _ in offered if group.layer in gone}


def undominated(options: Iterable[Option]) -> tuple[Option, ...]:
    """Options by bytes, without those that another beats in bytes and damage; ties go to the first label."""
    kept: list[Option] = []
    for option in sorted(options, key=lambda o: (o.n_bytes, o.damage, o.label)):
        if not kept or option.damage < kept[-1].damage:
            kept.append(option)
    return tuple(kept)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Table:
    """All options of all groups, one after another; ``layer_of`` is -1 for groups whose layer stays."""

    damage: Doubles
    n_bytes: Doubles
    starts: Places
    group_of: Places
    layer_of: Places
    layers: tuple[int, ...]
    removal: Doubles

    def cheapest(self, price: float) -> tuple[Doubles, Places, Doubles, Flags]:
        """With bytes at that price: least cost and its option of each group, cost of each layer kept, groups gone."""
        import numpy as np

        cost = self.damage + price * self.n_bytes
        least: Doubles = np.minimum.reduceat(cost, self.starts)
        at = np.flatnonzero(cost == least[self.group_of])
        picked = at[np.unique(self.group_of[at], return_index=True)[1]]
        kept = np.bincount(self.layer_of + 1, weights=least, minlength=len(self.layers) + 1)[1:].astype(np.float64)
        gone: Flags = np.append(self.removal < kept, False)[self.layer_of]
        return least, picked, kept, gone

    def bytes_at(self, price: float) -> float:
        _, picked, _, gone = self.cheapest(price)
        return float(self.n_bytes[picked][~gone].sum())


def _table(offered: Sequence[tuple[Group, tuple[Option, ...]]], layers: Mapping[int, float]) -> _Table:
    import numpy as np

    numbers = tuple(sorted({g.layer for g, _ in offered if g.layer in layers and g.layer is not None}))
    place = {layer: k for k, layer in enumerate(numbers)}
    flat = [option for _, options in offered for option in options]
    sizes = np.array([len(options) for _, options in offered], dtype=np.int64)
    return _Table(
        damage=np.array([o.damage for o in flat], dtype=np.float64),
        n_bytes=np.array([o.n_bytes for o in flat], dtype=np.float64),
        starts=np.cumsum(sizes) - sizes,
        group_of=np.repeat(np.arange(len(sizes)), sizes),
        layer_of=np.array([-1 if g.layer is None else place.get(g.layer, -1) for g, _ in offered], dtype=np.int64),
        layers=numbers,
        removal=np.array([layers[layer] for layer in numbers], dtype=np.float64),
    )


def _price(table: _Table, budget_bytes: int) -> float:
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


def _greedy(table: _Table, price: float, budget_bytes: int) -> tuple[Places, Flags]:
    """The cheapest choice at that price, with the largest improvements that still fit: (options, groups gone)."""
    _, picked, _, gone = table.cheapest(price)
    spare = budget_bytes - float(table.n_bytes[picked][~gone].sum())
    while True:
        grown = table.n_bytes - table.n_bytes[picked][table.group_of]
        change = table.damage - table.damage[picked][table.group_of]
        change[(grown > spare) | gone[table.group_of]] = 0.0
        if not len(change) or change[best := int(change.argmin())] >= 0:
            return picked, gone
        picked[table.group_of[best]] = best
        spare -= float(grown[best])


def _milp(table: _Table, budget_bytes: int) -> tuple[list[int], set[int]]:
    """The option of each group, and the layers removed.

    What costs, at the best price of a byte, more above the least than the gap between bound and a greedy allocation
    is in no better allocation, and left out. Source: Kellerer, Pferschy, Pisinger, Knapsack Problems (2004), 11.4.
    """
    import numpy as np

    if not len(table.damage):
        return [], set()
    price = _price(table, budget_bytes)
    picked, gone = _greedy(table, price, budget_bytes)
    gone_layers = {int(k) for k in np.unique(table.layer_of[gone])}
    upper = float(table.damage[picked][~gone].sum() + table.removal[sorted(gone_layers)].sum())
    least, _, kept, _ = table.cheapest(price)
    bound = least[table.layer_of < 0].sum() + np.minimum(kept, table.removal).sum() - price * budget_bytes
    gap = upper - float(bound) + 1e-9 * upper + 1e-12 * price * budget_bytes  # with room for rounding
    extra = np.append(np.maximum(kept - table.removal, 0), 0.0)[table.layer_of]
    open_ = np.flatnonzero(table.damage + price * table.n_bytes - (least - extra)[table.group_of] <= gap)
    removable = np.flatnonzero(table.removal - kept <= gap)
    short = 0
    while (found := _solved(table, open_, removable, budget_bytes - short, upper)) is not None:
        at, out = open_[found[: len(open_)]], removable[found[len(open_) :]]
        if (over := int(table.n_bytes[at].sum()) - budget_bytes) <= 0:
            if table.damage[at].sum() + table.removal[out].sum() <= upper:
                picked[table.group_of[at]] = at
                gone_layers = {int(k) for k in out}
            break
        short += over  # the solver's rounding broke the budget
    return [int(at) for at in picked], {table.layers[k] for k in gone_layers}


def _solved(table: _Table, open_: Places, removable: Places, budget_bytes: int, upper: float) -> Flags | None:
    """Which of these options and removals the best allocation has; None if HiGHS found nothing."""
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_matrix

    n, n_groups, groups = len(open_) + len(removable), len(table.starts), table.group_of[open_]
    of_layers = [np.flatnonzero(table.layer_of == k) for k in removable]
    rows = np.concatenate([groups, *of_layers])
    columns = np.concatenate(
        [np.arange(len(open_)), *(np.full(len(g), len(open_) + k) for k, g in enumerate(of_layers))]
    )
    least = np.full(n_groups, np.inf)
    np.minimum.at(least, groups, table.n_bytes[open_])
    least[np.isinf(least)] = 0.0
    sizes = np.concatenate([table.n_bytes[open_] - least[groups], [-least[g].sum() for g in of_layers]])
    unit = max(1, int(np.gcd.reduce(sizes.astype(np.int64))))  # whole numbers, so that rounding cannot break the budget
    with _silent():
        result = milp(
            np.concatenate([table.damage[open_], table.removal[removable]]) * (_UNITS / (upper or 1.0)),
            constraints=[
                LinearConstraint(csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(n_groups, n)), 1, 1),
                LinearConstraint(csr_matrix(sizes / unit), -np.inf, (budget_bytes - int(least.sum())) // unit),
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
