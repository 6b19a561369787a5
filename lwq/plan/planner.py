"""A recipe as a plan: which steps, in which order, with which keys; or the part of them that one command needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from lwq.plan.lines import Lines
from lwq.plan.measures import Measures
from lwq.plan.plan import AnyStep, InspectStep, Line, Machine, Plan, PlannedRow, Steps, TargetSteps
from lwq.plan.removals import Removals
from lwq.plan.sources import Sources
from lwq.plan.targets import Targets
from lwq.recipe.schema import Recipe
from lwq.recipe.target import Target
from lwq.steps import inspect, statistics
from lwq.steps.step import Given

Inspections = Mapping[str, InspectStep]


class Planner:
    """Plans one recipe; use it once."""

    def __init__(self, recipe: Recipe, sources: Sources, machine: Machine) -> None:
        self.recipe = recipe
        self.sources = sources
        self.machine = machine
        self.steps = Steps(toolchain=machine.toolchain)
        self.lines = Lines(recipe=recipe, sources=sources, steps=self.steps)
        self.convert = self.lines.convert()
        self.base = self.convert.output(self.convert.inputs.file)

    def plan(self) -> Plan:
        """All steps of the recipe."""
        recipe, sources = self.recipe, self.sources
        measures = Measures(recipe=recipe, sources=sources, steps=self.steps, machine=self.machine, base=self.base)
        inspected = self._inspections()
        baselines = measures.baselines()
        own = self._own() if recipe.targets else self._bare()
        rows = tuple(
            replace(row, evaluations=measures.evaluations(row.name, row.file, baselines))
            for row in (self._base_row(), *own.rows, *self._others(inspected))
        )
        rows = tuple(measures.with_twin(measures.with_parts(row, baselines), baselines) for row in rows)
        sets = measures.task_sets()
        rows = tuple(replace(row, tasks=measures.tasks(row.name, row.file, sets)) for row in rows)
        held, followed = measures.contexts(rows), measures.continuations(rows)
        timed = measures.bench(rows)
        selected = measures.select(rows, timed)
        measured = replace(own, baselines=baselines, task_sets=sets, rows=rows, contexts=held)
        return replace(measured, steps=self._all(), continuations=followed, bench=timed, select=selected)

    def measurement(self, *, layers: bool) -> Plan:
        """Only what sensitivity needs: base, importance matrix, probes; with ``layers`` sets that may go, healed."""
        whole = self.lines.with_sensitivity(self.lines.whole(self.base))
        healed = None
        if layers:
            auto = tuple(t for t in self.recipe.targets if t.prune == "auto") or (
                Target(budget="Q4_K_M", prune="auto"),
            )
            removals = self._removals(self.recipe.model_copy(update={"targets": auto}))
            healed = removals.with_sets(whole.matrix, whole.probed).heal
        return replace(self._bare(), imatrix=whole.imatrix, sensitivity=whole.sensitivity, heal=healed)

    def scores(self, imatrix: Given | None) -> Plan:
        """The base, its importance matrix unless one is given, and the scores of its layers."""
        removals = self._removals(self.recipe.model_copy(update={"targets": ()}))
        matrix = imatrix or self.lines.whole(self.base).matrix
        return replace(self._bare(), prune=removals.with_sets(matrix, None, always=True).prune, steps=self._all())

    def cuts(self) -> Plan:
        """The base, and the bases without layers that targets ask for, with all that is measured for them."""
        removals = self._removals(self.recipe)
        if any(isinstance(t.prune, int) for t in self.recipe.targets):
            removals = removals.with_sets(self.lines.whole(self.base).matrix, None)
        cuts = tuple(removals.cut(t) for t in self.recipe.targets if t.is_pruned() and t.prune != "auto")
        return replace(self._bare(), cuts=cuts)

    def _all(self) -> tuple[AnyStep, ...]:
        return tuple(self.steps.collected)

    def _bare(self) -> Plan:
        """The steps so far, none of which has another name than ``convert``."""
        return Plan(steps=self._all(), convert=self.convert)

    def _removals(self, recipe: Recipe) -> Removals:
        return Removals(recipe=recipe, sources=self.sources, steps=self.steps, base=self.base)

    def _own(self) -> Plan:
        """The recipe's own files, and what they share."""
        recipe = self.recipe
        whole = self.lines.whole(self.base)
        described = self.steps.add(statistics, statistics.Inputs(imatrix=whole.matrix))
        if any(t.wanted() and not t.is_cut() for t in recipe.targets):
            whole = self.lines.with_sensitivity(whole)
        removals = self._removals(recipe).with_sets(whole.matrix, whole.probed if whole.sensitivity else None)
        own = self._targets(whole, removals).plan()
        return Plan(
            steps=(),
            convert=self.convert,
            imatrix=whole.imatrix,
            statistics=described,
            sensitivity=whole.sensitivity,
            prune=removals.prune,
            heal=removals.heal,
            rows=tuple(map(_own_row, own)),
        )

    def _targets(self, whole: Line, removals: Removals) -> Targets:
        return Targets(
            recipe=self.recipe,
            sources=self.sources,
            steps=self.steps,
            machine=self.machine,
            lines=self.lines,
            whole=whole,
            removals=removals,
        )

    def _inspections(self) -> Inspections:
        model = self.sources.model
        compared = model.fetched.given if model.kind == "gguf" else self.base
        return {
            name: self.steps.add(inspect, inspect.Inputs(base=compared, file=other.given), name)
            for name, other in self.sources.third_party.items()
        }

    def _base_row(self) -> PlannedRow:
        return PlannedRow(name=self.recipe.base_type.upper(), origin="base", file=self.base, evaluations={})

    def _others(self, inspected: Inspections) -> Iterator[PlannedRow]:
        for name, other in self.sources.third_party.items():
            yield PlannedRow(name=name, origin="third-party", file=other.given, evaluations={}, inspect=inspected[name])


def _own_row(own: TargetSteps) -> PlannedRow:
    return PlannedRow(name=own.target.name, origin="ours", file=own.file, evaluations={}, own=own)
