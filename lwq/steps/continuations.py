"""For how many tokens each file goes on like the base, from places of the evaluation text."""

from __future__ import annotations

from dataclasses import dataclass

from lwq.engine.continuing import agreed, beginnings, continuations
from lwq.record.record import Continuation
from lwq.steps.step import Context, Given, Made

NAME = "continuations"
VERSION = 1
USES_TOOLS = True
IN_PROCESS = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    base: Made
    candidates: tuple[Made, ...]
    text: Given
    n_prompts: int
    n_prompt_tokens: int
    n_tokens: int
    """That follow each prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    files: tuple[tuple[str, Continuation], ...]
    """By file name."""

    def of_file(self, name: str) -> Continuation:
        """Of the file of that name."""
        return dict(self.files)[name]


def run(inputs: Inputs, ctx: Context) -> Result:
    """How far each file follows the base, token by token, from each prompt.

    Raises:
        ModelError: llama.cpp cannot load or compute a file; a text shorter than a prompt.
    """
    text = ctx.find(inputs.text).read_text(encoding="utf-8")
    base = ctx.folder / ctx.place(inputs.base)
    prompts = beginnings(ctx.toolchain, base, text, inputs.n_prompts, inputs.n_prompt_tokens)
    tell = ctx.counted(inputs.n_tokens * (1 + len(inputs.candidates)))
    by_file = []
    for origin in (inputs.base, *inputs.candidates):
        file = ctx.folder / ctx.place(origin)
        followed = continuations(ctx.toolchain, file, prompts, inputs.n_tokens, n_threads=ctx.n_threads, on_token=tell)
        by_file.append((origin.name, followed))
    (_, of_base), *others = by_file
    return Result(files=tuple((name, _compared(of_base, found, inputs.n_tokens)) for name, found in others))


def _compared(of_base: tuple[tuple[int, ...], ...], found: tuple[tuple[int, ...], ...], n_tokens: int) -> Continuation:
    return Continuation(n_tokens=n_tokens, agreed=tuple(map(agreed, of_base, found)))
