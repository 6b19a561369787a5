"""The best allocation within a budget: one type for each group of tensors, least damage, exact.

A multiple-choice knapsack as a mixed-integer program, solved by HiGHS (``scipy.optimize.milp``). A layer may be a
choice too: removed, it takes no bytes and costs its own damage.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lwq.errors import LwqError

REMOVED: Final = "removed"
_GAP: Final = 1e-7
_SECONDS: Final = 60.0


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
    chosen = _milp(offered, budget_bytes, layers)
    return _filled_up(chosen, offered, budget_bytes)


def undominated(options: Iterable[Option]) -> tuple[Option, ...]:
    """Options by bytes, without those that another beats in bytes and damage; ties go to the first label."""
    kept: list[Option] = []
    for option in sorted(options, key=lambda o: (o.n_bytes, o.damage, o.label)):
        if not kept or option.damage < kept[-1].damage:
            kept.append(option)
    return tuple(kept)


def _milp(
    offered: Sequence[tuple[Group, tuple[Option, ...]]], budget_bytes: int, layers: Mapping[int, float]
) -> dict[str, str]:
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_matrix

    flat = [(i, option) for i, (_, options) in enumerate(offered) for option in options]
    gone = sorted(layers)
    n = len(flat) + len(gone)
    damage = np.array([o.damage for _, o in flat] + [layers[layer] for layer in gone])
    n_bytes = np.array([o.n_bytes for _, o in flat] + [0] * len(gone), dtype=np.float64)
    rows = [i for i, _ in flat]
    columns = list(range(len(flat)))
    for k, layer in enumerate(gone):
        for i, (group, _) in enumerate(offered):
            if group.layer == layer:
                rows.append(i)
                columns.append(len(flat) + k)
    one_each = csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(offered), n))
    scale = float(damage.max(initial=0.0)) or 1.0
    unit = float(n_bytes.max(initial=1.0))
    result = milp(
        damage / scale,
        constraints=[
            LinearConstraint(one_each, 1, 1),
            LinearConstraint(csr_matrix(n_bytes / unit), -np.inf, budget_bytes / unit),
        ],
        integrality=np.ones(n),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": _GAP, "time_limit": _SECONDS},
    )
    if result.x is None:
        raise BudgetError(f"no allocation within {budget_bytes:,} bytes: {result.message}", hint="raise the budget")
    picked = {i: option.label for (i, option), x in zip(flat, result.x, strict=False) if x > 0.5}
    return {group.name: picked.get(i, REMOVED) for i, (group, _) in enumerate(offered)}


def _filled_up(
    chosen: dict[str, str], offered: Sequence[tuple[Group, tuple[Option, ...]]], budget_bytes: int
) -> dict[str, str]:
    """The choice, mended where rounding broke the budget, and with what still fits of free improvements."""
    by_label = {g.name: {o.label: o for o in options} for g, options in offered}
    total = sum(by_label[name][label].n_bytes for name, label in chosen.items() if label != REMOVED)
    while total > budget_bytes:
        _, name, smaller = min(_smaller(chosen, by_label))
        total -= by_label[name][chosen[name]].n_bytes - by_label[name][smaller].n_bytes
        chosen[name] = smaller
    return chosen


def _smaller(
    chosen: Mapping[str, str], by_label: Mapping[str, Mapping[str, Option]]
) -> Iterable[tuple[float, str, str]]:
    for name, label in chosen.items():
        if label == REMOVED:
            continue
        here = by_label[name][label]
        for option in by_label[name].values():
            if option.n_bytes < here.n_bytes:
                yield (option.damage - here.damage) / (here.n_bytes - option.n_bytes), name, option.label
