"""Predicted beside measured for every step of a recipe: the most resident memory of one process, and the time.

Each step runs in a process of its own, which (with the programs that it starts) is looked at twenty times a second.
``anonymous`` is what belongs to that process alone: pages of mapped files are not counted, since the system takes them
back when somebody needs them. Steps that are in the cache already are not measured: name a fresh home in ``LWQ_HOME``.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lwq.cli.progress import Progress
from lwq.cli.settings import Settings
from lwq.outlook.expected import expected, outlook
from lwq.plan.execution import execute
from lwq.plan.job import Job
from lwq.plan.plan import AnyStep
from lwq.plan.preview import planned_files
from lwq.plan.reading import read_recipe

SECONDS = 0.05


@dataclass(slots=True)
class Peak:
    """The most that any one process was seen with, in bytes."""

    resident: int = 0
    anonymous: int = 0

    def look(self, pid: int) -> None:
        """Looks at a process and all that it started."""
        for one in descendants(pid):
            try:
                status = Path(f"/proc/{one}/status").read_text(encoding="ascii", errors="replace")
            except OSError:
                continue
            facts = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
            if "VmRSS" in facts:
                self.resident = max(self.resident, int(facts["VmRSS"].split()[0]) << 10)
                self.anonymous = max(self.anonymous, int(facts["RssAnon"].split()[0]) << 10)


def descendants(pid: int) -> Iterator[int]:
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        return
    for child in children:
        yield from descendants(int(child))


def done_in_a_child(job: Job, n: int) -> Peak:
    """The peak of the ``n``-th step, done in a fork of this process, which never loads llama.cpp."""
    peak, pid = Peak(), os.fork()
    if not pid:
        code = 1
        try:
            execute(job.plan.steps[: n + 1], job.surroundings(Progress(-1)))
            code = 0
        finally:
            os._exit(code)
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        peak.look(pid)
        time.sleep(SECONDS)
    return peak


def measured(job: Job) -> Iterator[tuple[AnyStep, Peak, float]]:
    """Every step that was not done yet, with its peak and its seconds."""
    for n, step in enumerate(job.plan.steps):
        if job.cache.lookup(step.module.NAME, step.key) is None:
            peak = done_in_a_child(job, n)
            entry = job.cache.lookup(step.module.NAME, step.key)
            if entry is None:
                raise SystemExit(f"{step.label} failed")
            yield step, peak, entry.seconds


def predicted(job: Job) -> dict[str, Peak]:
    """Label → the peak that ``lwq plan`` tells."""
    header = job.header()
    assert header, "a recipe of a GGUF"
    ahead = outlook(job, header, planned_files(job.recipe, header, job.machine.toolchain))
    return {s.step.label: Peak(s.peak.resident, s.peak.anonymous) for s in expected(job, ahead)}


def told(label: str, said: Peak, peak: Peak | None, seconds: float) -> str:
    """One line of the table, in MiB."""
    seen = f"{peak.resident >> 20:>8} {peak.anonymous >> 20:>8} {said.resident / peak.resident:>6.2f}" if peak else ""
    return f"{label:<40} {said.resident >> 20:>8} {said.anonymous >> 20:>8} {seen} {seconds:8.1f}"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("recipe", type=Path)
    arguments.add_argument("--model")
    options = arguments.parse_args()
    settings = Settings(verbosity=-1, llama_dir=None, threads=int(os.environ.get("LWQ_THREADS", "1")), device="auto")
    job = Job.prepare(read_recipe(options.recipe, options.model), settings.machine(), settings.cache(), print)
    said = predicted(job)
    print(f"{'step':<40} predicted anonymous measured anonymous ratio seconds")
    for step, peak, seconds in measured(job):
        print(told(step.label, said[step.label], peak, seconds), flush=True)


if __name__ == "__main__":
    main()
