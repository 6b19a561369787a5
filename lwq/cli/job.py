"""What commands that carry out steps share: a job with the user's settings, its run with progress, names, folders."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from lwq.cli.progress import Progress
from lwq.cli.settings import Settings
from lwq.gguf.header import whole_name
from lwq.llama.converter_env import converter_python
from lwq.plan.finished import Run
from lwq.plan.job import Asked, Job, Part
from lwq.plan.planner import Planner
from lwq.store.files import os_errors


def prepare(asked: Asked, settings: Settings, progress: Progress, part: Part = Planner.plan) -> Job:
    """The job of a recipe, or of a part of it, with the global options.

    Raises:
        LwqError: every fault of what the recipe names, before anything costly.
    """
    machine = settings.machine()
    return Job.prepare(asked, machine, settings.cache(), progress.note, part)


def carry_out(
    job: Job, progress: Progress, *, name: str = "", given: Mapping[str, tuple[Path, ...]] | None = None
) -> Run:
    """The finished run, whose steps are counted on the terminal; arguments as of ``Job.carry_out``."""
    progress.n_steps = len(job.plan.steps)
    ready(job, progress)
    return job.carry_out(progress, name=name, given=given)


def ready(job: Job, progress: Progress) -> None:
    """Makes the converter's environment, with progress, where the job is to convert.

    Raises:
        FileError, DownloadError, SpaceError: it cannot be made or used.
    """
    if job.must_convert:
        converter_python(progress.show)


def name_of(reference: str, most: int) -> str:
    """A name of at most so many characters from a path or reference: ``hf://owner/Model-8B@main`` → ``Model-8B``."""
    name = whole_name(Path(reference.split("@")[0].rstrip("/")).name)
    return re.sub(r"[^A-Za-z0-9._+-]", "-", name).strip("._+-")[:most] or "model"


def check_writable(folder: Path) -> None:
    """Fails before the first costly step if the report could not be written at the end."""
    with os_errors("write the report", folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
