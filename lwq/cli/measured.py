"""``lwq sensitivity``: how much each tensor of a model matters."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any, get_args

import click

from lwq.cli.job import carry_out, prepare
from lwq.cli.progress import Progress, showing
from lwq.cli.settings import Settings
from lwq.cli.tables import print_json, print_table
from lwq.errors import UsageError
from lwq.gguf.header import GgufHeader, read_header
from lwq.plan.asked import check_patterns
from lwq.plan.job import Asked, Job
from lwq.plan.planner import Planner
from lwq.plan.reading import read_recipe
from lwq.recipe.constraints import Constraints
from lwq.recipe.family import name_of
from lwq.recipe.parse import parse_recipe
from lwq.record.prune import HealedSet
from lwq.record.search import Coverage, TensorSensitivity
from lwq.steps import sensitivity

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
probes = {probes}
n_windows = {n_windows}
[[targets]]
budget = "Q4_K_M"
types = {types}
"""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is measured: a recipe, or a model with a text."""

    reference: str
    text: str = "packaged:calibration"
    n_ctx: int = 512
    n_chunks: int = 100
    n_windows: int = 2
    probes: str = "layers"
    types: tuple[str, ...] = ("all",)
    base_type: str = "f16"
    more: str = ""
    """Further tables of the recipe, as TOML."""

    def asked(self) -> Asked:
        """The recipe, or one that says the same of the model."""
        if self.reference.endswith(".toml"):
            return read_recipe(Path(self.reference))
        here = self.reference if "://" in self.reference else str(Path(self.reference).absolute())
        text = self.text if ":" in self.text else str(Path(self.text).absolute())
        name = name_of(self.reference.replace("==", "-"), 90)
        values = {"name": name, "model": here, "text": text, "types": list(self.types), "base_type": self.base_type}
        values["probes"] = self.probes
        quoted = {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}
        toml = _RECIPE.format(n_ctx=self.n_ctx, n_chunks=self.n_chunks, n_windows=self.n_windows, **quoted) + self.more
        return Asked(recipe=parse_recipe(toml, self.reference), text=toml, folder=Path())


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredModel:
    """A model whose sensitivity is known."""

    job: Job
    base: Path
    header: GgufHeader
    imatrix: Path
    sensitivity: sensitivity.Result
    importance: Path
    """The importance matrix with the output tensor."""
    sets: tuple[HealedSet, ...] | None
    """Layers that may go, healed; None where that was not asked."""


def measure(
    subject: Subject,
    settings: Settings,
    progress: Progress,
    *,
    layers: bool = False,
    constraints: Constraints | None = None,
) -> MeasuredModel:
    """Converts, collects the importance matrix and measures what is not in the cache.

    Args:
        layers: measure and heal removals too, if a target of the recipe asks for them.
        constraints: of the command line, whose patterns must be found in the model.
    """
    job = prepare(subject.asked(), settings, progress, partial(Planner.measurement, layers=layers))
    if constraints and (header := job.header()):
        check_patterns({"allocate": constraints}, header, job.machine.toolchain)
    run, plan = carry_out(job, progress, name=f"{job.recipe.name}.measured"), job.plan
    assert plan.imatrix
    assert plan.sensitivity
    base = run.entry(plan.convert).path(plan.convert.inputs.file)
    measured = run.result(plan.sensitivity)
    return MeasuredModel(
        job=job,
        base=base,
        header=read_header(base),
        imatrix=run.entry(plan.imatrix).path(run.result(plan.imatrix).file),
        sensitivity=measured,
        importance=run.entry(plan.sensitivity).path(measured.file),
        sets=run.result(plan.heal).sets if plan.heal else None,
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
@click.option("--windows", "n_windows", type=click.IntRange(2), default=2, show_default=True, help="For each probe.")
@click.option(
    "--probes",
    type=click.Choice(get_args(Coverage)),
    default="layers",
    show_default=True,
    help="Three tensors of each layer, the others estimated from them, or all.",
)
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
    with showing(settings.verbosity) as progress:
        measured = measure(Subject(reference=source, **options), settings, progress)
    if as_json:
        print_json(dataclasses.asdict(measured.sensitivity))
        return
    _print(measured.sensitivity.tensors, top)
    for note in measured.sensitivity.notes:
        click.echo(note)
    click.echo(f"importance matrix with the output tensor: {measured.importance}")


def _print(tensors: tuple[TensorSensitivity, ...], top: int) -> None:
    loud = sorted(tensors, key=lambda t: -t.kld.value)
    n_probed = sum(t.is_probed for t in tensors)
    click.echo(f"KLD (nats) with one tensor alone in the probe's type; {min(top, len(loud))} of {len(loud)}")
    click.echo(f"measured: {n_probed}; estimated from those, and marked ~: {len(loud) - n_probed}")
    rows = [
        (
            *(t.tensor, t.probe_type, f"{'' if t.is_probed else '~'}{t.kld.value:.6f}"),
            *(f"{t.kld.stderr or 0:.6f}", f"{t.alpha:.4g}"),
        )
        for t in loud[:top]
    ]
    print_table(("tensor", "type", "KLD", "±", "alpha"), rows, left=2)
    if not loud:
        raise UsageError("llama-quantize would convert no tensor of this model", hint="`lwq inspect` lists them")
