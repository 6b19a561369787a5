"""Perplexity and KL divergence of one file against the base's stored log-probabilities."""

from __future__ import annotations

from dataclasses import dataclass

from lwq.llama import tools
from lwq.llama.requests import KldRequest
from lwq.metrics.values import Damage
from lwq.steps.step import Context, Made, Origin

NAME = "evaluate"
VERSION = 2
USES_TOOLS = True
IN_PROCESS = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    candidate: Origin
    baseline: Made
    n_ctx: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    damage: Damage


def run(inputs: Inputs, ctx: Context) -> Result:
    """Everything that ``llama-perplexity --kl-divergence`` prints."""
    model, logits = ctx.place(inputs.candidate), ctx.place(inputs.baseline)
    request = KldRequest(model=model, logits=logits, n_ctx=inputs.n_ctx)
    done = tools.kl_divergence(ctx.toolchain, request, cwd=ctx.folder, threads=ctx.n_threads, on_progress=ctx.progress)
    ctx.ran(done)
    return Result(damage=done.damage)
