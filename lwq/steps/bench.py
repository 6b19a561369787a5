"""Tokens per second of all files on this machine, measured in turns: A B C, A B C, …

What slows the machine for a while slows all files of a round alike, so ratios within a round stay true.
"""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from lwq.llama import tools
from lwq.llama.machine import busy_share
from lwq.llama.requests import Benched, Ran
from lwq.metrics.speeds import mean
from lwq.metrics.values import Speed
from lwq.steps.step import Context, Origin, from_json, to_json

NAME = "bench"
VERSION = 2
USES_TOOLS = True
IN_PROCESS = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrant:
    """A file to measure, and how it is called."""

    name: str
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    candidates: tuple[Entrant, ...]
    tests: tuple[str, ...]
    repetitions: int
    """Rounds: in each, every file is run once."""
    n_threads: int
    cpu: str
    """The processor's name: speeds of another machine are not reused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedFile:
    """A file's speeds, and the command of one round."""

    name: str
    argv: tuple[str, ...]
    speed: tuple[Speed, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    rows: tuple[TimedFile, ...]
    busy: float
    """Largest share of the CPUs that others used before a round."""

    def of_row(self, name: str) -> TimedFile:
        """The speeds of the row of that name."""
        return next(row for row in self.rows if row.name == name)


def run(inputs: Inputs, ctx: Context) -> Result:
    """Every file's tests, with their samples in the order of the rounds.

    A finished run of one file in one round is a piece; what others use of the CPUs is looked at before each round,
    and again before a round that goes on after a break.

    Raises:
        LwqError: llama-bench failed, or printed not what it had to.
    """
    pieces, n = ctx.pieces(), len(inputs.candidates)
    runs: list[list[Benched]] = [[] for _ in inputs.candidates]
    for number in range(inputs.repetitions):
        missing = [i for i in range(n) if f"run/{number}/{i}" not in pieces.by_key]
        if missing:
            pieces.get(f"busy/{number}/{missing[0]}", busy_share)
        for i, row in enumerate(inputs.candidates):
            piece = pieces.get(f"run/{number}/{i}", partial(_once, row, inputs, ctx))
            runs[i].append(from_json(Benched, piece))
            ctx.progress(number * n + i + 1, inputs.repetitions * n)
    busy = max(share for key, share in pieces.by_key.items() if key.startswith("busy/"))
    for done in runs:
        ctx.ran(Ran(argv=done[0].argv, seconds=sum(one.seconds for one in done)))
    named = zip(inputs.candidates, runs, strict=True)
    rows = tuple(TimedFile(name=row.name, argv=done[0].argv, speed=_together(done, busy)) for row, done in named)
    return Result(rows=rows, busy=busy)


def _once(row: Entrant, inputs: Inputs, ctx: Context) -> object:
    with _placed(row.origin, ctx) as folder:
        done = tools.bench(
            ctx.toolchain,
            cwd=folder,
            model=row.origin.name,
            tests=inputs.tests,
            repetitions=1,
            threads=inputs.n_threads,
        )
    return to_json(done)


@contextmanager
def _placed(origin: Origin, ctx: Context) -> Iterator[Path]:
    """A folder with the file (or all shards of it) alone, since files of several people may have one name."""
    folder = ctx.folder / "turn"
    folder.mkdir()
    for link, path in ctx.links(origin):
        (folder / link).symlink_to(path)
    yield folder
    shutil.rmtree(folder)


def _together(runs: Sequence[Benched], busy: float) -> tuple[Speed, ...]:
    """One Speed for each test, from a file's runs in round order."""
    load_seconds = statistics.median(run.load_seconds for run in runs)
    peak_bytes = max(run.peak_bytes for run in runs)
    speeds = []
    for of_test in zip(*(run.speed for run in runs), strict=True):
        samples = tuple(sample for speed in of_test for sample in speed.samples)
        measured = {"tokens_per_second": mean(samples), "samples": samples, "busy": busy}
        speeds.append(replace(of_test[0], load_seconds=load_seconds, peak_bytes=peak_bytes, **measured))
    return tuple(speeds)
