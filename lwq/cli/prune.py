"""``lwq prune-scores`` and ``lwq prune``: what each layer is worth, and a base without some of them."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click

from lwq.cli.job import carry_out, prepare
from lwq.cli.measured import SOURCE, Subject
from lwq.cli.progress import Progress, showing
from lwq.cli.settings import Settings
from lwq.cli.tables import print_json, print_table
from lwq.errors import FileError, UsageError
from lwq.gguf.header import is_named_gguf, read_header
from lwq.gguf.imatrix import read_imatrix
from lwq.layers.pruning import check_layers
from lwq.metrics.values import Estimate
from lwq.plan.planner import Planner
from lwq.record.prune import HealedSet, LayerScore
from lwq.steps import cut, prune
from lwq.steps.step import Given
from lwq.store.files import link_or_copy, os_errors, sha256_file

_HEADS = ("layer", "KLD", "±", "PPL", "attention only", "FFN only", "BI", "LIM", "ZD", "CosSim", "d(1)")


def _scores(subject: Subject, settings: Settings, progress: Progress, imatrix: Path | None) -> prune.Result:
    """Scores of all layers; does what is not in the cache."""
    given = None
    if imatrix:
        read_imatrix(imatrix)
        given = Given(sha256=sha256_file(imatrix), name=imatrix.name)
    job = prepare(subject.asked(), settings, progress, partial(Planner.scores, imatrix=given))
    more = {given.sha256: (imatrix.absolute(),)} if given and imatrix else {}
    run = carry_out(job, progress, name=f"{job.recipe.name}.layers", given=more)
    assert job.plan.prune
    return run.result(job.plan.prune)


@click.command("prune-scores")
@SOURCE
@click.option("--calibration", "text", metavar="TEXT", default="packaged:calibration", help="Text (with a MODEL).")
@click.option("--imatrix", type=click.Path(path_type=Path), help="Take CosSim from this one; collected when absent.")
@click.option("--ctx", "n_ctx", type=click.IntRange(32), default=512, show_default=True, help="Tokens of a window.")
@click.option("--chunks", "n_chunks", type=click.IntRange(1), default=100, show_default=True, help="For the imatrix.")
@click.option("--windows", "n_windows", type=click.IntRange(2), default=4, show_default=True, help="For each layer.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the scores here (.svg or .png).")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_obj
def prune_scores_command(
    settings: Settings, /, source: str, imatrix: Path | None, plot: Path | None, as_json: bool, **options: Any
) -> None:
    """Measure what removing each layer of SOURCE (a recipe or a model) costs, beside the scores of the literature.

    KLD is against the whole model, with the layer as identity; attention alone and FFN alone are measured too, but
    llama-quantize removes whole layers only. What is done is kept. A recipe states its own text and windows.
    """
    n_windows = options.pop("n_windows")
    if plot:
        _check_plot(plot)
    subject = Subject(reference=source, more=f"[pruning]\nn_windows = {n_windows}\n", **options)
    with showing(settings.verbosity) as progress:
        scored = _scores(subject, settings, progress, imatrix)
    if plot:
        _draw(scored, plot)
    if as_json:
        print_json(dataclasses.asdict(scored))
        return
    click.echo(
        f"measured: KLD (nats) and PPL without each layer, {scored.n_scored:,} tokens of {scored.n_windows} windows;"
        f" PPL of the whole model {scored.base_ppl:.4f}"
    )
    print_table(_HEADS, [_row(s) for s in scored.layers], left=1)
    for layers, why in _grouped(scored.barred):
        click.echo(f"barred: {layers}: {why}")


def _row(s: LayerScore) -> tuple[str, ...]:
    cossim = "-" if s.cossim is None else f"{s.cossim:.4f}"
    klds = (f"{s.kld.value:.5f}", f"{s.kld.stderr or 0:.5f}", f"{s.ppl:.3f}")
    parts = (f"{s.attention_kld.value:.5f}", f"{s.ffn_kld.value:.5f}")
    scores = (f"{s.block_influence:.4f}", f"{s.lim:.4f}", f"{s.zd:.4f}", cossim)
    return (str(s.layer), *klds, *parts, *scores, f"{s.angular[0]:.4f}" if s.angular else "-")


def _grouped(barred: tuple[tuple[int, str], ...]) -> list[tuple[str, str]]:
    reasons: dict[str, list[int]] = {}
    for layer, why in barred:
        reasons.setdefault(why, []).append(layer)
    return [(", ".join(map(str, layers)), why) for why, layers in reasons.items()]


def _check_plot(path: Path) -> None:
    """Raises UsageError or FileError for a plot that could not be written, before anything is measured."""
    if path.suffix not in (".svg", ".png"):
        raise UsageError(f"{path.name}: a plot is .svg or .png", hint=f"--plot {path.stem}.svg")
    _check_folder(path, "write the plot")


def _check_folder(path: Path, what: str) -> None:
    """Raises FileError if no file can be made beside ``path``."""
    with os_errors(what, path), tempfile.TemporaryFile(dir=path.parent):
        pass


def _draw(scored: prune.Result, path: Path) -> None:
    from lwq.report.prune_plots import draw_layer_scores

    with os_errors("write the plot", path):
        draw_layer_scores(scored.layers, path, tuple(layer for layer, _ in scored.barred))
    click.echo(f"plot: {path}", err=True)


@click.command("prune")
@SOURCE
@click.option("--layers", metavar="N,N", help="These layers, counted from 0.")
@click.option("--count", type=click.IntRange(1), help="So many layers, chosen by measured damage.")
@click.option("--heal/--no-heal", default=True, show_default=True, help="Repair what they leave behind.")
@click.option("--beam", type=click.IntRange(1), default=1, show_default=True, help="Sets grown at a time.")
@click.option("--contiguous", is_flag=True, help="Layers that follow each other only.")
@click.option("--allow-edge", is_flag=True, help="The first and the last layer may go too.")
@click.option("--calibration", "text", metavar="TEXT", default="packaged:calibration", help="To measure and fit on.")
@click.option("--selection", metavar="TEXT", default="packaged:selection", help="Repairs are judged on it.")
@click.option("--ctx", "n_ctx", type=click.IntRange(32), default=512, show_default=True, help="Tokens of a window.")
@click.option("--repairs", type=click.Path(path_type=Path), help="Put these repaired tensors in; nothing is measured.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The pruned base to write (GGUF).")
@click.pass_obj
def prune_command(settings: Settings, /, source: str, out: Path, repairs: Path | None, **options: Any) -> None:
    """Write SOURCE (a model) without some layers, as a 16-bit GGUF that plain llama.cpp runs.

    Layers are chosen by measured damage (--count) or named (--layers). Healing refits tensors in closed form and
    keeps what lowers the KLD on the selection text.
    """
    layers = _numbers(options["layers"])
    if bool(layers) == bool(options["count"]):
        raise UsageError("say which layers or how many", hint="--layers 4,5 or --count 2")
    if repairs and not layers:
        raise UsageError("--repairs were fitted for certain layers", hint="name those: --layers 4,5")
    if source.endswith(".toml"):
        raise UsageError(f"{source}: a recipe; name a model", hint="`lwq run` carries out a recipe's targets")
    if out.exists():
        raise FileError(f"{out}: exists already", hint="remove it, or choose another name")
    _check_folder(out, "write the pruned base")
    if repairs:
        _put_in(settings, Path(source), layers, repairs, out, allow_edge=options["allow_edge"])
        return
    subject = Subject(
        reference=source,
        text=options["text"],
        n_ctx=options["n_ctx"],
        base_type=_base_type(source),
        more=_asked(layers, options),
    )
    with showing(settings.verbosity) as progress:
        job = prepare(subject.asked(), settings, progress, Planner.cuts)
        run = carry_out(job, progress, name=f"{job.recipe.name}.layers")
    made = job.plan.cuts[0]
    link_or_copy(run.entry(made).path(made.inputs.file), out)
    _tell(run.result(made), out)


def _base_type(source: str) -> str:
    """A GGUF in bf16 stays so: its range does not fit f16."""
    if not is_named_gguf(source) or not Path(source).is_file():
        return "f16"
    return "bf16" if "bf16" in {t.ggml_type for t in read_header(Path(source)).tensors} else "f16"


def _asked(layers: tuple[int, ...], options: Mapping[str, Any]) -> str:
    """The recipe's tables that ask for this."""
    which = f"prune_layers = {list(layers)}" if layers else f"prune = {options['count']}"
    text = options["selection"] if ":" in options["selection"] else str(Path(options["selection"]).absolute())
    return (
        f"[[targets]]\nname = 'pruned'\nftype = 'Q8_0'\n{which}\nheal = {str(options['heal']).lower()}\n"
        f"[selection]\ntext = {json.dumps(text)}\nn_ctx = {options['n_ctx']}\n"
        f"[pruning]\nbeam = {options['beam']}\ncontiguous = {str(options['contiguous']).lower()}\n"
        f"allow_edge = {str(options['allow_edge']).lower()}\n"
    )


