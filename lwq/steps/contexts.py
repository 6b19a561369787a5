"""What memory each file takes with a context, as llama.cpp itself says of it."""

from __future__ import annotations

from dataclasses import dataclass

from lwq.engine.contexts import context_memory
from lwq.metrics.values import ContextMemory
from lwq.steps.step import Context, Made

NAME = "contexts"
VERSION = 1
USES_TOOLS = True
IN_PROCESS = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    candidates: tuple[Made, ...]
    n_ctx: tuple[int, ...]
    """Sizes of contexts, beside the one that the model was trained for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    files: tuple[tuple[str, tuple[ContextMemory, ...]], ...]
    """By file name."""

    def of_file(self, name: str) -> tuple[ContextMemory, ...]:
        """Of the file of that name."""
        return dict(self.files)[name]


def run(inputs: Inputs, ctx: Context) -> Result:
    """The memory of every file's contexts, from the smallest.

    Raises:
        ModelError: llama.cpp cannot load a file.
        TranscriptError: it says nothing of its buffers.
    """
    found = []
    for done, candidate in enumerate(inputs.candidates, 1):
        file = ctx.folder / ctx.place(candidate)
        found.append((candidate.name, context_memory(ctx.toolchain, file, inputs.n_ctx)))
        ctx.progress(done, len(inputs.candidates))
    return Result(files=tuple(found))
