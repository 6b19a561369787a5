"""One typed function for each llama.cpp program: bare file names, one folder, proved outputs.

Each result has ``argv`` (the program by its bare name, what a card shows) and ``seconds``.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from lwq.errors import ModelError, ToolError, TranscriptError
from lwq.gguf.header import read_header
from lwq.llama.complaints import complaint
from lwq.llama.devices import SERVER
from lwq.llama.process import Completed, OnOutput, failure, run_tool
from lwq.llama.requests import (
    Benched,
    Collected,
    Compared,
    DryRunRequest,
    KldRequest,
    Measured,
    Planned,
    QuantizeRequest,
    Ran,
    Scored,
    TaskRequest,
    TextRequest,
)
from lwq.llama.task_transcripts import parse_task_score
from lwq.llama.toolchain import Toolchain
from lwq.llama.transcripts import (
    ChunkCounter,
    LoadClock,
    parse_damage,
    parse_dry_run,
    parse_perplexity,
    parse_speed,
)
from lwq.metrics.values import Perplexity

OnProgress = Callable[[int, int], None]
_MAX_VALUE_BYTES: Final = 127
T = TypeVar("T")


def dry_run(toolchain: Toolchain, request: DryRunRequest, *, cwd: Path) -> Planned:
    """The types and the size that llama-quantize would write."""
    argv = ("llama-quantize", "--dry-run", *request.options(), request.model, request.ftype)
    plan, done = _run(toolchain, argv, cwd, None, lambda done: parse_dry_run(done.stderr))
    return Planned(argv=argv, seconds=done.seconds, peak_bytes=done.peak_bytes, plan=plan)


def quantize(
    toolchain: Toolchain, request: QuantizeRequest, *, cwd: Path, threads: int, on_progress: OnProgress | None = None
) -> Ran:
    """Writes ``cwd/output``; the caller proves its contents."""
    _check_metadata(request)
    # llama-quantize takes an output that starts with a number (7B-…) for an ftype
    output = request.output if request.output[:1].isalpha() else f"./{request.output}"
    files = (request.model, output, request.ftype, str(threads))
    argv = ("llama-quantize", *request.options(), *files)
    _, done = _run(toolchain, argv, cwd, on_progress, partial(_need, cwd / request.output))
    return Ran(argv=argv, seconds=done.seconds, peak_bytes=done.peak_bytes)


def _check_metadata(request: QuantizeRequest) -> None:
    """Refuses values that llama-quantize refuses with its usage text and, often, no reason."""
    for key, value in request.override_kv.items():
        if (n_bytes := len(value.encode())) > _MAX_VALUE_BYTES:
            raise ToolError(
                f"{key}: the value has {n_bytes} bytes, llama-quantize takes {_MAX_VALUE_BYTES}: {value!r}",
                hint="shorten it in the recipe",
            )


def imatrix(
    toolchain: Toolchain,
    request: TextRequest,
    *,
    cwd: Path,
    threads: int,
    process_output: bool = False,
    on_progress: OnProgress | None = None,
) -> Collected:
    """Writes the importance matrix ``cwd/output``."""
    window, output = request.window, request.output
    more = ("--process-output",) if process_output else ()
    files = ("-m", request.model, "-f", request.text, "-o", output)
    argv = (
        "llama-imatrix",
        *files,
        *window.arguments(),
        *more,
        "-t",
        str(threads),
        *_placed(toolchain, cwd / request.model),
    )
    _, done = _run(toolchain, argv, cwd, on_progress, partial(_need, cwd / output))
    header = read_header(cwd / output)
    n_chunks = header.number("imatrix.chunk_count") or 0
    if not n_chunks or (window.n_chunks and n_chunks < window.n_chunks):
        raise ToolError(
            f"{request.text}: the importance matrix holds {n_chunks} windows of {window.n_ctx} tokens, "
            f"{window.n_chunks or 'some'} were asked for",
            hint="give a longer calibration text, or lower n_chunks",
        )
    return Collected(
        argv=argv,
        seconds=done.seconds,
        peak_bytes=done.peak_bytes,
        n_entries=len(header.tensors) // 2,
        n_chunks=n_chunks,
    )


def perplexity_base(
    toolchain: Toolchain,
    request: TextRequest,
    *,
    cwd: Path,
    threads: int,
    on_progress: OnProgress | None = None,
    at_most: bool = False,
) -> Measured:
    """The perplexity, and the log-probabilities of every scored token in ``cwd/output``.

    Args:
        at_most: a text of fewer windows than were asked for will do.
    """
    window, logits = request.window, request.output
    files = ("-m", request.model, "-f", request.text)
    store = ("--kl-divergence-base", logits)
    argv = (
        "llama-perplexity",
        *files,
        *window.arguments(),
        *store,
        "-t",
        str(threads),
        *_placed(toolchain, cwd / request.model),
    )
    perplexity, done = _run(toolchain, argv, cwd, on_progress, partial(_stored, cwd / logits))
    n_chunks = perplexity.n_chunks
    if window.n_chunks and n_chunks < window.n_chunks and not at_most:
        raise ToolError(
            f"{request.text}: has {n_chunks} windows of {window.n_ctx} tokens, {window.n_chunks} were asked for",
            hint="give a longer text, or lower n_chunks",
        )
    return Measured(argv=argv, seconds=done.seconds, peak_bytes=done.peak_bytes, perplexity=perplexity)


def kl_divergence(
    toolchain: Toolchain, request: KldRequest, *, cwd: Path, threads: int, on_progress: OnProgress | None = None
) -> Compared:
    """The damage of a model against stored log-probabilities, which also hold the tokens."""
    what = ("--kl-divergence-base", request.logits, "--kl-divergence")
    argv = (
        "llama-perplexity",
        "-m",
        request.model,
        "-c",
        str(request.n_ctx),
        *what,
        "-t",
        str(threads),
        *_placed(toolchain, cwd / request.model),
    )
    damage, done = _run(toolchain, argv, cwd, on_progress, lambda done: parse_damage(done.stdout, done.stderr))
    return Compared(argv=argv, seconds=done.seconds, peak_bytes=done.peak_bytes, damage=damage)


def bench(
    toolchain: Toolchain, *, cwd: Path, model: str, tests: tuple[str, ...], repetitions: int, threads: int
) -> Benched:
    """Tokens per second of each test, in the order asked for; how long loading took, and the memory that it needed."""
    options = (*_bench_options(tests), "-r", str(repetitions), "-t", str(threads))
    placed = _placed(toolchain, cwd / model, of_bench=True)
    argv = ("llama-bench", "-m", model, *placed, *options, "-o", "json", "--progress")
    clock = LoadClock()

    def listen(stream: str, piece: str) -> None:
        if stream == "stderr":
            clock.feed(piece, time.monotonic())

    def parse(done: Completed) -> Benched:
        by_test = {speed.test: speed for speed in parse_speed(done.stdout)}
        if missing := [test for test in tests if test not in by_test]:
            hint = "run it by hand to see why"
            raise ToolError(f"llama-bench printed no result for {', '.join(missing)}", hint=hint)
        if clock.seconds is None:
            raise TranscriptError("llama-bench did not say when it began", hint="`lwq toolchain doctor`")
        speed = tuple(by_test[test] for test in tests)
        return Benched(
            argv=argv, seconds=done.seconds, speed=speed, load_seconds=clock.seconds, peak_bytes=done.peak_bytes
        )

    return _run(toolchain, argv, cwd, None, parse, on_output=listen)[0]


def _stored(logits: Path, done: Completed) -> Perplexity:
    _need(logits, done)
    return parse_perplexity(done.stdout, done.stderr)


def _bench_options(tests: tuple[str, ...]) -> tuple[str, ...]:
    """``-p``, ``-n`` and ``-pg`` for test names; 0 switches llama-bench's own defaults off."""
    prompts = ",".join(t[2:] for t in tests if t.startswith("pp") and "+" not in t) or "0"
    generations = ",".join(t[2:] for t in tests if t.startswith("tg")) or "0"
    both: list[str] = []
    for test in tests:
        if "+" in test:
            prompt, generation = test.split("+")
            both += ["-pg", f"{prompt[2:]},{generation[2:]}"]
    return ("-p", prompts, "-n", generations, *both)


