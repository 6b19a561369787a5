"""A recipe read, its sources fetched, its steps planned: what `run` and `why` start from."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lwq.cli.settings import Settings
from lwq.errors import FileError
from lwq.gguf.header import read_header
from lwq.llama.toolchain import home
from lwq.plan import preview, sources
from lwq.plan.execution import Surroundings, Watch, execute
from lwq.plan.finished import Run
from lwq.plan.planner import Machine, Planner
from lwq.recipe.parse import parse_recipe
from lwq.recipe.schema import Recipe
from lwq.steps import baseline
from lwq.steps.step import Step
from lwq.store.cache import Cache, Entry
from lwq.store.files import os_errors

_KEPT_BYTES: Final = 4 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Everything known before the first step."""

    recipe: Recipe
    text: str
    sources: sources.Sources
    machine: Machine
    steps: tuple[Step, ...]
    cache: Cache

    @classmethod
    def load(cls, path: Path, model: str | None, settings: Settings, on_note: Callable[[str], None]) -> Job:
        """The job of a recipe file.

        Raises:
            LwqError: every fault of the recipe and of what it names, before anything costly.
        """
        recipe, text = read_recipe(path, model)
        machine = settings.machine()
        found = sources.fetch(recipe, path.parent, home(), on_note)
        if found.model.kind == "gguf":
            preview.check_targets(recipe, read_header(found.model.found.paths[0]).n_layer)
        steps = Planner(recipe, found, machine).plan()
        return cls(recipe=recipe, text=text, sources=found, machine=machine, steps=steps, cache=settings.cache())

    def work(self) -> dict[str, float]:
        """Label → amount of work; nothing for a model whose size is not known before it is converted."""
        model = self.sources.model
        if model.kind != "gguf":
            return {}
        text_bytes = {role: found.paths[0].stat().st_size for role, found in self.sources.texts.items()}
        work = preview.work_of(self.recipe, read_header(model.found.paths[0]), text_bytes)
        found = {step.label: work.get(step.label, work.get(step.module.NAME)) for step in self.steps}
        return {label: amount for label, amount in found.items() if amount}

    def forecast(self) -> preview.Forecast:
        """What is still to do, and how long it may take."""
        return preview.forecast(self.steps, self.cache, self.work())

    def carry_out(self, watch: Watch) -> Run:
        """The finished run; its key values are remembered under the recipe's name."""
        self.cache.remember(self.recipe.name, {step.label: step.key_value for step in self.steps})
        entries = execute(self.steps, self.surroundings(watch))
        self._release_logits(entries)
        return Run(
            recipe=self.recipe,
            recipe_text=self.text,
            sources=self.sources,
            machine=self.machine,
            steps=self.steps,
            entries=entries,
        )

    def _release_logits(self, entries: Mapping[str, Entry]) -> None:
        """Delete stored log-probabilities that the recipe does not keep; a later row makes them again."""
        for step in (s for s in self.steps if s.module is baseline):
            role = step.label.partition(":")[2]
            text = next(text for name, text in self.recipe.texts().items() if name == role)
            name = step.inputs.logits_file
            n_bytes = int(entries[step.key].outputs[name]["n_bytes"])
            keep = n_bytes < _KEPT_BYTES if text.keep_logits is None else text.keep_logits
            if not keep and name not in entries[step.key].released:
                self.cache.release(entries[step.key], (name,))

    def surroundings(self, watch: Watch) -> Surroundings:
        """What the steps are carried out with."""
        return Surroundings(
            cache=self.cache, machine=self.machine, given=self.sources.given(), watch=watch, work=self.work()
        )


def check_writable(folder: Path) -> None:
    """Fails before the first costly step if the report could not be written at the end."""
    with os_errors("write the report", folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


def read_recipe(path: Path, model: str | None = None) -> tuple[Recipe, str]:
    """A recipe file's recipe and text; ``model`` replaces the recipe's own.

    Raises:
        FileError: no such file, or not text.
        RecipeError: its mistakes.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = ", ".join(sorted(str(p) for p in Path("recipes").glob("*.toml")))
        raise FileError(f"{path}: no such recipe", hint=f"recipes here: {near}" if near else "`lwq init`") from None
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: cannot be read as a recipe: {error}", hint="name a TOML file") from None
    recipe = parse_recipe(text, str(path))
    if model:
        here = model if "://" in model else str(Path(model).absolute())
        recipe = recipe.model_copy(update={"model": here})
    return recipe, text
