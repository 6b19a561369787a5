"""Which type each tensor of one model may get, what that is predicted to cost, and the best choice within a budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lwq.bits.damage import TensorDamage, damages, sum_of
from lwq.bits.knapsack import Group, solve
from lwq.bits.options import check_ties, groups, spread
from lwq.bits.stock import obstacle
from lwq.gguf.header import GgufHeader
from lwq.gguf.types import TensorInfo, tensor_bytes
from lwq.recipe.constraints import Constraints
from lwq.record.search import TensorSensitivity


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """The best predicted choice among groups of tensors."""

    chosen: Mapping[str, str]
    """Group → type."""
    groups: tuple[Group, ...]

    @property
    def types(self) -> dict[str, str]:
        """Tensor → type."""
        return spread(self.chosen, self.groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A model whose sensitivity is known, constraints, and what was measured of it since."""

    header: GgufHeader
    tensors: tuple[TensorSensitivity, ...]
    constraints: Constraints
    probes: dict[tuple[str, str], float] = field(default_factory=dict)
    """Further probes: (tensor, type) → KLD in nats."""

    def check(self) -> None:
        """Raises UsageError for constraints that no tensor of the model can keep to."""
        check_ties(self.targets, self.constraints)

    @property
    def targets(self) -> tuple[TensorInfo, ...]:
        """The tensors that get a type."""
        names = {t.tensor for t in self.tensors}
        return tuple(t for t in self.header.tensors if t.name in names)

    @property
    def other_bytes(self) -> int:
        """Of the tensors that keep the type they have."""
        return sum(t.n_bytes for t in self.header.tensors) - sum(t.n_bytes for t in self.targets)

    def damages(self) -> dict[str, TensorDamage]:
        """Tensor → its predicted damage by type."""
        return damages(self.tensors, self.probes)

    def groups(self, exponent: float = 1.0) -> tuple[Group, ...]:
        """What the constraints leave; damage grows with that power of the local error."""
        return groups(self.targets, self.damages(), self.constraints, exponent)

    def solved(self, budget_bytes: int, exponent: float = 1.0) -> Solution:
        """The least predicted damage within bytes of all tensors.

        Raises:
            BudgetError: the smallest allowed types take more.
        """
        free = self.groups(exponent)
        return Solution(chosen=solve(free, budget_bytes - self.other_bytes), groups=free)

    def n_bytes(self, types: Mapping[str, str]) -> int:
        """Bytes of all tensors in a mix."""
        return self.other_bytes + sum(tensor_bytes(t.ne, types[t.name]) for t in self.targets)

    def predicted(self, types: Mapping[str, str]) -> float:
        """Sum of the single predicted damages of a mix, nats."""
        return sum_of(types, self.damages())

    def obstacle(self, types: Mapping[str, str], n_bytes: int, budget_bytes: int) -> str:
        """Why a mix cannot be chosen; empty where it may."""
        if n_bytes > budget_bytes:
            return "larger than the budget"
        return obstacle(types, self.groups(), self.constraints)
