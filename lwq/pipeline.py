"""A recipe as steps with keys, and their execution: which steps, in which order, what is done already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lwq.budget import Budget
from lwq.cache import key_of
from lwq.options import TYPE_SETS
from lwq.recipe import Recipe
from lwq.recipe_target import Target
from lwq.record import Role
from lwq.sources import Sources
from lwq.steps import (
    Made,
    Origin,
    Step,
    StepModule,
    allocate,
    baseline,
    bench,
    convert,
    evaluate,
    imatrix,
    inspect,
    quantize,
    search,
    select,
    sensitivity,
    statistics,
    tasks,
    to_json,
)
from lwq.tensors import type_bpw
from lwq.toolchain import Toolchain


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a run is carried out with; only ``bench`` depends on it."""

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
        """Append a step and return its key."""
        value = key_value(module, inputs, self.machine.toolchain)
        step = Step(label=label, module=module, inputs=inputs, key_value=value, key=key_of(value))
        self.steps.append(step)
        return step.key

    def plan(self) -> tuple[Step, ...]:
        """All steps of the recipe."""
        recipe, stem = self.recipe, self.sources.model.name
        base = self._convert(f"{stem}-{recipe.base_type.upper()}.gguf")
        logits: dict[Role, Made] = {
            role: self._baseline(role, base) for role in ("evaluation", "selection") if role in recipe.texts()
        }
        matrix = self._imatrix(base)
        self.add("statistics", statistics, statistics.Inputs(imatrix=matrix))
        allocations = {t.name: self._allocate(t, base, matrix) for t in recipe.targets if not t.wanted()}
        measured = self._sensitivity(base, matrix) if len(allocations) < len(recipe.targets) else None
        rivals = tuple(
            search.Rival(name=t.name, allocation=allocations[t.name])
            for t in recipe.targets
            if t.tensor_types and t.name in allocations and not t.prune_layers
        )
        for target in recipe.targets:
            if measured and (budget := target.wanted()):
                allocations[target.name] = self._search(target, budget, base, matrix, measured, rivals)
        rows: dict[str, Origin] = {recipe.base_type.upper(): base}
        for target in recipe.targets:
            completed = measured if target.wanted() else None
            rows[target.name] = self._quantize(target, base, matrix, allocations[target.name], completed)
        for name, found in self.sources.third_party.items():
            self.add(f"inspect:{name}", inspect, inspect.Inputs(base=base, file=found.given))
            rows[name] = found.given
        damage = {name: self._evaluate(name, row, logits) for name, row in rows.items()}
        for name, row in rows.items():
            self._tasks(name, row)
        if recipe.bench.tests:
            for name, row in rows.items():
                self._bench(name, row)
        self._select({t.name: rows[t.name] for t in recipe.targets}, damage, logits)
        return tuple(self.steps)

    def measurement(self) -> tuple[Step, ...]:
        """Only what sensitivity needs: base, importance matrix, probes."""
        base = self._convert(f"{self.sources.model.name}-{self.recipe.base_type.upper()}.gguf")
        self._sensitivity(base, self._imatrix(base))
        return tuple(self.steps)

    def _convert(self, file: str) -> Made:
        model = self.sources.model
        inputs = convert.Inputs(source=model.found.given, kind=model.kind, base_type=self.recipe.base_type, file=file)
        return Made(step="convert", key=self.add("convert", convert, inputs), name=file)

    def _baseline(self, role: Role, base: Made) -> Made:
        text = self.recipe.texts()[role]
        file = f"{base.name.removesuffix('.gguf')}.{role}.logits"
        inputs = baseline.Inputs(
            base=base,
            text=self.sources.texts[role].given,
            n_ctx=text.n_ctx,
            n_chunks=text.n_chunks,
            logits_file=file,
        )
        return Made(step="baseline", key=self.add(f"baseline:{role}", baseline, inputs), name=file)

    def _imatrix(self, base: Made) -> Made:
        text = self.recipe.calibration
        inputs = imatrix.Inputs(
            base=base,
            text=self.sources.texts["calibration"].given,
            n_ctx=text.n_ctx,
            n_chunks=text.n_chunks,
            process_output=self.recipe.process_output,
        )
        return Made(step="imatrix", key=self.add("imatrix", imatrix, inputs), name=imatrix.FILE)

    def _allocate(self, target: Target, base: Made, matrix: Made) -> Made:
        file = f"{self.sources.model.name}-{target.name}.tensor_types.txt"
        inputs = allocate.Inputs(
            base=base,
            imatrix=matrix if target.imatrix else None,
            ftype=target.ftype,
            tensor_types=target.tensor_types,
            prune_layers=target.prune_layers,
            file=file,
        )
        return Made(step="allocate", key=self.add(f"allocate:{target.name}", allocate, inputs), name=file)

    def _sensitivity(self, base: Made, matrix: Made) -> Made:
        text = self.recipe.calibration
        asked = {q for t in self.recipe.targets if t.wanted() for q in t.types} or set(TYPE_SETS["all"])
        inputs = sensitivity.Inputs(
            base=base,
            imatrix=matrix,
            text=self.sources.texts["calibration"].given,
            n_ctx=text.n_ctx,
            n_windows=self.recipe.sensitivity.n_windows,
            types=tuple(sorted(asked, key=lambda q: (type_bpw(q), q))),
        )
        return Made(step="sensitivity", key=self.add("sensitivity", sensitivity, inputs), name=sensitivity.FILE)

    def _search(
        self, target: Target, budget: Budget, base: Made, matrix: Made, measured: Made, rivals: tuple[search.Rival, ...]
    ) -> Made:
        recipe, file = self.recipe, f"{self.sources.model.name}-{target.name}.tensor_types.txt"
        role: Role = "selection" if recipe.selection else "evaluation"
        inputs = search.Inputs(
            base=base,
            imatrix=matrix,
            sensitivity=measured,
            budget=budget,
            ftype=target.ftype or budget.ftype,
            constraints=target.constraints(),
            probe_text=self.sources.texts["calibration"].given,
            probe_n_ctx=recipe.calibration.n_ctx,
            text=self.sources.texts[role].given,
            n_ctx=recipe.texts()[role].n_ctx,
            n_windows=recipe.sensitivity.n_selection_windows,
            rivals=rivals,
            file=file,
        )
        return Made(step="search", key=self.add(f"allocate:{target.name}", search, inputs), name=file)

    def _quantize(self, target: Target, base: Made, matrix: Made, allocation: Made, completed: Made | None) -> Made:
        file = f"{self.sources.model.name}-{target.name}.gguf"
        inputs = quantize.Inputs(
            base=base,
            imatrix=matrix if target.imatrix else None,
            completed=completed,
            allocation=allocation,
            file=file,
            quantized_by=self.recipe.card.author,
        )
        return Made(step="quantize", key=self.add(f"quantize:{target.name}", quantize, inputs), name=file)

    def _evaluate(self, name: str, row: Origin, logits: Mapping[Role, Made]) -> dict[Role, Made]:
        found = {}
        for role, made in logits.items():
            text = self.recipe.texts()[role]
            inputs = evaluate.Inputs(candidate=row, baseline=made, n_ctx=text.n_ctx)
            found[role] = Made(step="evaluate", key=self.add(f"evaluate:{name}:{role}", evaluate, inputs), name="")
        return found

    def _tasks(self, name: str, row: Origin) -> None:
        for task in self.recipe.tasks:
            inputs = tasks.Inputs(
                candidate=row,
                name=task.name,
                kind=task.kind,
                items=self.sources.tasks[task.name].given,
                n_items=task.n_items,
                n_ctx=task.n_ctx,
            )
            self.add(f"tasks:{name}:{task.name}", tasks, inputs)

    def _bench(self, name: str, row: Origin) -> None:
        inputs = bench.Inputs(
            candidate=row,
            tests=self.recipe.bench.tests,
            repetitions=self.recipe.bench.repetitions,
            n_threads=self.machine.n_threads,
            cpu=self.machine.cpu,
        )
        self.add(f"bench:{name}", bench, inputs)

    def _select(
        self, rows: Mapping[str, Origin], damage: Mapping[str, Mapping[Role, Made]], logits: Mapping[Role, Made]
    ) -> None:
        text: Role = "selection" if "selection" in logits else "evaluation"
        candidates = tuple(
            select.Candidate(row=name, file=made, damage=damage[name][text])
            for name, made in rows.items()
            if isinstance(made, Made)
        )
        self.add("select", select, select.Inputs(candidates=candidates, rule=self.recipe.select.rule, text=text))


def key_value(module: StepModule, inputs: Any, toolchain: Toolchain) -> dict[str, Any]:
    """What a step's key is the hash of."""
    tool = dict(toolchain.identity) if module.USES_TOOLS else {}
    return {"step": module.NAME, "version": module.VERSION, "tool": tool, "inputs": to_json(inputs)}
