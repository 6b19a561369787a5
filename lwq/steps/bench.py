"""Tokens per second of one file on this machine."""

from __future__ import annotations

from dataclasses import dataclass

from lwq import tools
from lwq.metrics import Speed
from lwq.steps import Context, Origin

NAME = "bench"
VERSION = 1
USES_TOOLS = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    candidate: Origin
    tests: tuple[str, ...]
    repetitions: int
    n_threads: int
    cpu: str
    """The processor's name: speeds of another machine are not reused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    speed: tuple[Speed, ...]


def run(inputs: Inputs, ctx: Context) -> Result:
    """One row for each test, as llama-bench measured it."""
    done = tools.bench(
        ctx.toolchain,
        cwd=ctx.folder,
        model=ctx.place(inputs.candidate),
        tests=inputs.tests,
        repetitions=inputs.repetitions,
        threads=inputs.n_threads,
    )
    ctx.ran(done)
    return Result(speed=done.speed)
