"""A finished run, and what it found out about removing layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lwq.plan.planner import Machine
from lwq.plan.sources import Sources
from lwq.recipe.schema import Recipe
from lwq.recipe.target import Target
from lwq.record.prune import HealedSet, PrunedParts, PruningFacts
from lwq.record.record import Command
from lwq.steps import parts, prune
from lwq.steps.step import Step
from lwq.store.cache import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A finished run: what was asked, what was given, what was done."""

    recipe: Recipe
    recipe_text: str
    sources: Sources
    machine: Machine
    steps: tuple[Step, ...]
    entries: Mapping[str, Entry]

    def result(self, label: str) -> Any:
        """The typed result of a step."""
        step = self.step(label)
        return step.result_of(self.entries[step.key])

    def step(self, label: str) -> Step:
        return next(s for s in self.steps if s.label == label)

    def entry(self, label: str) -> Entry:
        return self.entries[self.step(label).key]

    def has(self, label: str) -> bool:
        return any(s.label == label for s in self.steps)

    def made_from(self, label: str) -> str:
        """The label of the step that made the pruned base of a row."""
        key = self.step(label).inputs.base.key
        return next(s.label for s in self.steps if s.key == key)

    def commands(self, *labels: str) -> tuple[Command, ...]:
        """The tools' command lines of these steps, in order."""
        found = ((label, argv) for label in labels if self.has(label) for argv in self.entry(label).commands)
        return tuple(Command(step=label.split(":")[0], argv=argv) for label, argv in found)


def cut_steps(run: Run) -> tuple[str, ...]:
    """Labels of the steps that make pruned bases for files, and collect their importance matrices."""
    used = {f"cut:{s.label.removeprefix('imatrix:')}" for s in run.steps if s.label.startswith("imatrix:")}
    return tuple(s.label for s in run.steps if s.label in used or s.label.startswith("imatrix:"))


def pruning_facts(run: Run) -> PruningFacts | None:
    if not run.has("prune"):
        return None
    found: prune.Result = run.result("prune")
    healed: tuple[HealedSet, ...] = run.result("heal").sets if run.has("heal") else ()
    return PruningFacts(
        n_windows=found.n_windows,
        n_scored=found.n_scored,
        n_set_windows=found.n_set_windows,
        base_ppl=found.base_ppl,
        layers=found.layers,
        barred=found.barred,
        sets=found.sets,
        healed=healed,
    )


def pruned_parts(run: Run, target: Target) -> PrunedParts | None:
    if not run.has(f"parts:{target.name}"):
        return None
    found: parts.Result = run.result(f"parts:{target.name}")
    if found.prune is None or found.quant is None:
        return None
    made = run.made_from(f"parts:{target.name}")
    return PrunedParts(base_file=found.base_file, prune=found.prune, quant=found.quant, healed=run.result(made).healed)


def removed_layers(run: Run, target: Target) -> tuple[int, ...]:
    """The layers that are not in the file."""
    if not run.has(f"parts:{target.name}"):
        return target.prune_layers
    made = run.result(run.made_from(f"parts:{target.name}"))
    return tuple(made.layers if hasattr(made, "layers") else made.search.pruned_layers)
