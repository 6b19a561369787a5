"""A step that does in its child what native code may do to it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from dataclasses import dataclass

from lwq.engine.bindings import load_bindings
from lwq.errors import ModelError
from lwq.steps.step import Context

NAME = "odd"
VERSION = 1
USES_TOOLS = True
IN_PROCESS = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    pid: int
    graph_reuse: str


def run(inputs: Inputs, ctx: Context) -> Result:
    ctx.progress(1, 3)
    ctx.commands.append(("llama-odd", "--option"))
    (ctx.folder / "output.txt").write_text("made", encoding="utf-8")
    library = load_bindings(ctx.toolchain).llama_cpp._lib
    if inputs.what == "abort":
        library.ggml_abort.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p]
        library.ggml_abort(b"ops.cpp", 17, b"GGML_ASSERT(a == b)\n failed")
    elif inputs.what == "exit":
        os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n")
        os.kill(os.getpid(), signal.SIGABRT)
    elif inputs.what == "model":
        raise ModelError("it is broken", hint="mend it")
    elif inputs.what == "memory":
        raise MemoryError
    elif inputs.what == "fault":
        sys.stdout.write("a line of something else\n")
        raise KeyError("blk.7")
    ctx.progress(3, 3)
    return Result(pid=os.getpid(), graph_reuse=os.environ.get("LLAMA_GRAPH_REUSE_DISABLE", ""))
