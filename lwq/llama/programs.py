"""One run of a llama.cpp program: on the toolchain's device, again where its words were lost, its complaints told."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from lwq.errors import ModelError, ToolError, TranscriptError
from lwq.gguf.header import GgufHeader, read_header
from lwq.llama.complaints import complaint
from lwq.llama.process import Completed, OnOutput, failure, run_tool
from lwq.llama.toolchain import Toolchain
from lwq.llama.transcripts import ChunkCounter
from lwq.store.files import free_bytes, human_bytes

OnProgress = Callable[[int, int], None]
T = TypeVar("T")
_ATTEMPTS: Final = 12
_FAILED_ATTEMPTS: Final = 4
_LONG_SECONDS: Final = 10.0
"""Runs that failed after longer are not made again."""
_LOST_SECONDS: Final = 60.0
"""Runs whose words were lost after longer are made again once; on a busy machine a short one takes long."""


def run_program(
    toolchain: Toolchain,
    argv: tuple[str, ...],
    cwd: Path,
    on_progress: OnProgress | None,
    parse: Callable[[Completed], T],
    *,
    on_output: OnOutput | None = None,
) -> tuple[T, Completed]:
    """What ``parse`` makes of a finished run that complains of nothing known, and the run.

    The tools log from a thread that is not waited for at the end (common/log.cpp), so on a busy machine
    their last lines, or all, can be lost: a run without a word, or with a cut transcript, is made again, and so
    is a short one that failed without a known complaint; not one that a signal killed.

    Raises:
        ModelError: the tool cannot read or run the model.
        ToolError: it failed, in its own words or by its exit code.
        TranscriptError: what it printed lacks what it had to print.
    """
    for attempt in itertools.count(1):
        done = _once(toolchain, argv, cwd, on_output or counting(on_progress))
        output = done.stderr + done.stdout
        if known := complaint(output):
            kind = ModelError if "model" in known[0] or "architecture" in known[0] else ToolError
            raise kind(f"{argv[0]}: {known[0]}", hint=known[1])
        is_long = done.seconds >= (_LONG_SECONDS if done.returncode else _LOST_SECONDS)
        most = _ATTEMPTS if not is_long else 1 if done.returncode else 2
        again = done.returncode >= 0 and attempt < most
        if again and (not output.strip() or (done.returncode and attempt < _FAILED_ATTEMPTS)):
            continue
        if done.returncode:
            raise failure(done, cwd)
        if not output.strip():
            raise ToolError(f"{argv[0]} ended with exit code 0 and printed nothing", hint="`lwq toolchain doctor`")
        try:
            return parse(done), done
        except TranscriptError:
            if not again:
                raise
    raise AssertionError("the loop ends by return or raise")


def _once(toolchain: Toolchain, argv: tuple[str, ...], cwd: Path, on_output: OnOutput) -> Completed:
    addresses = toolchain.device.addresses
    command = (str(toolchain.program(argv[0])), *(addresses.get(a, a) for a in argv[1:]))
    return run_tool(
        command, cwd=cwd, env=own_libraries(toolchain), on_output=on_output, limits=toolchain.limits, check=False
    )


def placed(toolchain: Toolchain, model: Path, *, of_bench: bool = False) -> tuple[str, ...]:
    """Options by which a program computes on the toolchain's device."""
    device = toolchain.device
    if device.is_cpu:
        return device.arguments(0, of_bench=of_bench)
    header = read_header(model)
    return device.arguments(device.n_layers(header.file_bytes, header.n_layer_all), of_bench=of_bench)


def counting(on_progress: OnProgress | None, n_items: int = 0) -> OnOutput:
    counter = ChunkCounter(n_items)

    def listen(stream: str, piece: str) -> None:
        if on_progress is not None and (count := counter.feed(piece)):
            on_progress(*count)

    return listen


def own_libraries(toolchain: Toolchain) -> dict[str, str]:
    """The toolchain's libraries first: ``LD_LIBRARY_PATH`` beats a program's own search path."""
    given = os.environ.get("LD_LIBRARY_PATH")
    return {"LD_LIBRARY_PATH": f"{toolchain.lib_dir}:{given}"} if given else {}


def written(path: Path, done: Completed) -> GgufHeader:
    """The header of a GGUF that a tool wrote, all of it.

    Raises:
        ToolError: it is cut short, though the tool ended well: what a full disk leaves.
    """
    need(path, done)
    try:
        return read_header(path)
    except ModelError as error:
        raise ToolError(
            f"{Path(done.argv[0]).name}: ended well, but what it wrote is not whole: {error.message}"
            f" ({human_bytes(free_bytes(path.parent))} free there)",
            hint="is the disk full? free some room (`lwq cache gc`), or set LWQ_HOME to a larger disk",
        ) from None


def need(path: Path, done: Completed) -> None:
    if not path.is_file() or not path.stat().st_size:
        tail = "\n".join((done.stderr or done.stdout).splitlines()[-12:])
        raise ToolError(f"{done.argv[0]} ended without writing {path.name}; its output ends with:\n{tail}")
