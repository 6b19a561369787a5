"""The steps that make the files of a recipe's targets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lwq.plan.lines import Lines
from lwq.plan.plan import (
    AllocationStep,
    CutStep,
    LeanStep,
    Line,
    Machine,
    PaceStep,
    QuantizeStep,
    SearchStep,
    Steps,
    TargetSteps,
)
from lwq.plan.removals import Removals
from lwq.plan.sources import Sources
from lwq.recipe.budget import Budget
from lwq.recipe.schema import Recipe
from lwq.recipe.target import Target
from lwq.record.record import Role
from lwq.steps import allocate, pace, quantize, search
from lwq.steps.step import Made

CutSteps = Mapping[str, CutStep]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Allocated:
    """What gives a target's tensors their types."""

    final: AllocationStep
    file: Made
    """The tensor-type file that it writes."""
    lean: LeanStep | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """Adds the steps of all targets of one recipe."""

    recipe: Recipe
    sources: Sources
    steps: Steps
    machine: Machine
    lines: Lines
    whole: Line
    removals: Removals

    def plan(self) -> tuple[TargetSteps, ...]:
        """The steps of every target, in the recipe's order."""
        targets = self.recipe.targets
        cuts = {t.name: self.removals.cut(t) for t in targets if t.is_pruned() and t.prune != "auto"}
        lines = {t.name: self._line(t, cuts) for t in targets}
        allocated = {t.name: self._by_tool(t, lines[t.name]) for t in targets if not t.wanted()}
        rivals = tuple(self._rivals(allocated))
        for target in targets:
            if budget := target.wanted():
                allocated[target.name] = self._by_measurement(target, budget, lines[target.name], rivals)
        return tuple(self._steps(t, lines[t.name], allocated[t.name], cuts) for t in targets)

    def _line(self, target: Target, cuts: CutSteps) -> Line:
        line = self.lines.pruned(cuts[target.name], budget=bool(target.wanted())) if target.is_cut() else self.whole
        return self.lines.with_grams(line) if target.is_compensated() else line

    def _rivals(self, allocated: Mapping[str, _Allocated]) -> Iterator[search.Rival]:
        """The hand-written mixes of the whole model: they are candidates for every budget."""
        for target in self.recipe.targets:
            if target.tensor_types and target.name in allocated and not target.is_pruned():
                yield search.Rival(name=target.name, allocation=allocated[target.name].file)

    def _steps(self, target: Target, line: Line, allocated: _Allocated, cuts: CutSteps) -> TargetSteps:
        return TargetSteps(
            target=target,
            line=line,
            allocation=allocated.final,
            quantize=self._quantize(target, line, allocated.file),
            cut=cuts.get(target.name),
            lean=allocated.lean,
        )

    def _by_tool(self, target: Target, line: Line) -> _Allocated:
        """A stock or hand-written mix, asked of llama-quantize."""
        file = self._types_file(target)
        inputs = allocate.Inputs(
            base=line.base,
            imatrix=line.matrix if target.imatrix else None,
            ftype=target.ftype,
            tensor_types=target.tensor_types,
            prune_layers=() if target.is_cut() else target.prune_layers,
            allow_edge=self.recipe.pruning.allow_edge,
            file=file,
        )
        step = self.steps.add(allocate, inputs, target.name)
        return _Allocated(final=step, file=step.output(file))

    def _by_measurement(
        self, target: Target, budget: Budget, line: Line, rivals: tuple[search.Rival, ...]
    ) -> _Allocated:
        """The best mix within a budget, where layers may go also of fewer layers."""
        paced = self._pace(target, budget, line)
        searched = self._search(target, budget, line, rivals, paced)
        file = searched.inputs.file
        if target.prune != "auto":
            return _Allocated(final=searched, file=searched.output(file))
        weighed = self.removals.lean(target, budget, searched, self.whole)
        return _Allocated(final=weighed, file=weighed.output(file), lean=weighed)

    def _pace(self, target: Target, budget: Budget, line: Line) -> PaceStep | None:
        """Up to which size files are as fast as asked for."""
        if target.min_tg is None:
            return None
        inputs = pace.Inputs(
            base=line.base,
            imatrix=line.matrix,
            sensitivity=line.probed,
            heal=self.removals.healed if target.prune == "auto" else None,
            budget=budget,
            ftype=target.label_of(budget),
            constraints=target.constraints(),
            min_tg=target.min_tg,
            n_threads=self.machine.n_threads,
            cpu=self.machine.cpu,
        )
        return self.steps.add(pace, inputs, target.name)

    def _search(
        self,
        target: Target,
        budget: Budget,
        line: Line,
        rivals: tuple[search.Rival, ...],
        paced: PaceStep | None,
    ) -> SearchStep:
        recipe = self.recipe
        role: Role = "selection" if recipe.selection else "evaluation"
        inputs = search.Inputs(
            base=line.base,
            imatrix=line.matrix,
            sensitivity=line.probed,
            budget=budget,
            ftype=target.label_of(budget),
            constraints=target.constraints(),
            probe_text=self.sources.texts["calibration"].given,
            probe_n_ctx=recipe.calibration.n_ctx,
            text=self.sources.texts[role].given,
            n_ctx=recipe.texts()[role].n_ctx,
            n_windows=recipe.sensitivity.n_selection_windows,
            n_confirmation_windows=recipe.sensitivity.n_confirmation_windows,
            rivals=() if line.cut else rivals,
            optional=target.prune == "auto",
            grams=line.grams.output() if line.grams and target.is_compensated() else None,
            paced=paced.output() if paced else None,
            file=self._types_file(target),
        )
        return self.steps.add(search, inputs, target.name, what="search" if target.prune == "auto" else "allocate")

    def _quantize(self, target: Target, line: Line, types: Made) -> QuantizeStep:
        inputs = quantize.Inputs(
            base=line.base,
            imatrix=line.matrix if target.imatrix else None,
            completed=line.probed if target.wanted() else None,
            may_be_cut=target.prune == "auto",
            allocation=types,
            grams=line.grams.output() if line.grams and target.is_compensated() else None,
            file=f"{self.sources.model.name}-{target.name}.gguf",
            quantized_by=self.recipe.card.author,
            licence=self.recipe.card.licence,
        )
        return self.steps.add(quantize, inputs, target.name)

    def _types_file(self, target: Target) -> str:
        return f"{self.sources.model.name}-{target.name}.tensor_types.txt"