def _numbers(text: str | None) -> tuple[int, ...]:
    """Layers of a list like ``4,5``, each once; none where nothing was said."""
    try:
        layers = tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise UsageError(f"--layers {text}: no list of numbers", hint="--layers 4,5") from None
    if wrong := [layer for layer in layers if layer < 0]:
        raise UsageError(f"--layers {text}: there is no layer {wrong[0]}", hint="layers are counted from 0")
    if twice := [layer for layer in layers if layers.count(layer) > 1]:
        raise UsageError(f"--layers {text}: names layer {twice[0]} twice", hint="name each layer once")
    return layers


def _put_in(
    settings: Settings, base: Path, layers: tuple[int, ...], repairs: Path, out: Path, *, allow_edge: bool
) -> None:
    from lwq.layers.pruned_base import Cut, read_repairs, write_pruned

    header = read_header(base)
    layers = check_layers(layers, header.n_layer, allow_edge=allow_edge)
    tensors = read_repairs(repairs)
    write_pruned(settings.machine().toolchain, header, Cut(layers=layers, tensors=tensors), out, sha256_file(base))
    click.echo(f"without layers {', '.join(map(str, layers))}, {len(tensors)} tensors repaired: {out}")


def _tell(made: cut.Result, out: Path) -> None:
    layers = ", ".join(map(str, made.layers))
    click.echo(f"without layer{'s' if len(made.layers) > 1 else ''} {layers}: {out}")
    if made.healed:
        click.echo(_healing(made.healed))


def _healing(healed: HealedSet) -> str:
    if not healed.tensors:
        return f"not healed: {healed.note}; KLD {_shown(healed.before)} on the selection text"
    names = ", ".join(t.tensor for t in healed.tensors)
    return (
        f"healing: KLD on the selection text {_shown(healed.before)} → {_shown(healed.after)} nats"
        f" ({_shown(healed.gain)}, paired); repaired {names}"
    )


def _shown(value: Estimate) -> str:
    return f"{value.value:.5f}" + (f" ±{value.stderr:.5f}" if value.stderr is not None else "")
