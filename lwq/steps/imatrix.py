"""The importance matrix of the base, collected on the calibration text."""

from __future__ import annotations

from dataclasses import dataclass

from lwq.llama import tools
from lwq.llama.requests import TextRequest, Window
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    file: str
    n_entries: int
    n_chunks: int


def file_of(base: Made) -> str:
    """The matrix's name: that of a pruned base says whose it is."""
    return "imatrix.gguf" if base.step == "convert" else f"{base.name.removesuffix('.gguf')}-imatrix.gguf"


def run(inputs: Inputs, ctx: Context) -> Result:
    """The imatrix file, in GGUF."""
    done = tools.imatrix(
        ctx.toolchain,
        TextRequest(
            model=ctx.place(inputs.base),
            text=ctx.place(inputs.text),
            window=Window(n_ctx=inputs.n_ctx, n_chunks=inputs.n_chunks),
            output=file_of(inputs.base),
        ),
        cwd=ctx.folder,
        process_output=inputs.process_output,
        threads=ctx.n_threads,
        on_progress=ctx.progress,
    )
    ctx.ran(done)
    return Result(file=file_of(inputs.base), n_entries=done.n_entries, n_chunks=done.n_chunks)
