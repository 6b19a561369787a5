"""The steps that measure, choose, heal and cut layers."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lwq.plan.plan import CutStep, HealStep, LeanStep, Line, PruneStep, SearchStep, Steps
from lwq.plan.sources import Sources
from lwq.recipe.budget import Budget
from lwq.recipe.schema import Recipe
from lwq.recipe.target import Target
from lwq.steps import cut, heal, lean, prune
from lwq.steps.step import Made, Origin


def sets_wanted(recipe: Recipe) -> tuple[int, ...]:
    """Numbers of layers that targets ask to remove by measurement; empty where none does."""
    counts = {t.prune for t in recipe.targets if isinstance(t.prune, int)}
    if any(t.prune == "auto" for t in recipe.targets):
        counts |= set(range(1, recipe.pruning.max_layers + 1))
    return tuple(sorted(counts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Removals:
    """Adds the steps about layers of one recipe."""

    recipe: Recipe
    sources: Sources
    steps: Steps
    base: Made
    prune: PruneStep | None = None
    """The step that measured layers and chose sets."""
    heal: HealStep | None = None
    """Of these sets."""

    def with_sets(self, imatrix: Origin, sensitivity: Made | None, *, always: bool = False) -> Removals:
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
        scored = replace(self, prune=self.steps.add(prune, inputs))
        if any(t.is_healed() and not t.prune_layers for t in recipe.targets):
            return replace(scored, heal=scored._heal(() if auto else counts, ()))
        return scored

    @property
    def healed(self) -> Made | None:
        """The healed sets, where any target asks for them."""
        return self.heal.output() if self.heal else None

    def _heal(self, counts: tuple[int, ...], layers: tuple[int, ...], *about: str) -> HealStep:
        texts = self.sources.texts
        inputs = heal.Inputs(
            base=self.base,
            prune=self._sets(layers),
            counts=counts,
            layers=layers,
            allow_edge=self.recipe.pruning.allow_edge,
            fit_text=texts["calibration"].given,
            n_fit_windows=self.recipe.pruning.n_fit_windows,
            text=texts["selection" if self.recipe.selection else "evaluation"].given,
            n_windows=self.recipe.sensitivity.n_selection_windows,
            n_ctx=self.recipe.calibration.n_ctx,
        )
        return self.steps.add(heal, inputs, *about)

    def _sets(self, by_hand: tuple[int, ...]) -> Made | None:
        """The measured sets; None where layers are named by hand."""
        return None if by_hand or not self.prune else self.prune.output()

    def cut(self, target: Target) -> CutStep:
        """The pruned base of a target that says which or how many layers go."""
        layers, count = target.prune_layers, target.prune if isinstance(target.prune, int) else 0
        named = f"without-{'-'.join(map(str, layers))}" if layers else f"pruned{count}"
        healed = None
        if target.is_healed():
            healed = self._heal((), layers, named).output() if layers else self.healed
        name = named + ("" if healed else "-unhealed")  # targets that lose the same layers share it
        inputs = cut.Inputs(
            base=self.base,
            prune=self._sets(layers),
            count=count,
            layers=layers,
            heal=healed,
            allow_edge=self.recipe.pruning.allow_edge,
            text=self.sources.texts["calibration"].given,
            n_ctx=self.recipe.calibration.n_ctx,
            file=f"{self.sources.model.name}-{name}-{self.recipe.base_type.upper()}.gguf",
        )
        return self.steps.add(cut, inputs, name)

    def lean(self, target: Target, budget: Budget, searched: SearchStep, whole: Line) -> LeanStep:
        """The choice between the searched allocation and allocations of fewer layers."""
        assert self.heal
        recipe, calibration = self.recipe, self.recipe.calibration
        inputs = lean.Inputs(
            base=whole.base,
            imatrix=whole.matrix,
            sensitivity=whole.probed,
            search=searched.output(searched.inputs.file),
            heal=self.heal.output(),
            budget=budget,
            ftype=target.label_of(budget),
            constraints=target.constraints(),
            fit_text=self.sources.texts["calibration"].given,
            fit_n_ctx=calibration.n_ctx,
            fit_n_chunks=calibration.n_chunks,
            min_expert_tokens=calibration.min_expert_tokens,
            process_output=recipe.process_output,
            text=searched.inputs.text,
            n_ctx=searched.inputs.n_ctx,
            n_windows=searched.inputs.n_windows,
            n_confirmation_windows=searched.inputs.n_confirmation_windows,
            file=searched.inputs.file,
            cut_file=f"{self.sources.model.name}-{target.name}-{recipe.base_type.upper()}.gguf",
        )
        return self.steps.add(lean, inputs, target.name, what="allocate")
