"""A recipe as steps with keys, and their execution: which steps, in which order, what is done already."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from lwq.cache import Cache, Entry, key_of
from lwq.recipe import Recipe, Target
from lwq.sources import Sources
from lwq.steps import (
    Context,
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
    select,
    statistics,
    tasks,
    to_json,
)
from lwq.toolchain import Toolchain


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a run is carried out with; only ``bench`` depends on it."""

    toolchain: Toolchain
    n_threads: int
    cpu: str


class Watch(Protocol):
    """Told what happens, to show it."""

    def started(self, label: str) -> None: ...

    def progress(self, label: str, done: int, total: int) -> None: ...

    def finished(self, step: Step, entry: Entry, *, fresh: bool) -> None: ...


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
        logits: dict[str, Made] = {
            role: self._baseline(role, base) for role in ("evaluation", "selection") if role in recipe.texts()
        }
        matrix = self._imatrix(base)
        self.add("statistics", statistics, statistics.Inputs(imatrix=matrix))
        allocations = {t.name: self._allocate(t, base, matrix) for t in recipe.targets}
        rows: dict[str, Origin] = {recipe.base_type.upper(): base}
        for target in recipe.targets:
            rows[target.name] = self._quantize(target, base, matrix, allocations[target.name])
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

    def _convert(self, file: str) -> Made:
        model = self.sources.model
        inputs = convert.Inputs(source=model.found.given, kind=model.kind, base_type=self.recipe.base_type, file=file)
        return Made(step="convert", key=self.add("convert", convert, inputs), name=file)

    def _baseline(self, role: str, base: Made) -> Made:
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

    def _quantize(self, target: Target, base: Made, matrix: Made, allocation: Made) -> Made:
        file = f"{self.sources.model.name}-{target.name}.gguf"
        inputs = quantize.Inputs(
            base=base,
            imatrix=matrix if target.imatrix else None,
            allocation=allocation,
            file=file,
            quantized_by=self.recipe.card.author,
        )
        return Made(step="quantize", key=self.add(f"quantize:{target.name}", quantize, inputs), name=file)

    def _evaluate(self, name: str, row: Origin, logits: Mapping[str, Made]) -> dict[str, Made]:
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
        self, rows: Mapping[str, Origin], damage: Mapping[str, Mapping[str, Made]], logits: Mapping[str, Made]
    ) -> None:
        text = "selection" if "selection" in logits else "evaluation"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What steps are carried out with; nothing of it is in a key."""

    cache: Cache
    machine: Machine
    given: Mapping[str, tuple[Path, ...]]
    watch: Watch
    work: Mapping[str, float]
    """Label → amount of work, noted beside the time for later forecasts."""


def execute(steps: tuple[Step, ...], around: Surroundings) -> dict[str, Entry]:
    """The entries of all steps by key; what is not in the cache is done, in order.

    Raises:
        LwqError: from the step that failed; everything before it is kept.
    """
    entries: dict[str, Entry] = {}
    for step in steps:
        entry = around.cache.lookup(step.module.NAME, step.key)
        fresh = entry is None
        if entry is None:
            around.watch.started(step.label)
            entry, fresh = around.cache.build(step.module.NAME, step.key_value, _worker(step, entries, around))
        entries[step.key] = entry
        around.watch.finished(step, entry, fresh=fresh)
    return entries


def _worker(step: Step, entries: Mapping[str, Entry], around: Surroundings) -> Callable[[Path], Mapping[str, Any]]:
    def work(folder: Path) -> Mapping[str, Any]:
        ctx = Context(
            folder=folder,
            toolchain=around.machine.toolchain,
            n_threads=around.machine.n_threads,
            progress=lambda done, total: around.watch.progress(step.label, done, total),
            entries=entries,
            given=around.given,
        )
        began = time.monotonic()
        result = to_json(step.module.run(step.inputs, ctx))
        return {
            "result": result,
            "commands": [list(argv) for argv in ctx.commands],
            "seconds": round(time.monotonic() - began, 3),
            "tool_seconds": round(ctx.tool_seconds, 3),
            "finished": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "work": around.work.get(step.label, 0.0),
            "keep_links": result.get("keep_links", []),
        }

    return work