def task(
    toolchain: Toolchain, request: TaskRequest, *, cwd: Path, threads: int, on_progress: OnProgress | None = None
) -> Scored:
    """The score over exactly ``n_items`` items, and which were right."""
    option = {
        "hellaswag": ("--hellaswag", "--hellaswag-tasks"),
        "winogrande": ("--winogrande", "--winogrande-tasks"),
        "multiple-choice": ("--multiple-choice", "--multiple-choice-tasks"),
    }[request.kind]
    items = ("-bf" if request.kind == "multiple-choice" else "-f", request.items)
    chosen = (option[0], option[1], str(request.n_items))
    room = ("-c", str(request.n_ctx), "-np", str(request.n_parallel))
    argv = (
        "llama-perplexity",
        "-m",
        request.model,
        *items,
        *chosen,
        *room,
        "-t",
        str(threads),
        *_placed(toolchain, cwd / request.model),
    )
    outcomes, done = _run(
        toolchain,
        argv,
        cwd,
        on_progress,
        lambda done: parse_task_score(request.kind, done.stdout, done.stderr, request.n_items),
        on_output=_counting(on_progress, request.n_items),
    )
    return Scored(argv=argv, seconds=done.seconds, peak_bytes=done.peak_bytes, outcomes=outcomes)


_ATTEMPTS: Final = 12
_FAILED_ATTEMPTS: Final = 4
_LONG_SECONDS: Final = 10.0
"""Longer runs are made again once at most."""


