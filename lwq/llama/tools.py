"""One typed function for each llama.cpp program: bare file names, one folder, proved outputs.

Each result has ``argv`` (the program by its bare name, what a card shows) and ``seconds``.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Final

from lwq.errors import ToolError, TranscriptError
from lwq.llama.process import Completed
from lwq.llama.programs import OnProgress, counting, need, placed, run_program, written
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
    LoadClock,
    parse_damage,
    parse_dry_run,
    parse_perplexity,
    parse_speed,
)
from lwq.metrics.values import Perplexity

_MAX_VALUE_BYTES: Final = 127


def dry_run(toolchain: Toolchain, request: DryRunRequest, *, cwd: Path) -> Planned:
    """The types and the size that llama-quantize would write."""
    argv = ("llama-quantize", "--dry-run", *request.options(), request.model, request.ftype)
    plan, done = run_program(toolchain, argv, cwd, None, lambda done: parse_dry_run(done.stderr))
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
    _, done = run_program(toolchain, argv, cwd, on_progress, partial(written, cwd / request.output))
    return Ran(argv=argv, seconds=done.seconds, peak_bytes=done.peak_bytes)


def _check_metadata(request: QuantizeRequest) -> None:
    """Refuses values that llama-quantize refuses with its usage text and, often, no reason."""
    for key, value in request.override_kv.items():
        if isinstance(value, str) and (n_bytes := len(value.encode())) > _MAX_VALUE_BYTES:
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
    """Writes the importance matrix ``cwd/output``; one that goes on from another may find fewer windows than asked."""
    window, output = request.window, request.output
    more = ("--process-output",) if process_output else ()
    onto = ("--in-file", request.onto) if request.onto else ()
    files = ("-m", request.model, "-f", request.text, *onto, "-o", output)
    argv = (
        "llama-imatrix",
        *files,
        *window.arguments(),
        *more,
        "-t",
        str(threads),
        *placed(toolchain, cwd / request.model),
    )
    header, done = run_program(toolchain, argv, cwd, on_progress, partial(written, cwd / output))
    n_chunks = header.number("imatrix.chunk_count") or 0
    wanted = window.first + 1 if request.onto else window.n_chunks or 1
    if n_chunks < wanted:
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
        *placed(toolchain, cwd / request.model),
    )
    perplexity, done = run_program(toolchain, argv, cwd, on_progress, partial(_stored, cwd / logits))
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
        *placed(toolchain, cwd / request.model),
    )
    damage, done = run_program(toolchain, argv, cwd, on_progress, lambda done: parse_damage(done.stdout, done.stderr))
    return Compared(argv=argv, seconds=done.seconds, peak_bytes=done.peak_bytes, damage=damage)


def bench(
    toolchain: Toolchain, *, cwd: Path, model: str, tests: tuple[str, ...], repetitions: int, threads: int
) -> Benched:
    """Tokens per second of each test, in the order asked for; how long loading took, and the memory that it needed."""
    options = (*_bench_options(tests), "-r", str(repetitions), "-t", str(threads))
    where = placed(toolchain, cwd / model, of_bench=True)
    argv = ("llama-bench", "-m", model, *where, *options, "-o", "json", "--progress")
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

    return run_program(toolchain, argv, cwd, None, parse, on_output=listen)[0]


def _stored(logits: Path, done: Completed) -> Perplexity:
    need(logits, done)
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
        *placed(toolchain, cwd / request.model),
    )
    outcomes, done = run_program(
        toolchain,
        argv,
        cwd,
        on_progress,
        lambda done: parse_task_score(request.kind, done.stdout, done.stderr, request.n_items),
        on_output=counting(on_progress, request.n_items),
    )
    return Scored(argv=argv, seconds=done.seconds, peak_bytes=done.peak_bytes, outcomes=outcomes)
