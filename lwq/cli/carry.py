"""One recipe carried out: what cannot be done is refused, steps run, the report is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click

from lwq.cli.ahead import guess_of
from lwq.cli.job import carry_out, check_writable, ready
from lwq.cli.progress import Progress, clock
from lwq.cli.remaining import TimeLeft
from lwq.cli.tables import print_table
from lwq.outlook.expected import check_fits, needs_of, outlook
from lwq.plan.asked import check_asked
from lwq.plan.assemble import assemble
from lwq.plan.execution import Crew
from lwq.plan.forecast import Forecast
from lwq.plan.graph import Needs
from lwq.plan.job import Job, SideBySide
from lwq.plan.preview import check_files, planned_files
from lwq.plan.publish import publish_files
from lwq.record.record import Record
from lwq.store.files import lock, write_atomic


def carry(
    job: Job, folder: Path, progress: Progress, crew: Crew | None = None, n_places: Callable[[], int] = lambda: 1
) -> tuple[Record, Path]:
    """The record of a finished run and the path of its card, in the report's folder.

    Args:
        crew: who carries its steps out; this process when None.
        n_places: how many it carries out at a time.
    """
    check_writable(folder)
    with lock(job.cache.root / "locks" / f"{job.recipe.name}.lock", on_wait=_waiting(progress, job)):
        found, needs = _check(job, progress)
        progress.remaining = TimeLeft.of(job.plan.steps, found, n_places)
        beside = SideBySide(crew=crew, seconds=found.by_key, needs=needs)
        return _carry_out(replace(job, side_by_side=beside), folder, progress)


def print_results(record: Record) -> None:
    """The card's first table, the files under their rows' names."""
    from lwq.report.choices import files, offered

    if rows := offered(record):
        table, names = files(record), {row.file: row.name for row in rows}
        shown = [(names.get(row[0], row[0]), *row[1:]) for row in table.rows]
        titles = [column.title for column in table.columns]
        texts = [column.title for column in table.columns[1:] if not column.right]
        print_table(titles, shown, spare=(*texts, *reversed(titles[3:])))
        click.echo()


def _check(job: Job, progress: Progress) -> tuple[Forecast, dict[str, Needs]]:
    """What is to be done, how long it may take, and what memory of each step.

    What cannot be done here is refused before the first step; of a folder all is known once it could be converted.
    """
    if not (found := job.forecast()).n_missing:
        return found, {}
    was_known = job.header() is not None  # then what is asked of the model was checked with the recipe
    ready(job, progress)
    if header := job.header():
        if not was_known:
            check_asked(job.recipe, header, job.machine.toolchain)
        files = planned_files(job.recipe, header, job.machine.toolchain)
        check_files(files)
        check_fits(job, header, files)
        ahead = outlook(job, header, files)
        return job.forecast(guess_of(job, ahead)), needs_of(job.plan.steps, ahead)
    return found, {}


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
