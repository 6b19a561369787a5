"""Carries out steps of a benchmark's recipe, prints what they take, and holds their results."""

from __future__ import annotations

import argparse
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reference_copy import reference_model

from lwq.bits.mixes import Mixer
from lwq.engine.engine import Engine
from lwq.gguf.imatrix import read_imatrix
from lwq.gguf.importance import importance_rows
from lwq.llama.toolchain import find, home
from lwq.plan.execution import execute
from lwq.plan.job import Asked, Job, Part
from lwq.plan.plan import AnyStep, Machine
from lwq.recipe.parse import parse_recipe
from lwq.store.cache import Cache, Entry
from lwq.values.compensated import Compensated
from lwq.values.grams import Grams

ROLES = ("calibration", "selection", "evaluation")
RECIPE = """
name = "benchmark"
model = {model!r}
[calibration]
text = {calibration!r}
n_ctx = 512
n_chunks = 100
[selection]
text = {selection!r}
n_ctx = 512
n_chunks = 40
[evaluation]
text = {evaluation!r}
n_ctx = 512
n_chunks = 80
[bench]
tests = []
"""
"""What files of several sizes are chosen and measured with; targets follow."""


class Log:
    """Prints what the steps do, with their seconds."""

    def started(self, label: str, where: str = "") -> None: ...

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

    def mixer(self, engine: Engine) -> Mixer:
        """Tensors of the base as files hold them, with compensated values where nothing else is said."""
        targets = [t for t in engine.header.tensors if len(t.ne) > 1]
        completed = self.entries["sensitivity"].path(self.result("sensitivity").file)
        importance = importance_rows(read_imatrix(completed).entries, targets)
        step, entry, made = self.steps["grams"], self.entries["grams"], self.result("grams")
        grams = Grams((entry.path(f) for f in made.files), made.readers)
        folder = Cache(home()).pieces / f"{step.key[:24]}.values"
        values = Compensated(engine.ggml, engine.header, grams, importance, folder, engine.n_threads)
        return Mixer(engine, importance, compensated=values)

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


def carry_out(options: argparse.Namespace, head: str, targets: str, part: Part, kinds: Container[str]) -> Done:
    """The steps of these kinds of a recipe, or of a part of it, done.

    Args:
        options: as ``parser`` reads them.
        head: the recipe with ``{model!r}`` and the three texts still to fill in; ``targets`` follow it.
        kinds: what the steps' titles say that is done.
    """
    texts = {role: getattr(options, role) for role in ROLES}
    toml = head.format(model=options.model or str(reference_model()), **texts) + targets
    asked = Asked(recipe=parse_recipe(toml, "benchmark"), text=toml, folder=Path())
    machine = Machine(toolchain=find(), n_threads=options.threads, cpu="")
    job = Job.prepare(asked, machine, Cache(home()), lambda note: None, part)
    steps = tuple(s for s in job.plan.steps if s.title[0] in kinds)
    entries = execute(steps, job.surroundings(Log()))
    return Done(
        steps={s.label: s for s in steps},
        entries={s.label: entries[s.key] for s in steps},
        texts={role: job.sources.texts[role].paths[0].read_text(encoding="utf-8") for role in ROLES},
    )
