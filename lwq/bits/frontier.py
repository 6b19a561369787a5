"""The best predicted allocation of many budgets from one measurement of sensitivity."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from lwq.bits import options
from lwq.bits.damage import TensorDamage, damages
from lwq.bits.knapsack import Group, solve
from lwq.bits.stock import unread
from lwq.gguf.header import GgufHeader
from lwq.gguf.types import TensorInfo, fallback_type, tensor_bytes, type_bpw
from lwq.recipe.constraints import TYPE_SETS, Constraints
from lwq.record.search import FrontierPoint, TensorSensitivity

N_POINTS: Final = 16


def frontier(
    header: GgufHeader, tensors: Iterable[TensorSensitivity], constraints: Constraints, n_points: int = N_POINTS
) -> tuple[FrontierPoint, ...]:
    """Predicted KLD (sum of single damages, nats) at budgets evenly spaced from the smallest to the largest types.

    Tensors that predicting does not read count as much as the others do on average.
    """
    tensors = tuple(tensors)
    names = unread(tensors)
    aside = tuple(t for t in header.tensors if t.name in names)
    groups, others = choices(header, damages((t for t in tensors if t.tensor not in names), {}), constraints)
    others -= sum(t.n_bytes for t in aside)
    least, most = least_and_most(groups)
    steps = max(1, n_points - 1)
    budgets = sorted({least + (most - least) * i // steps for i in range(n_points)})
    n_free = sum(t.n_elements for t in header.tensors if t.name in {m for g in groups for m in g.members})

    def point(budget: int) -> FrontierPoint:
        n_bytes, kld = totals(groups, solve(groups, budget))
        total = n_bytes + others + _alike(aside, 8 * n_bytes / max(1, n_free))
        return FrontierPoint(bpw=8 * total / header.n_params, n_bytes=total, predicted_kld=kld)

    return tuple(point(budget) for budget in budgets)


def _alike(tensors: Iterable[TensorInfo], bpw: float) -> int:
    """Bytes of tensors in the type that is nearest to those bits per weight."""
    near = min(TYPE_SETS["no-iq"], key=lambda q: (abs(type_bpw(q) - bpw), q))
    return sum(tensor_bytes(t.ne, fallback_type(near, t.ne[0])) for t in tensors)


def choices(
    header: GgufHeader, known: Mapping[str, TensorDamage], constraints: Constraints, without: Collection[int] = ()
) -> tuple[tuple[Group, ...], int]:
    """What the tensors of a model without some layers may be, and the bytes of those that keep their type."""
    staying = [t for t in header.tensors if t.layer not in without]
    free = options.groups((t for t in staying if t.name in known), known, constraints)
    return free, sum(t.n_bytes for t in staying if t.name not in known)


def least_and_most(groups: Iterable[Group]) -> tuple[int, int]:
    """Bytes of the smallest and of the largest choice."""
    sizes = [[o.n_bytes for o in g.options] for g in groups]
    return sum(map(min, sizes)), sum(map(max, sizes))


def totals(groups: Iterable[Group], chosen: Mapping[str, str]) -> tuple[int, float]:
    """(bytes, sum of damages) of a choice."""
    picked = [next(o for o in g.options if o.label == chosen[g.name]) for g in groups]
    return sum(o.n_bytes for o in picked), sum(o.damage for o in picked)
