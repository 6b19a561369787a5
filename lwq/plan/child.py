"""A step in a process of its own: native code that crashes, gives up or is killed ends that process, and not lwq.

The child gets its step as a pickle, tells its progress in lines of JSON, and leaves a pickled answer, written whole
or not at all. ^C ends it at once: what it measured is kept as pieces.
"""

from __future__ import annotations

import json
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from lwq.engine.bindings import LAST_WORD
from lwq.errors import EngineError, LwqError
from lwq.llama.machine import python_child
from lwq.llama.process import Completed, run_tool
from lwq.llama.process_group import ending
from lwq.steps.step import Context, Step, StepModule, to_json
from lwq.store.files import os_errors, write_atomic
from lwq.store.temporary import temporary_folder

_ERRAND: Final = "step.pickle"
_ANSWER: Final = "answer.pickle"
_CHILD: Final = f"import sys; from {__name__} import main; main(sys.argv[1])"
_GO_ON: Final = "what it measured is kept, and the same command goes on from there"


@dataclass(frozen=True, slots=True, kw_only=True)
class _ChildErrand:
    module: str
    inputs: Any
    ctx: Context


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What came of a step."""

    result: Any
    """As JSON values."""
    commands: list[tuple[str, ...]]
    tool_seconds: float
    peak_bytes: int
    """The most memory (resident bytes, mapped files included) that one of its processes was seen with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failed:
    error: LwqError | None
    unexpected: str = ""
    trace: str = ""


def carry_out(step: Step[Any, Any], ctx: Context) -> Done:
    """The step's work, in a child where it computes with llama.cpp's libraries.

    Raises:
        LwqError: the step's own.
        EngineError: the child was ended from outside, or by native code.
    """
    if not step.module.IN_PROCESS:
        return here(step.module, step.inputs, ctx)
    with temporary_folder(ctx.folder, prefix=".child-") as folder:
        errand = _ChildErrand(module=step.module.__name__, inputs=step.inputs, ctx=replace(ctx, progress=_tell))
        write_atomic(folder / _ERRAND, pickle.dumps(errand))
        ended = _run(folder, ctx)
        answer = _read(folder / _ANSWER)
    if answer is None:
        raise _died(ended)
    if isinstance(answer, Done):
        return replace(answer, peak_bytes=max(answer.peak_bytes, ended.peak_bytes))
    if answer.error:
        raise answer.error
    unexpected = RuntimeError(answer.unexpected)
    unexpected.add_note(answer.trace)
    raise unexpected


def here(module: StepModule[Any, Any], inputs: Any, ctx: Context) -> Done:
    """A step's work in this process; what the system refuses is told as that."""
    with os_errors("carry it out", ctx.folder):
        result = to_json(module.run(inputs, ctx))
    return Done(result=result, commands=list(ctx.commands), tool_seconds=ctx.tool_seconds, peak_bytes=ctx.peak_bytes)


def _run(folder: Path, ctx: Context) -> Completed:
    hear = _Hearing(on_progress=ctx.progress)
    command, environ = python_child(_CHILD, str(folder), lib_dir=ctx.toolchain.lib_dir)
    return run_tool(command, cwd=ctx.folder, env=environ, on_output=hear, limits=ctx.toolchain.limits, check=False)


@dataclass(slots=True)
class _Hearing:
    """Progress from the child's lines."""

    on_progress: Callable[[int, int], None]
    rest: str = field(default="", init=False)

    def __call__(self, stream: str, piece: str) -> None:
        if stream != "stdout":
            return
        *lines, self.rest = (self.rest + piece).split("\n")
        for line in lines:
            if line.startswith("["):
                self.on_progress(*json.loads(line))


def _read(path: Path) -> Done | _Failed | None:
    return pickle.loads(path.read_bytes()) if path.exists() else None


def _died(ended: Completed) -> EngineError:
    """The error of a child that left no answer: how it ended, and llama.cpp's last word."""
    said = [line for line in ended.stderr.splitlines() if line.strip()]
    told = [line.removeprefix(LAST_WORD) for line in said if line.startswith(LAST_WORD)] or said[-3:]
    words = "".join(f"\n  {line}" for line in told)
    hint = _GO_ON
    if ended.returncode == -signal.SIGKILL:
        hint = f"if memory ran out, `lwq plan` says how much the step needs; {_GO_ON}"
    elif ended.returncode == -signal.SIGSEGV:
        hint = f"`lwq toolchain doctor` tries the libraries; {_GO_ON}"
    return EngineError(f"the process that computes with llama.cpp: {ending(ended.returncode)}{words}", hint=hint)


# in the child


def _tell(done: int, total: int) -> None:
    sys.stdout.write(f"[{done}, {total}]\n")
    sys.stdout.flush()


def _answer(errand: _ChildErrand) -> Done | _Failed:
    try:
        module: Any = import_module(errand.module)
        return here(module, errand.inputs, errand.ctx)
    except MemoryError:
        return _Failed(
            error=LwqError("there is not enough memory", hint=f"`lwq plan` says how much is needed; {_GO_ON}")
        )
    except LwqError as error:
        return _Failed(error=error)
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        return _Failed(error=None, unexpected=what, trace=traceback.format_exc())


def main(name: str) -> None:
    """Carries out the step that lies in a folder of that name, and leaves its answer there."""
    folder = Path(name)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    errand = pickle.loads((folder / _ERRAND).read_bytes())
    write_atomic(folder / _ANSWER, pickle.dumps(_answer(errand)))
