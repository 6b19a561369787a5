"""The score of one file on one task set, by llama-perplexity's own scorers."""

from __future__ import annotations

from dataclasses import dataclass

from lwq import tools
from lwq.metrics import TaskScore
from lwq.requests import TaskRequest
from lwq.steps import Context, Given, Origin

NAME = "tasks"
VERSION = 1
USES_TOOLS = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    candidate: Origin
    name: str
    kind: str
    items: Given
    n_items: int
    n_ctx: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    score: TaskScore


def run(inputs: Inputs, ctx: Context) -> Result:
    """The score over all items announced."""
    request = TaskRequest(
        kind=inputs.kind,
        model=ctx.place(inputs.candidate),
        items=ctx.place(inputs.items),
        n_items=inputs.n_items,
        n_ctx=inputs.n_ctx,
    )
    done = tools.task(ctx.toolchain, request, cwd=ctx.folder, threads=ctx.n_threads, on_progress=ctx.progress)
    ctx.ran(done)
    return Result(score=TaskScore(name=inputs.name, score=done.score, n_items=done.n_items))
