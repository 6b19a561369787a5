"""``lwq plan``, ``lwq run`` and ``lwq why``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click

from lwq.cli.job import carry_out, check_writable, prepare, ready
from lwq.cli.planned import guess_of, show_plan
from lwq.cli.progress import Progress, clock, showing
from lwq.cli.remaining import TimeLeft
from lwq.cli.settings import Settings
from lwq.cli.tables import print_table
from lwq.errors import UsageError
from lwq.outlook.expected import check_fits, outlook
from lwq.plan import explain
from lwq.plan.asked import check_asked
from lwq.plan.assemble import assemble
from lwq.plan.forecast import Forecast
from lwq.plan.job import Job, read_recipe
from lwq.plan.preview import check_files, planned_files
from lwq.plan.publish import publish_files
from lwq.record.record import Record
from lwq.store.files import lock, write_atomic

RECIPE = click.argument("recipe", type=click.Path(path_type=Path))
MODEL = click.option("--model", metavar="REFERENCE", help="Use this model instead of the recipe's.")


@click.command("plan")
@RECIPE
@MODEL
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_obj
def plan_command(settings: Settings, recipe: Path, model: str | None, as_json: bool) -> None:
    """Show RECIPE's steps with memory, disk and time of each, and predicted sizes of files.

    Nothing is measured and nothing large is fetched or read; sizes come from dry runs of llama-quantize. Steps without
    a key depend on a model that was never hashed.
    """
    show_plan(recipe, model, settings, as_json=as_json)


@click.command("run")
@RECIPE
@MODEL
@click.option("--out", type=click.Path(path_type=Path), help="Report folder; reports/NAME when absent.")
@click.option("--dry-run", is_flag=True, help="The same as `lwq plan`.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
@click.pass_obj
def run_command(
    settings: Settings, recipe: Path, model: str | None, out: Path | None, dry_run: bool, as_json: bool
) -> None:
    """Carry out RECIPE and write its model card.

    Finished steps are kept: the same command goes on where a broken run ended, and a changed recipe
    repeats only what the change touches.
    """
    if dry_run:
        show_plan(recipe, model, settings, as_json=as_json)
        return
    with showing(settings.verbosity) as progress:
        job = prepare(read_recipe(recipe, model), settings, progress)
        folder = out or Path("reports") / job.recipe.name
        check_writable(folder)
        with lock(job.cache.root / "locks" / f"{job.recipe.name}.lock", on_wait=_waiting(progress, job)):
            progress.remaining = TimeLeft.of(job.plan.steps, _check(job, progress))
            record, card = _carry_out(job, folder, progress)
    if as_json:
        click.echo(json.dumps({"card": str(card), "folder": str(folder)}))
    else:
        _print_results(record)
        click.echo(f"card: {card}")


def _print_results(record: Record) -> None:
    """The card's first table, the files under their rows' names."""
    from lwq.report.choices import files, offered

    if rows := offered(record):
        table, names = files(record), {row.file: row.name for row in rows}
        shown = [(names.get(row[0], row[0]), *row[1:]) for row in table.rows]
        titles = [column.title for column in table.columns]
        texts = [column.title for column in table.columns[1:] if not column.right]
        print_table(titles, shown, spare=(*texts, *reversed(titles[3:])))
        click.echo()


def _check(job: Job, progress: Progress) -> Forecast:
    """What is to be done and how long it may take.

    What cannot be done here is refused before the first step; of a folder all is known once it could be converted.
    """
    if not (found := job.forecast()).n_missing:
        return found
    was_known = job.header() is not None  # then what is asked of the model was checked with the recipe
    ready(job, progress)
    if header := job.header():
        if not was_known:
            check_asked(job.recipe, header, job.machine.toolchain)
        files = planned_files(job.recipe, header, job.machine.toolchain)
        check_files(files)
        check_fits(job, header, files)
        return job.forecast(guess_of(job, outlook(job, header, files)))
    return found


def _carry_out(job: Job, folder: Path, progress: Progress) -> tuple[Record, Path]:
    from lwq.report.public import publishable
    from lwq.report.write import write_report

    ahead = progress.remaining
    if ahead and ahead.forecast.n_missing:
        time = f", about {clock(ahead.seconds)}" if ahead.seconds else ""
        progress.note(f"{ahead.forecast.n_missing} of {len(job.plan.steps)} steps to run{time}")
    run = carry_out(job, progress)
    publish_files(run, folder)
    record = assemble(run)
    write_atomic(folder / f"{job.recipe.name}.toml", publishable(record).recipe)
    card = write_report(record, folder, templates=job.asked.templates)
    for note in record.model.notes:
        progress.note(f"note: {note}")
    progress.note(f"{progress.n_run} steps run, {len(job.plan.steps) - progress.n_run} done before")
    return record, card


def _waiting(progress: Progress, job: Job) -> Callable[[], None]:
    return lambda: progress.note(f"another run of {job.recipe.name} is under way; waiting for it")


@click.command("why")
@click.argument("step")
@RECIPE
@MODEL
@click.pass_obj
def why_command(settings: Settings, step: str, recipe: Path, model: str | None) -> None:
    """Say why STEP of RECIPE is done, or would run again.

    STEP is a label of `lwq plan` (quantize:Q4_K_M) or its first part (quantize, for all of them).
    """
    job = prepare(read_recipe(recipe, model), settings, Progress(-1))
    chosen = [s for s in job.plan.steps if s.label == step or s.label.startswith(f"{step}:")]
    if not chosen:
        labels = ", ".join(s.label for s in job.plan.steps)
        raise UsageError(f"{step!r} is no step of {recipe}", hint=f"its steps: {labels}")
    for one in chosen:
        click.echo("\n".join(explain.why(one, job.plan.steps, job.cache, job.recipe.name)))