def _run(
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
    is one that failed without a known complaint; not one that a signal killed.

    Raises:
        ModelError: the tool cannot read or run the model.
        ToolError: it failed, in its own words or by its exit code.
        TranscriptError: what it printed lacks what it had to print.
    """
    for attempt in itertools.count(1):
        done = _once(toolchain, argv, cwd, on_output or _counting(on_progress))
        output = done.stderr + done.stdout
        if known := complaint(output):
            kind = ModelError if "model" in known[0] or "architecture" in known[0] else ToolError
            raise kind(f"{argv[0]}: {known[0]}", hint=known[1])
        again = done.returncode >= 0 and attempt < (_ATTEMPTS if done.seconds < _LONG_SECONDS else 2)
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
    device = toolchain.device
    command = (str(toolchain.program(argv[0])), *(device.server if a == SERVER else a for a in argv[1:]))
    return run_tool(command, cwd=cwd, env=_own_libraries(toolchain), on_output=on_output, check=False)


def _placed(toolchain: Toolchain, model: Path, *, of_bench: bool = False) -> tuple[str, ...]:
    """Options by which a program computes on the toolchain's device."""
    device = toolchain.device
    if device.is_cpu:
        return device.arguments(0, of_bench=of_bench)
    header = read_header(model)
    return device.arguments(device.n_layers(header.file_bytes, header.n_layer), of_bench=of_bench)


def _counting(on_progress: OnProgress | None, n_items: int = 0) -> OnOutput:
    counter = ChunkCounter(n_items)

    def listen(stream: str, piece: str) -> None:
        if on_progress is not None and (count := counter.feed(piece)):
            on_progress(*count)

    return listen


def _own_libraries(toolchain: Toolchain) -> dict[str, str]:
    """The toolchain's libraries first: ``LD_LIBRARY_PATH`` beats a program's own search path."""
    given = os.environ.get("LD_LIBRARY_PATH")
    return {"LD_LIBRARY_PATH": f"{toolchain.lib_dir}:{given}"} if given else {}


def _need(path: Path, done: Completed) -> None:
    if not path.is_file() or not path.stat().st_size:
        tail = "\n".join((done.stderr or done.stdout).splitlines()[-12:])
        raise ToolError(f"{done.argv[0]} ended without writing {path.name}; its output ends with:\n{tail}")
