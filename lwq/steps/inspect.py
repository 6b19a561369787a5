"""What a third party's GGUF holds, and whether it can stand beside ours."""

from __future__ import annotations

from dataclasses import dataclass

from lwq.errors import ModelError
from lwq.gguf_header import read_header
from lwq.record import FileFacts
from lwq.steps import Context, Given, Made, file_facts

NAME = "inspect"
VERSION = 1
USES_TOOLS = False
_SAME = ("general.architecture", "tokenizer.ggml.model", "tokenizer.ggml.pre")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    base: Made
    file: Given


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    facts: FileFacts


def run(inputs: Inputs, ctx: Context) -> Result:
    """The file's contents, if it has the base's architecture, tokenizer and vocabulary.

    Raises:
        ModelError: it is a file of another model.
    """
    base, other = read_header(ctx.find(inputs.base)), read_header(ctx.find(inputs.file))
    for key in _SAME:
        if (ours := base.text(key)) != (theirs := other.text(key)):
            raise ModelError(
                f"{inputs.file.name}: {key} is {theirs!r}, the base has {ours!r}: another model",
                hint="rows of one card must be files of one model; remove it from third_party",
            )
    if base.n_vocab != other.n_vocab:
        raise ModelError(
            f"{inputs.file.name}: vocabulary of {other.n_vocab} tokens, the base has {base.n_vocab}: another model",
            hint="rows of one card must be files of one model; remove it from third_party",
        )
    return Result(facts=file_facts(other))
