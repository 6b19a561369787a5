"""Carries out steps of a benchmark's recipe, prints what they take, and holds their results."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reference_copy import reference_model

from lwq.llama.toolchain import find, home
from lwq.plan import sources
from lwq.plan.execution import Surroundings, execute
from lwq.plan.plan import AnyStep, Machine
from lwq.plan.planner import Planner
from lwq.recipe.parse import parse_recipe
from lwq.store.cache import Cache, Entry

ROLES = ("calibration", "selection", "evaluation")


class Log:
    """Prints what the steps do, with their seconds."""

    def started(self, label: str) -> None: ...

    def progress(self, label: str, done: int, total: int) -> None: ...

    def finished(self, step: AnyStep, entry: Entry, *, fresh: bool) -> None:
        print(f"{step.label:<28} {entry.seconds:7.1f} s{'' if fresh else '  (done before)'}", flush=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """Finished steps and their entries by label, and the texts by role."""

    steps: Mapping[str, AnyStep]
    entries: Mapping[str, Entry]
    texts: Mapping[str, str]

    def result(self, label: str) -> Any:
        return self.steps[label].result_of(self.entries[label])

    @property
    def base(self) -> Path:
        return self.entries["convert"].path(self.steps["convert"].inputs.file)


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that these benchmarks share: texts, model, windows and threads."""
    arguments = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for role in ROLES:
        arguments.add_argument(f"--{role}", default=f"packaged:{role}", help="a text of your own")
    arguments.add_argument("--model", help="another model: a GGUF, hf://… or pypi://…; the reference copy when absent")
    arguments.add_argument("--windows", type=int, default=12, help="of the evaluation text")
    arguments.add_argument("--threads", type=int, default=2)
    return arguments


def carry_out(
    options: argparse.Namespace, head: str, targets: str, wanted: Callable[[Planner], Iterable[AnyStep]]
) -> Done:
    """The wanted steps of a recipe, done.

    Args:
        options: as ``parser`` reads them.
        head: the recipe with ``{model!r}`` and the three texts still to fill in; ``targets`` follow it.
    """
    texts = {role: getattr(options, role) for role in ROLES}
    recipe = parse_recipe(head.format(model=options.model or str(reference_model()), **texts) + targets, "benchmark")
    given = sources.fetch(recipe, Path(), home(), lambda text: None)
    machine = Machine(toolchain=find(), n_threads=options.threads, cpu="")
    steps = tuple(wanted(Planner(recipe, given, machine)))
    around = Surroundings(cache=Cache(home()), machine=machine, given=given.given(), watch=Log(), work={})
    entries = execute(steps, around)
    return Done(
        steps={s.label: s for s in steps},
        entries={s.label: entries[s.key] for s in steps},
        texts={role: given.texts[role].paths[0].read_text(encoding="utf-8") for role in ROLES},
    )
