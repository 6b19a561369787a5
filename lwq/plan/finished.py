"""A finished run, and what it found out about removing layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lwq.plan.plan import AnyStep, Machine, Plan, R, TargetSteps
from lwq.plan.sources import Sources
from lwq.recipe.schema import Recipe
from lwq.record.command import Command
from lwq.record.prune import PrunedParts, PruningFacts
from lwq.steps.step import Step
from lwq.store.cache import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A finished run: what was asked, what was given, what was done."""

    recipe: Recipe
    recipe_text: str
    sources: Sources
    machine: Machine
    plan: Plan
    entries: Mapping[str, Entry]
    """By key of their step."""
    logo: Path | None = None
    """The publisher's picture for the card."""

    def result(self, step: Step[Any, R]) -> R:
        """The typed result of a step."""
        return step.result_of(self.entries[step.key])

    def entry(self, step: AnyStep) -> Entry:
        return self.entries[step.key]

    def commands(self, *steps: AnyStep | None) -> tuple[Command, ...]:
        """The tools' command lines of these steps, in order, under what the step's title says that is done."""
        done = (step for step in steps if step)
        return tuple(Command(step=s.title[0], argv=argv) for s in done for argv in self.entry(s).commands)


def steps_of_pruned_bases(plan: Plan) -> tuple[AnyStep, ...]:
    """The steps that make pruned bases for files, and collect their importance matrices, in order."""
    lines = [row.own.line for row in plan.rows if row.own and row.own.line.cut]
    keys = {step.key for line in lines for step in (line.cut, line.imatrix) if step}
    return tuple(step for step in plan.steps if step.key in keys)


def pruning_facts(run: Run) -> PruningFacts | None:
    if run.plan.prune is None:
        return None
    measured = run.result(run.plan.prune)
    return PruningFacts(
        n_windows=measured.n_windows,
        n_scored=measured.n_scored,
        n_set_windows=measured.n_set_windows,
        base_ppl=measured.base_ppl,
        layers=measured.layers,
        barred=measured.barred,
        sets=measured.sets,
        healed=run.result(run.plan.heal).sets if run.plan.heal else (),
    )


def pruned_parts(run: Run, made: TargetSteps) -> PrunedParts | None:
    """What pruning and what quantizing cost a file that lost layers."""
    if made.parts is None:
        return None
    parts = run.result(made.parts)
    if parts.prune is None or parts.quant is None:
        return None
    healed = run.result(made.cut).healed if made.cut else run.result(made.lean).healed if made.lean else None
    return PrunedParts(base_file=parts.base_file, prune=parts.prune, quant=parts.quant, healed=healed)


def removed_layers(run: Run, made: TargetSteps) -> tuple[int, ...]:
    """The layers that are not in the file."""
    if made.cut:
        return run.result(made.cut).layers
    return run.result(made.lean).search.pruned_layers if made.lean else made.target.prune_layers
