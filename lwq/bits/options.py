"""What each tensor may be stored as, under a user's constraints, as groups for the knapsack."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from lwq.bits.damage import TensorDamage
from lwq.bits.knapsack import Group, Option
from lwq.errors import UsageError
from lwq.gguf.types import TensorInfo, fallback_type, tensor_bytes, type_bpw
from lwq.recipe.constraints import Constraints


def groups(
    tensors: Iterable[TensorInfo], damages: Mapping[str, TensorDamage], constraints: Constraints, exponent: float = 1.0
) -> tuple[Group, ...]:
    """One group for each tensor or tie, with every option that the constraints leave.

    Args:
        damages: tensors of which nothing is known cannot be given a type.
        exponent: damage grows with this power of the local error instead of with the error itself.

    Raises:
        UsageError: constraints that leave a tensor no type.
    """
    tied: dict[tuple[int | None, object], list[TensorInfo]] = {}
    for tensor in tensors:
        tie = next((classes for classes in constraints.ties if tensor.tensor_class in classes), tensor.name)
        tied.setdefault((tensor.layer, tie), []).append(tensor)
    by_name = (sorted(members, key=lambda t: t.name) for members in tied.values())
    return tuple(_group(members, damages, constraints, exponent) for members in by_name)


def check_ties(tensors: Iterable[TensorInfo], constraints: Constraints) -> None:
    """Raises UsageError for a tie with a class that no tensor of the model has."""
    classes = sorted({t.tensor_class for t in tensors})
    if strange := [c for tie in constraints.ties for c in tie if c not in classes]:
        hint = f"it has {', '.join(classes)}"
        raise UsageError(f"ties name {strange[0]!r}, which is no tensor class of this model", hint=hint)


def _group(
    members: list[TensorInfo], damages: Mapping[str, TensorDamage], constraints: Constraints, exponent: float
) -> Group:
    allowed = [_allowed(t, damages[t.name], constraints) for t in members]
    common = [q for q in allowed[0] if all(q in more for more in allowed[1:])]
    if not common:
        names = ", ".join(t.name for t in members)
        raise UsageError(f"the constraints leave no type for {names}", hint="loosen types, min_types or ties")
    options = tuple(
        Option(
            label=q,
            n_bytes=sum(tensor_bytes(t.ne, q) for t in members),
            damage=sum(damage_with_exponent(damages[t.name], q, exponent) for t in members),
        )
        for q in common
    )
    return Group(name=members[0].name, members=tuple(t.name for t in members), options=options, layer=members[0].layer)


def damage_with_exponent(damage: TensorDamage, ggml_type: str, exponent: float) -> float:
    """The predicted damage, growing with another power of the local error than 1 from the first probe on."""
    predicted = damage.predicted_or_near(ggml_type)  # a fixed type may be one that has no curve
    at = next(iter(damage.probes), None)
    if exponent == 1.0 or at is None or not damage.errors.get(at) or not damage.errors.get(ggml_type):
        return predicted
    return float(predicted * (damage.errors[ggml_type] / damage.errors[at]) ** (exponent - 1))


def _allowed(tensor: TensorInfo, damage: TensorDamage, constraints: Constraints) -> tuple[str, ...]:
    known = sorted(damage.errors, key=lambda q: (type_bpw(q), q))
    if (fixed := matched(tensor.name, constraints.fixed)) is not None:
        return (fallback_type(fixed, tensor.ne[0]),)
    usable = [q for q in known if q in constraints.types] or known[:1]
    if (least := matched(tensor.name, constraints.min_types)) is not None:
        floor = type_bpw(fallback_type(least, tensor.ne[0]))
        usable = [q for q in usable if type_bpw(q) >= floor] or [q for q in known if type_bpw(q) >= floor]
    return tuple(usable)


def matched(name: str, patterns: Iterable[tuple[str, str]]) -> str | None:
    """The type of the first pattern that is found in the name, as llama-quantize searches it."""
    return next((ggml_type for pattern, ggml_type in patterns if re.search(pattern, name)), None)


def spread(chosen: Mapping[str, str], groups: Iterable[Group]) -> dict[str, str]:
    """Tensor → type of a choice among groups."""
    return {member: chosen[group.name] for group in groups for member in group.members}
