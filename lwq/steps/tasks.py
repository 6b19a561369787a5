"""The score of one file on one task set, by llama-perplexity's own scorers, item by item."""

from __future__ import annotations

from dataclasses import dataclass

from lwq.llama import tools
from lwq.llama.requests import TaskRequest
from lwq.metrics.values import TaskScore
from lwq.steps.step import Context, Made, Origin
from lwq.tasks.formats import tool_order
from lwq.tasks.items import Kind

NAME = "tasks"
VERSION = 2
USES_TOOLS = True
IN_PROCESS = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    candidate: Origin
    name: str
    items: Made


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    score: TaskScore


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drawn:
    """What is needed of the step that wrote the items."""

    kind: Kind
    ids: tuple[str, ...]
    n_ctx: int
    n_parallel: int


def run(inputs: Inputs, ctx: Context) -> Result:
    """The score over all items announced, and which were right, in the order of the set's ids."""
    drawn = ctx.read(inputs.items, _Drawn)
    n_items = len(drawn.ids)
    request = TaskRequest(
        kind=drawn.kind,
        model=ctx.place(inputs.candidate),
        items=ctx.place(inputs.items),
        n_items=n_items,
        n_ctx=drawn.n_ctx,
        n_parallel=drawn.n_parallel,
    )
    done = tools.task(ctx.toolchain, request, cwd=ctx.folder, threads=ctx.n_threads, on_progress=ctx.progress)
    ctx.ran(done)
    outcomes = ["0"] * n_items
    for place, item in enumerate(tool_order(drawn.kind, n_items)):
        outcomes[item] = "1" if done.outcomes.right[place] else "0"
    score = TaskScore(name=inputs.name, score=done.outcomes.score, n_items=n_items, outcomes="".join(outcomes))
    return Result(score=score)
