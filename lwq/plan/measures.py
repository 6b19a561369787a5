"""What is measured alike of every row: damage against the base on each text, and task sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lwq.plan.lines import Add
from lwq.plan.sources import Sources
from lwq.recipe.budget import parse_size
from lwq.recipe.schema import Recipe, split_cloze
from lwq.record.record import Role
from lwq.steps import baseline, evaluate, items, tasks
from lwq.steps.step import Made, Origin
from lwq.tasks.files import kind_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """Adds the steps that measure rows against one base."""

    recipe: Recipe
    sources: Sources
    add: Add
    base: Made

    def baselines(self) -> dict[Role, Made]:
        """The base's log-probabilities on each text that rows are measured on."""
        roles: tuple[Role, ...] = ("evaluation", "selection")
        return {role: self._baseline(role) for role in roles if role in self.recipe.texts()}

    def _baseline(self, role: Role) -> Made:
        text = self.recipe.texts()[role]
        file = f"{self.base.name.removesuffix('.gguf')}.{role}.logits"
        inputs = baseline.Inputs(
            base=self.base,
            text=self.sources.texts[role].given,
            n_ctx=text.n_ctx,
            n_chunks=text.n_chunks,
            max_bytes=parse_size(text.max_logits) if text.max_logits else None,
            logits_file=file,
        )
        return Made(step="baseline", key=self.add(f"baseline:{role}", baseline, inputs), name=file)

    def damage(self, name: str, row: Origin, logits: Mapping[Role, Made]) -> dict[Role, Made]:
        """One row against the base, on each text."""
        found = {}
        for role, made in logits.items():
            inputs = evaluate.Inputs(candidate=row, baseline=made, n_ctx=self.recipe.texts()[role].n_ctx)
            found[role] = Made(step="evaluate", key=self.add(f"evaluate:{name}:{role}", evaluate, inputs), name="")
        return found

    def task_sets(self) -> dict[str, Made]:
        """The task sets by name, as llama-perplexity reads them."""
        return dict(self._items())

    def _items(self) -> Iterator[tuple[str, Made]]:
        for task in self.recipe.tasks:
            inputs = items.Inputs(
                base=self.base,
                name=task.name,
                kind=task.kind or kind_of(task.name),
                files=tuple(found.given for found in self.sources.tasks[task.name]),
                cloze=split_cloze(task.file[0])[0],
                columns=tuple(sorted(task.columns.items())),
                n_items=task.n_items,
                n_ctx=task.n_ctx,
                seed=task.seed,
                skip_faulty=task.faulty == "skip",
            )
            key = self.add(f"items:{task.name}", items, inputs)
            yield task.name, Made(step="items", key=key, name=f"{task.name}.items")

    def tasks(self, name: str, row: Origin, sets: Mapping[str, Made]) -> tuple[Made, ...]:
        """One row on every task set."""
        each = ((task, tasks.Inputs(candidate=row, name=task, items=made)) for task, made in sets.items())
        return tuple(Made(step="tasks", key=self.add(f"tasks:{name}:{t}", tasks, i), name="") for t, i in each)
