"""What a target's file is made from: the base, or a base without some layers, with what was measured of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from lwq.plan.sources import Sources
from lwq.recipe.budget import Budget
from lwq.recipe.schema import Recipe
from lwq.recipe.target import Target
from lwq.record.record import Role
from lwq.steps import cut, heal, lean, parts, prune
from lwq.steps.step import Made, Origin

Add = Callable[[str, Any, Any], str]
"""(label, step module, inputs) → the step's key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A base, its importance matrix, and its sensitivity where a budget asks for it."""

    name: str
    """Ends the labels of its steps; empty for the whole model."""
    base: Made
    imatrix: Origin
    measured: Made | None

    def label(self, step: str) -> str:
        return f"{step}:{self.name}" if self.name else step


def sets_wanted(recipe: Recipe) -> tuple[int, ...]:
    """Numbers of layers that targets ask to remove by measurement; empty where none does."""
    counts = {t.prune for t in recipe.targets if isinstance(t.prune, int)}
    if any(t.prune == "auto" for t in recipe.targets):
        counts |= set(range(1, recipe.pruning.max_layers + 1))
    return tuple(sorted(counts))


@dataclass(frozen=True, slots=True, kw_only=True)
class PruningPlan:
    """The steps that measure, choose, heal and cut layers of one recipe."""

    recipe: Recipe
    sources: Sources
    add: Add
    base: Made
    pruned: Made | None = None
    """The step that measured layers and found sets."""
    healed: Made | None = None

    def measured(self, imatrix: Origin, sensitivity: Made | None, *, always: bool = False) -> PruningPlan:
        """With the steps that all targets share added, as far as any target needs them (``always``: the scores)."""
        recipe, text = self.recipe, self.recipe.calibration
        counts = sets_wanted(recipe)
        if not counts and not always:
            return self
        auto = tuple(
            prune.Wanted(budget=budget, constraints=t.constraints())
            for t in recipe.targets
            if t.prune == "auto" and (budget := t.wanted())
        )
        inputs = prune.Inputs(
            base=self.base,
            imatrix=imatrix,
            text=self.sources.texts["calibration"].given,
            n_ctx=text.n_ctx,
            n_windows=recipe.pruning.n_windows,
            n_layers=max(counts, default=0),
            sensitivity=sensitivity if auto else None,
            budgets=auto,
            beam=recipe.pruning.beam,
            contiguous=recipe.pruning.contiguous,
            allow_edge=recipe.pruning.allow_edge,
        )
        found = replace(self, pruned=Made(step="prune", key=self.add("prune", prune, inputs), name=""))
        if any(t.is_healed() and not t.prune_layers for t in recipe.targets):
            return replace(found, healed=found._heal("heal", () if auto else counts, ()))
        return found

    def _heal(self, label: str, counts: tuple[int, ...], layers: tuple[int, ...]) -> Made:
        texts = self.sources.texts
        inputs = heal.Inputs(
            base=self.base,
            prune=None if layers else self.pruned,
            counts=counts,
            layers=layers,
            allow_edge=self.recipe.pruning.allow_edge,
            fit_text=texts["calibration"].given,
            n_fit_windows=self.recipe.pruning.n_fit_windows,
            text=texts["selection" if self.recipe.selection else "evaluation"].given,
            n_windows=self.recipe.sensitivity.n_selection_windows,
            n_ctx=self.recipe.calibration.n_ctx,
        )
        return Made(step="heal", key=self.add(label, heal, inputs), name="")

    def cut(self, target: Target) -> Made:
        """The pruned base of a target that says which or how many layers go."""
        by_hand, count = bool(target.prune_layers), target.prune if isinstance(target.prune, int) else 0
        named = f"without-{'-'.join(map(str, target.prune_layers))}" if by_hand else f"pruned{count}"
        healed = None
        if target.is_healed():
            healed = self._heal(f"heal:{named}", (), target.prune_layers) if by_hand else self.healed
        name = named + ("" if healed else "-unhealed")  # targets that lose the same layers share it
        inputs = cut.Inputs(
            base=self.base,
            prune=None if by_hand else self.pruned,
            count=count,
            layers=target.prune_layers,
            heal=healed,
            allow_edge=self.recipe.pruning.allow_edge,
            text=self.sources.texts["calibration"].given,
            n_ctx=self.recipe.calibration.n_ctx,
            file=f"{self.sources.model.name}-{name}-{self.recipe.base_type.upper()}.gguf",
        )
        return Made(step="cut", key=self.add(f"cut:{name}", cut, inputs), name=inputs.file)

    def lean(self, target: Target, budget: Budget, found: Made, whole: Line) -> Made:
        """The choice between the searched allocation and allocations of fewer layers."""
        assert whole.measured
        assert self.healed
        recipe, calibration = self.recipe, self.recipe.calibration
        role: Role = "selection" if recipe.selection else "evaluation"
        inputs = lean.Inputs(
            base=whole.base,
            imatrix=whole.imatrix,
            sensitivity=whole.measured,
            search=found,
            heal=self.healed,
            budget=budget,
            ftype=target.label_of(budget),
            constraints=target.constraints(),
            fit_text=self.sources.texts["calibration"].given,
            fit_n_ctx=calibration.n_ctx,
            fit_n_chunks=calibration.n_chunks,
            process_output=recipe.process_output,
            text=self.sources.texts[role].given,
            n_ctx=recipe.texts()[role].n_ctx,
            n_windows=recipe.sensitivity.n_selection_windows,
            file=found.name,
            cut_file=f"{self.sources.model.name}-{target.name}-{recipe.base_type.upper()}.gguf",
        )
        return Made(step="lean", key=self.add(f"allocate:{target.name}", lean, inputs), name=found.name)

    def parts(self, name: str, origin: Made, row: Origin, logits: Made) -> None:
        """What pruning and what quantizing cost a row."""
        assert isinstance(row, Made)
        text = self.recipe.evaluation
        inputs = parts.Inputs(
            base=origin,
            candidate=row,
            baseline=logits,
            text=self.sources.texts["evaluation"].given,
            n_ctx=text.n_ctx,
        )
        self.add(f"parts:{name}", parts, inputs)
