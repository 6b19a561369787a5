"""A whole run on a tiny model: recipe, sources, steps, record and card, as `lwq run` makes them."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lwq.llama.toolchain import Toolchain
from lwq.plan import sources
from lwq.plan.assemble import assemble
from lwq.plan.execution import Surroundings, execute
from lwq.plan.finished import Run
from lwq.plan.plan import AnyStep, Machine
from lwq.plan.planner import Planner
from lwq.plan.publish import publish_files
from lwq.plan.twins import alike
from lwq.recipe.parse import parse_recipe
from lwq.report.write import write_report
from lwq.store.cache import Cache, Entry
from tests.tiny_models import write_tiny_llama, write_tiny_text

RECIPE = """
name = "tiny"
model = "tiny.gguf"
[calibration]
text = "calibration.txt"
n_ctx = 64
n_chunks = 6
[selection]
text = "selection.txt"
n_ctx = 64
n_chunks = 4
[evaluation]
text = "evaluation.txt"
n_ctx = 64
n_chunks = 5
[[targets]]
ftype = "Q4_K_M"
[[targets]]
name = "hand"
ftype = "Q4_K_M"
tensor_types = ['ffn_down=q6_k']
[[targets]]
name = "pruned"
ftype = "Q3_K_M"
imatrix = false
prune_layers = [2]
[[tasks]]
name = "ARC"
file = "arc.jsonl"
n_items = 100
n_ctx = 64
[[tasks]]
name = "WinoGrande"
file = "winogrande.csv"
n_items = 100
n_ctx = 64
[bench]
tests = ["pp32", "tg8"]
repetitions = 2
"""


@dataclass
class Log:
    """What was done, in order."""

    fresh: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    def started(self, label: str, where: str = "") -> None: ...

    def progress(self, label: str, done: int, total: int) -> None: ...

    def finished(self, step: AnyStep, entry: Entry, *, fresh: bool) -> None:
        (self.fresh if fresh else self.kept).append(step.label)


def write_inputs(folder: Path) -> None:
    """A tiny model, three texts and two task sets beside each other."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tiny_llama(folder / "tiny.gguf")
    for seed, role in enumerate(("calibration", "selection", "evaluation")):
        write_tiny_text(folder / f"{role}.txt", n_words=900, seed=seed)
    write_tiny_tasks(folder)


def write_tiny_tasks(folder: Path, n: int = 120) -> None:
    """``arc.jsonl`` (official form) and ``winogrande.csv`` (llama.cpp's), of ``n`` items each."""
    draw = random.Random(5)
    words = ("river", "stone", "candle", "wagon", "meadow", "copper", "lantern", "harbour")
    arc, pairs = [], []
    for i in range(n):
        a, b, c, d = draw.sample(words, 4)
        choices = [
            {"label": label, "text": f"the {word} {i}"} for label, word in zip("ABCD", (a, b, c, d), strict=True)
        ]
        question = {"stem": f"What did the {a} of house {i} carry?", "choices": choices}
        arc.append(json.dumps({"id": f"q{i}", "question": question, "answerKey": draw.choice("ABCD")}))
        pairs.append(f"{i},The {a} broke in year {i} because the _ was old.,{b},{c},{draw.choice('12')}")
    (folder / "arc.jsonl").write_text("\n".join(arc) + "\n", encoding="utf-8")
    (folder / "winogrande.csv").write_text("\n".join(pairs) + "\n", encoding="utf-8")


class LabelledRun(Run):
    """A run whose steps are named as a user sees them."""

    @property
    def steps(self) -> tuple[AnyStep, ...]:
        return self.plan.steps

    def step(self, label: str) -> AnyStep:
        return next(s for s in self.plan.steps if s.label == label)

    def entry(self, step: AnyStep | str) -> Entry:
        return super().entry(self.step(step) if isinstance(step, str) else step)

    def result(self, step: AnyStep | str) -> Any:
        return super().result(self.step(step) if isinstance(step, str) else step)

    def made_from(self, label: str) -> str:
        """The step that made the pruned base of a row."""
        key = self.step(label).inputs.base.key
        return next(s.label for s in self.plan.steps if s.key == key)


def run_tiny(folder: Path, home: Path, toolchain: Toolchain, recipe: str = RECIPE) -> tuple[LabelledRun, Log, Path]:
    """The finished run, what was done, and its card."""
    asked = parse_recipe(recipe, "tiny.toml")
    machine = Machine(toolchain=toolchain, n_threads=1, cpu="a test's CPU")
    found = sources.fetch(asked, folder, home, lambda note: None)
    plan = Planner(asked, found, machine).plan()
    log = Log()
    around = Surroundings(
        cache=Cache(home), machine=machine, given=found.given(), watch=log, work={}, alike=alike(plan)
    )
    entries = execute(plan.steps, around)
    run = LabelledRun(recipe=asked, recipe_text=recipe, sources=found, machine=machine, plan=plan, entries=entries)
    publish_files(run, folder / "report")
    return run, log, write_report(assemble(run), folder / "report")
