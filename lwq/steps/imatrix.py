"""The importance matrix of the base, collected on the calibration text."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from lwq.llama import tools
from lwq.llama.covering import collect_covering
from lwq.llama.requests import TextRequest, Window
from lwq.record.calibrated import ExpertCoverage
from lwq.steps.step import Context, Given, Made

NAME = "imatrix"
VERSION = 1
USES_TOOLS = True
IN_PROCESS = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    base: Made
    text: Given
    n_ctx: int
    n_chunks: int | None
    process_output: bool
    min_expert_tokens: int = 0
    """Tokens that each expert is to see: further windows are used until it did, or the text is used up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    file: str
    n_entries: int
    n_chunks: int
    experts: ExpertCoverage | None = None
    """None where the model has none."""


def file_of(base: Made) -> str:
    """The matrix's name: that of a pruned base says whose it is."""
    return "imatrix.gguf" if base.step == "convert" else f"{base.name.removesuffix('.gguf')}-imatrix.gguf"


def run(inputs: Inputs, ctx: Context) -> Result:
    """The imatrix file, in GGUF."""
    request = TextRequest(
        model=ctx.place(inputs.base),
        text=ctx.place(inputs.text),
        window=Window(n_ctx=inputs.n_ctx, n_chunks=inputs.n_chunks),
        output=file_of(inputs.base),
    )
    collect = partial(
        tools.imatrix,
        ctx.toolchain,
        cwd=ctx.folder,
        process_output=inputs.process_output,
        threads=ctx.n_threads,
        on_progress=ctx.progress,
    )
    done = collect_covering(collect, request, inputs.min_expert_tokens, ctx.folder)
    for each in done.runs:
        ctx.ran(each)
    last = done.last
    return Result(file=request.output, n_entries=last.n_entries, n_chunks=last.n_chunks, experts=done.experts)
