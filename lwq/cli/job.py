"""What commands that carry out steps share: a job with the user's settings, its run with progress, folders."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, chdir, contextmanager
from pathlib import Path

from lwq.cli.progress import Progress
from lwq.cli.settings import Settings
from lwq.llama.converter_env import converter_python
from lwq.llama.toolchain import home
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


def check_writable(folder: Path) -> None:
    """Fails before the first costly step if the report could not be written at the end."""
    with os_errors("write the report", folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


@contextmanager
def in_folder(folder: Path) -> Iterator[None]:
    """Works in another folder for the time being; raises FileError where it is not there."""
    os.environ["LWQ_HOME"] = str(home())  # where it was said as seen from here
    with ExitStack() as stack:
        with os_errors("go to the working directory", folder):
            stack.enter_context(chdir(folder))
        yield
