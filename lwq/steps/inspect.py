"""What a third party's GGUF holds, and whether it can stand beside ours."""

from __future__ import annotations

from dataclasses import dataclass

from lwq.errors import ModelError
from lwq.gguf.header import read_header
from lwq.gguf.same_model import difference
from lwq.record.record import FileFacts
from lwq.steps.step import Context, Given, Origin, file_facts

NAME = "inspect"
VERSION = 3
USES_TOOLS = False
IN_PROCESS = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    base: Origin
    """The model as it was given, if that was a GGUF, else what it was converted to: types explain distances."""
    file: Given


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    facts: FileFacts


def run(inputs: Inputs, ctx: Context) -> Result:
    """The file's contents, if it is a file of the base's model.

    Raises:
        ModelError: it is a file of another model.
    """
    other = read_header(ctx.find(inputs.file))
    if why := difference(read_header(ctx.find(inputs.base)), other):
        raise ModelError(
            f"{inputs.file.name}: {why}: another model",
            hint="rows of one card must be files of one model; remove it from third_party",
        )
    return Result(facts=file_facts(other))
