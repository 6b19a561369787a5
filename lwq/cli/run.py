"""``lwq plan``, ``lwq run`` and ``lwq why``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from lwq import explain, pipeline, preview, sources
from lwq.assemble import Run, assemble, publish_files
from lwq.cli.progress import Progress, clock, showing
from lwq.cli.settings import Settings
from lwq.cli.tables import print_table
from lwq.errors import UsageError
from lwq.files import human_bytes, lock, os_errors
from lwq.recipe import Recipe
from lwq.recipe_parse import parse_recipe
from lwq.steps import Step
from lwq.toolchain import home

RECIPE = click.argument("recipe", type=click.Path(path_type=Path))


@click.command("run")
@RECIPE
@click.option("--out", type=click.Path(path_type=Path), help="Report folder; reports/NAME when absent.")
@click.option("--dry-run", is_flag=True, help="The same as `lwq plan`.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
@click.pass_context
def run_command(ctx: click.Context, recipe: Path, out: Path | None, dry_run: bool, as_json: bool) -> None:
    """Carry out RECIPE and write its model card.

    Finished steps are kept: the same command goes on where a broken run ended, and a changed recipe
    repeats only what the change touches.
    """
    if dry_run:
        ctx.invoke(plan_command, recipe=recipe, as_json=as_json)
        return
    settings: Settings = ctx.obj
    loaded = Loaded(recipe, settings)
    folder = out or Path("reports") / loaded.recipe.name
    _check_writable(folder)
    with lock(folder / ".lwq.lock"), showing(len(loaded.steps), settings.verbosity) as progress:
        card = _carry_out(loaded, folder, progress)
    text = json.dumps({"card": str(card), "folder": str(folder)}) if as_json else f"card: {card}"
    click.echo(text)


def _carry_out(loaded: Loaded, folder: Path, progress: Progress) -> Path:
    from lwq.report.write import write_report

    cache = loaded.settings.cache()
    _tell_cost(loaded, progress)
    entries = pipeline.execute(
        loaded.steps, cache, loaded.machine, loaded.sources.given(), _Remembering(loaded, progress)
    )
    done = Run(
        recipe=loaded.recipe,
        recipe_text=loaded.text,
        sources=loaded.sources,
        machine=loaded.machine,
        steps=loaded.steps,
        entries=entries,
    )
    publish_files(done, folder)
    card = write_report(assemble(done), folder)
    progress.note(f"{progress.n_run} steps run, {len(loaded.steps) - progress.n_run} done before")
    return card


def _tell_cost(loaded: Loaded, progress: Progress) -> None:
    forecast = preview.forecast(loaded.steps, loaded.settings.cache())
    if forecast.n_missing:
        time = f", about {clock(forecast.seconds)}" if forecast.seconds is not None else ""
        progress.note(f"{forecast.n_missing} of {len(loaded.steps)} steps to run{time}")
