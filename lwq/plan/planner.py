"""A recipe as steps with keys, and their execution: which steps, in which order, what is done already."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from lwq.gguf.types import type_bpw
from lwq.llama.toolchain import Toolchain
from lwq.plan.lines import Line, PruningPlan
from lwq.plan.measures import Measures
from lwq.plan.sources import Sources
from lwq.recipe.budget import Budget
from lwq.recipe.constraints import TYPE_SETS
from lwq.recipe.schema import Recipe
from lwq.recipe.target import Target
from lwq.record.record import Role
from lwq.steps import (
    allocate,
    bench,
    convert,
    imatrix,
    inspect,
    pace,
    quantize,
    search,
    select,
    sensitivity,
    statistics,
)
from lwq.steps.step import Given, Made, Origin, Step, StepModule, to_json
from lwq.store.cache import key_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a run is carried out with; only ``bench`` and ``pace`` depend on it."""

    toolchain: Toolchain
    n_threads: int
    cpu: str


class Planner:
    """Collects the steps of one recipe in order; every key is known before anything runs."""

    def __init__(self, recipe: Recipe, sources: Sources, machine: Machine) -> None:
        self.recipe = recipe
        self.sources = sources
        self.machine = machine
        self.steps: list[Step] = []

    def add(self, label: str, module: Any, inputs: Any) -> str:
        """Append a step, if it is not there already, and return its key."""
        value = key_value(module, inputs, self.machine.toolchain)
        step = Step(label=label, module=module, inputs=inputs, key_value=value, key=key_of(value))
        if label not in {s.label for s in self.steps if s.key == step.key}:
            self.steps.append(step)
        return step.key

    def plan(self) -> tuple[Step, ...]:
        """All steps of the recipe."""
        recipe, stem = self.recipe, self.sources.model.name
        base = self._convert(f"{stem}-{recipe.base_type.upper()}.gguf")
        measures = Measures(recipe=recipe, sources=self.sources, add=self.add, base=base)
        model = self.sources.model
        for name, other in self.sources.third_party.items():
            compared = model.found.given if model.kind == "gguf" else base
            self.add(f"inspect:{name}", inspect, inspect.Inputs(base=compared, file=other.given))
        logits = measures.baselines()
        rows: dict[str, Origin] = {recipe.base_type.upper(): base}
        made, parts = self._made(base) if recipe.targets else ({}, ())
        rows |= made
        rows |= {name: other.given for name, other in self.sources.third_party.items()}
        damage = {name: measures.damage(name, row, logits) for name, row in rows.items()}
        for part in parts:
            part(logits["evaluation"])
        sets = measures.task_sets()
        scores = {name: measures.tasks(name, row, sets) for name, row in rows.items()}
        timed = self._bench(rows) if recipe.bench.tests else None
        role: Role = "selection" if "selection" in logits else "evaluation"
        over = recipe.select.over
        candidates = tuple(
            select.Candidate(
                row=name, file=row, damage=damage[name][role], tasks=scores[name] if "tasks" in over else ()
            )
            for name, row in made.items()
            if isinstance(row, Made)
        )
        inputs = select.Inputs(
            candidates=candidates,
            rule=recipe.select.rule,
            over=over,
            text=role,
            bench=timed if "tg" in over else None,
        )
        self.add("select", select, inputs)
        return tuple(self.steps)

    def _made(self, base: Made) -> tuple[dict[str, Origin], tuple[Callable[[Made], None], ...]]:
        """The recipe's own files by row, and what adds the steps that tell their pruning from their quantizing."""
        recipe = self.recipe
        matrix = self._imatrix(base)
        self.add("statistics", statistics, statistics.Inputs(imatrix=matrix))
        whole = Line(name="", base=base, imatrix=matrix, measured=None)
        if any(t.wanted() and not t.is_cut() for t in recipe.targets):
            whole = replace(whole, measured=self._sensitivity(whole))
        pruning = PruningPlan(recipe=recipe, sources=self.sources, add=self.add, base=base)
        pruning = pruning.measured(matrix, whole.measured)
        cuts = {t.name: pruning.cut(t) for t in recipe.targets if t.is_pruned() and t.prune != "auto"}
        lines = {t.name: self._line(cuts[t.name], t) if t.is_cut() else whole for t in recipe.targets}
        allocations = {t.name: self._allocate(t, lines[t.name]) for t in recipe.targets if not t.wanted()}
        rivals = tuple(
            search.Rival(name=t.name, allocation=allocations[t.name])
            for t in recipe.targets
            if t.tensor_types and t.name in allocations and not t.is_pruned()
        )
        for target in recipe.targets:
            if budget := target.wanted():
                paced = self._pace(target, budget, lines[target.name], pruning.healed)
                found = self._search(target, budget, lines[target.name], rivals, paced)
                allocations[target.name] = (
                    pruning.lean(target, budget, found, whole) if target.prune == "auto" else found
                )
        rows: dict[str, Origin] = {
            t.name: self._quantize(t, lines[t.name], allocations[t.name]) for t in recipe.targets
        }
        origins = {t.name: cuts.get(t.name) or replace(allocations[t.name], name="") for t in recipe.targets}
        parts = (partial(pruning.parts, t.name, origins[t.name], rows[t.name]) for t in recipe.targets if t.is_pruned())
        return rows, tuple(parts)

    def measurement(self, *, layers: bool) -> tuple[Step, ...]:
        """Only what sensitivity needs: base, importance matrix, probes; with ``layers`` sets that may go, healed."""
        whole = self._whole()
        whole = replace(whole, measured=self._sensitivity(whole))
        if layers:
            auto = tuple(t for t in self.recipe.targets if t.prune == "auto") or (
                Target(budget="Q4_K_M", prune="auto"),
            )
            recipe = self.recipe.model_copy(update={"targets": auto})
            plan = PruningPlan(recipe=recipe, sources=self.sources, add=self.add, base=whole.base)
            plan.measured(whole.imatrix, whole.measured)
        return tuple(self.steps)

    def scores(self, imatrix: Given | None) -> tuple[Step, ...]:
        """The base, its importance matrix unless one is given, and the scores of its layers."""
        base, alone = self._base(), self.recipe.model_copy(update={"targets": ()})
        plan = PruningPlan(recipe=alone, sources=self.sources, add=self.add, base=base)
        plan.measured(imatrix or self._imatrix(base), None, always=True)
        return tuple(self.steps)

    def cuts(self) -> tuple[Step, ...]:
        """The base, and the bases without layers that targets ask for, with all that is measured for them."""
        base = self._base()
        plan = PruningPlan(recipe=self.recipe, sources=self.sources, add=self.add, base=base)
        if any(isinstance(t.prune, int) for t in self.recipe.targets):
            plan = plan.measured(self._imatrix(base), None)
        for target in (t for t in self.recipe.targets if t.is_pruned() and t.prune != "auto"):
            plan.cut(target)
        return tuple(self.steps)

    def _base(self) -> Made:
        return self._convert(f"{self.sources.model.name}-{self.recipe.base_type.upper()}.gguf")

    def _whole(self) -> Line:
        base = self._base()
        return Line(name="", base=base, imatrix=self._imatrix(base), measured=None)

    def _line(self, base: Made, target: Target) -> Line:
        """What a file of a pruned base is made from."""
        name = next(s.label for s in self.steps if s.key == base.key).removeprefix("cut:")
        line = Line(name=name, base=base, imatrix=self._imatrix(base, f"imatrix:{name}"), measured=None)
        return replace(line, measured=self._sensitivity(line)) if target.wanted() else line

    def _convert(self, file: str) -> Made:
        model = self.sources.model
        inputs = convert.Inputs(source=model.found.given, kind=model.kind, base_type=self.recipe.base_type, file=file)
        return Made(step="convert", key=self.add("convert", convert, inputs), name=file)

    def _imatrix(self, base: Made, label: str = "imatrix") -> Made:
        text = self.recipe.calibration
        inputs = imatrix.Inputs(
            base=base,
            text=self.sources.texts["calibration"].given,
            n_ctx=text.n_ctx,
            n_chunks=text.n_chunks,
            process_output=self.recipe.process_output,
        )
        return Made(step="imatrix", key=self.add(label, imatrix, inputs), name=imatrix.file_of(base))

    def _allocate(self, target: Target, line: Line) -> Made:
        file = f"{self.sources.model.name}-{target.name}.tensor_types.txt"
        inputs = allocate.Inputs(
            base=line.base,
            imatrix=line.imatrix if target.imatrix else None,
            ftype=target.ftype,
            tensor_types=target.tensor_types,
            prune_layers=() if target.is_cut() else target.prune_layers,
            allow_edge=self.recipe.pruning.allow_edge,
            file=file,
        )
        return Made(step="allocate", key=self.add(f"allocate:{target.name}", allocate, inputs), name=file)

    def _sensitivity(self, line: Line) -> Made:
        text = self.recipe.calibration
        asked = {q for t in self.recipe.targets if t.wanted() for q in t.types} or set(TYPE_SETS["all"])
        inputs = sensitivity.Inputs(
            base=line.base,
            imatrix=line.imatrix,
            text=self.sources.texts["calibration"].given,
            n_ctx=text.n_ctx,
            n_windows=self.recipe.sensitivity.n_windows,
            types=tuple(sorted(asked, key=lambda q: (type_bpw(q), q))),
        )
        return Made(
            step="sensitivity",
            key=self.add(line.label("sensitivity"), sensitivity, inputs),
            name=sensitivity.file_of(line.imatrix),
        )

    def _pace(self, target: Target, budget: Budget, line: Line, healed: Made | None) -> Made | None:
        """Up to which size files are as fast as asked for."""
        if target.min_tg is None:
            return None
        assert line.measured
        inputs = pace.Inputs(
            base=line.base,
            imatrix=line.imatrix,
            sensitivity=line.measured,
            heal=healed if target.prune == "auto" else None,
            budget=budget,
            ftype=target.label_of(budget),
            constraints=target.constraints(),
            min_tg=target.min_tg,
            n_threads=self.machine.n_threads,
            cpu=self.machine.cpu,
        )
        return Made(step="pace", key=self.add(f"pace:{target.name}", pace, inputs), name="")

    def _search(
        self, target: Target, budget: Budget, line: Line, rivals: tuple[search.Rival, ...], paced: Made | None
    ) -> Made:
        assert line.measured
        recipe, file = self.recipe, f"{self.sources.model.name}-{target.name}.tensor_types.txt"
        role: Role = "selection" if recipe.selection else "evaluation"
        inputs = search.Inputs(
            base=line.base,
            imatrix=line.imatrix,
            sensitivity=line.measured,
            budget=budget,
            ftype=target.label_of(budget),
            constraints=target.constraints(),
            probe_text=self.sources.texts["calibration"].given,
            probe_n_ctx=recipe.calibration.n_ctx,
            text=self.sources.texts[role].given,
            n_ctx=recipe.texts()[role].n_ctx,
            n_windows=recipe.sensitivity.n_selection_windows,
            rivals=() if line.name else rivals,
            optional=target.prune == "auto",
            paced=paced,
            file=file,
        )
        label = f"search:{target.name}" if target.prune == "auto" else f"allocate:{target.name}"
        return Made(step="search", key=self.add(label, search, inputs), name=file)

    def _quantize(self, target: Target, line: Line, allocation: Made) -> Made:
        file = f"{self.sources.model.name}-{target.name}.gguf"
        inputs = quantize.Inputs(
            base=line.base,
            imatrix=line.imatrix if target.imatrix else None,
            completed=line.measured if target.wanted() else None,
            may_be_cut=target.prune == "auto",
            allocation=allocation,
            file=file,
            quantized_by=self.recipe.card.author,
        )
        return Made(step="quantize", key=self.add(f"quantize:{target.name}", quantize, inputs), name=file)

    def _bench(self, rows: Mapping[str, Origin]) -> Made:
        inputs = bench.Inputs(
            candidates=tuple(bench.Row(name=name, origin=row) for name, row in rows.items()),
            tests=self.recipe.bench.tests,
            repetitions=self.recipe.bench.repetitions,
            n_threads=self.machine.n_threads,
            cpu=self.machine.cpu,
        )
        return Made(step="bench", key=self.add("bench", bench, inputs), name="")


def key_value(module: StepModule, inputs: Any, toolchain: Toolchain) -> dict[str, Any]:
    """What a step's key is the hash of."""
    tool = dict(toolchain.identity) if module.USES_TOOLS else {}
    return {"step": module.NAME, "version": module.VERSION, "tool": tool, "inputs": to_json(inputs)}
