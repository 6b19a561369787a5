"""A step that does what it is told without any tool: it waits, counts, fails, or lets its file be written."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from lwq.errors import ModelError
from lwq.llama.process_group import heed
from lwq.steps.step import Context, Made

NAME = "idle"
VERSION = 1
USES_TOOLS = True
IN_PROCESS = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    name: str
    seconds: float = 0.0
    after: tuple[Made, ...] = ()
    fails: str = ""
    log: str = ""
    """A file that gets a line when it begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    name: str
    read: tuple[str, ...]


def run(inputs: Inputs, ctx: Context) -> Result:
    if inputs.log:
        with Path(inputs.log).open("a", encoding="utf-8") as file:
            file.write(f"{inputs.name}\n")
    end = time.monotonic() + inputs.seconds
    while (left := end - time.monotonic()) > 0:
        heed()
        time.sleep(min(left, 0.1))
    if inputs.fails:
        raise ModelError(inputs.fails, hint="mend it")
    read = tuple(ctx.find(made).read_text(encoding="utf-8") for made in inputs.after)
    (ctx.folder / f"{inputs.name}.txt").write_text(f"made by {inputs.name}", encoding="utf-8")
    return Result(name=inputs.name, read=read)
