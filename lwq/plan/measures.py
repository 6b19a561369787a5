"""The steps that measure every row alike: damage against the base on each text, task sets, speed; and what is kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from lwq.plan.plan import (
    BaselineStep,
    BenchStep,
    ContextsStep,
    ContinuationsStep,
    EvaluateStep,
    ItemsStep,
    Machine,
    PlannedRow,
    SelectStep,
    Steps,
    TasksStep,
    TwinSteps,
)
from lwq.plan.sources import Sources
from lwq.recipe.budget import parse_size
from lwq.recipe.schema import Recipe, Task, split_cloze
from lwq.record.record import Role
from lwq.steps import baseline, bench, contexts, continuations, evaluate, items, parts, quantize, select, tasks
from lwq.steps.step import Made, Origin
from lwq.tasks.files import kind_of

Baselines = Mapping[Role, BaselineStep]
TaskSets = Mapping[str, ItemsStep]
_CONTEXTS: Final = (4096, 8192)
"""Tokens of contexts that memory is told of."""
_N_PROMPTS: Final = 16
_PROMPT_TOKENS: Final = 64
_FOLLOWED_TOKENS: Final = 32
STOCK_VALUES: Final = "stock-values"
"""What titles and files of twins say after the row's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """Adds the steps that measure rows against one base."""

    recipe: Recipe
    sources: Sources
    steps: Steps
    machine: Machine
    base: Made

    def baselines(self) -> Baselines:
        """The base's log-probabilities on each text that rows are measured on."""
        texts = self.recipe.texts()
        roles: tuple[Role, ...] = ("evaluation", "selection", *(role for role in texts if ":" in role))
        return {role: self._baseline(role) for role in roles if role in texts}

    def _baseline(self, role: Role) -> BaselineStep:
        text = self.recipe.texts()[role]
        inputs = baseline.Inputs(
            base=self.base,
            text=self.sources.texts[role].given,
            n_ctx=text.n_ctx,
            n_chunks=text.n_chunks,
            max_bytes=parse_size(text.max_logits) if text.max_logits else None,
            logits_file=f"{self.base.name.removesuffix('.gguf')}.{role.replace(':', '-')}.logits",
        )
        return self.steps.add(baseline, inputs, role)

    def evaluations(self, name: str, file: Origin, baselines: Baselines) -> dict[Role, EvaluateStep]:
        """One row against the base, on each text."""
        evaluations = {}
        for role, made in baselines.items():
            inputs = evaluate.Inputs(
                candidate=file,
                baseline=made.output(made.inputs.logits_file),
                n_ctx=self.recipe.texts()[role].n_ctx,
            )
            evaluations[role] = self.steps.add(evaluate, inputs, name, role)
        return evaluations

    def with_parts(self, row: PlannedRow, baselines: Baselines) -> PlannedRow:
        """A row with the step that tells what pruning and what quantizing cost, where it lost layers or may have."""
        if row.own is None or row.own.pruned_base is None:
            return row
        logits = baselines["evaluation"]
        inputs = parts.Inputs(
            base=row.own.pruned_base,
            candidate=row.own.file,
            baseline=logits.output(logits.inputs.logits_file),
            text=self.sources.texts["evaluation"].given,
            n_ctx=self.recipe.evaluation.n_ctx,
        )
        return replace(row, own=replace(row.own, parts=self.steps.add(parts, inputs, row.name)))

    def with_twin(self, row: PlannedRow, baselines: Baselines) -> PlannedRow:
        """A row with the steps that write and measure its stock-valued twin, where it may get compensated values."""
        if row.own is None or row.own.quantize.inputs.grams is None:
            return row
        inputs, logits = row.own.quantize.inputs, baselines["evaluation"]
        file = f"{inputs.file.removesuffix('.gguf')}-{STOCK_VALUES}.gguf"
        written = self.steps.add(quantize, replace(inputs, grams=None, file=file), row.name, STOCK_VALUES)
        measured = evaluate.Inputs(
            candidate=written.output(file),
            baseline=logits.output(logits.inputs.logits_file),
            n_ctx=self.recipe.evaluation.n_ctx,
        )
        twin = TwinSteps(
            quantize=written, evaluate=self.steps.add(evaluate, measured, row.name, "evaluation", STOCK_VALUES)
        )
        return replace(row, own=replace(row.own, twin=twin))

    def task_sets(self) -> TaskSets:
        """The task sets by name, as llama-perplexity reads them."""
        return {task.name: self._items(task) for task in self.recipe.tasks}

    def _items(self, task: Task) -> ItemsStep:
        inputs = items.Inputs(
            base=self.base,
            name=task.name,
            kind=task.kind or kind_of(task.name),
            files=tuple(fetched.given for fetched in self.sources.tasks[task.name]),
            cloze=split_cloze(task.file[0])[0],
            columns=tuple(sorted(task.columns.items())),
            n_items=task.n_items,
            n_ctx=task.n_ctx,
            seed=task.seed,
            skip_faulty=task.faulty == "skip",
        )
        return self.steps.add(items, inputs, task.name)

    def tasks(self, row: str, file: Origin, sets: TaskSets) -> tuple[TasksStep, ...]:
        """One row on every task set."""
        each = (
            (name, tasks.Inputs(candidate=file, name=name, items=s.output(f"{name}.items"))) for name, s in sets.items()
        )
        return tuple(self.steps.add(tasks, inputs, row, name) for name, inputs in each)

    def contexts(self, rows: Iterable[PlannedRow]) -> ContextsStep | None:
        """What memory our files take with contexts of usual sizes; asked of the pinned llama.cpp alone."""
        files = tuple(row.own.file for row in rows if row.own)
        if not files or not self.machine.toolchain.facts.stock:
            return None
        return self.steps.add(contexts, contexts.Inputs(candidates=files, n_ctx=_CONTEXTS))

    def continuations(self, rows: Iterable[PlannedRow]) -> ContinuationsStep | None:
        """For how many tokens our files go on like the base; in process, so by the pinned llama.cpp alone."""
        files = tuple(row.own.file for row in rows if row.own)
        if not files or not self.machine.toolchain.facts.stock:
            return None
        inputs = continuations.Inputs(
            base=self.base,
            candidates=files,
            text=self.sources.texts["evaluation"].given,
            n_prompts=_N_PROMPTS,
            n_prompt_tokens=max(1, min(_PROMPT_TOKENS, self.recipe.evaluation.n_ctx - _FOLLOWED_TOKENS)),
            n_tokens=_FOLLOWED_TOKENS,
        )
        return self.steps.add(continuations, inputs)

    def bench(self, rows: Iterable[PlannedRow]) -> BenchStep | None:
        """The speeds of all rows in one session, where the recipe asks for any."""
        if not self.recipe.bench.tests:
            return None
        inputs = bench.Inputs(
            candidates=tuple(bench.Entrant(name=row.name, origin=row.file) for row in rows),
            tests=self.recipe.bench.tests,
            repetitions=self.recipe.bench.repetitions,
            n_threads=self.machine.n_threads,
            cpu=self.machine.cpu,
        )
        return self.steps.add(bench, inputs)

    def select(self, rows: Iterable[PlannedRow], timed: BenchStep | None) -> SelectStep:
        """Which of our files are kept."""
        role: Role = "selection" if self.recipe.selection else "evaluation"
        over = self.recipe.select.over
        candidates = tuple(
            select.Candidate(
                row=row.name,
                file=row.own.file,
                damage=row.evaluations[role].output(),
                tasks=tuple(step.output() for step in row.tasks) if "tasks" in over else (),
            )
            for row in rows
            if row.own
        )
        inputs = select.Inputs(
            candidates=candidates,
            rule=self.recipe.select.rule,
            over=over,
            text=role,
            bench=timed.output() if timed and "tg" in over else None,
        )
        return self.steps.add(select, inputs)
