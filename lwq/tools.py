"""One typed function for each llama.cpp program: bare file names, one folder, proved outputs.

Each result has ``argv`` (the program by its bare name, what a card shows) and ``seconds``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from lwq.complaints import complaint
from lwq.errors import ModelError, ToolError
from lwq.gguf_header import read_header
from lwq.metrics import Damage, Estimate, Perplexity, Speed
from lwq.process import Completed, failure, run_tool
from lwq.task_transcripts import parse_task_score
from lwq.toolchain import Toolchain
from lwq.transcripts import (
    ChunkCounter,
    DryRun,
    parse_damage,
    parse_dry_run,
    parse_perplexity,
    parse_speed,
)

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A tool's run: its command with bare names, and its wall time."""

    argv: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """How a text is cut: tokens of a window, and how many windows (None: all)."""

    n_ctx: int
    n_chunks: int | None

    def arguments(self) -> tuple[str, ...]:
        return ("-c", str(self.n_ctx), *(("--chunks", str(self.n_chunks)) if self.n_chunks else ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRunRequest:
    """A mix to ask llama-quantize about."""

    model: str
    ftype: str
    imatrix: str | None = None
    tensor_types: tuple[str, ...] = ()
    tensor_types_file: str | None = None
    prune_layers: tuple[int, ...] = ()

    def with_file(self, name: str) -> DryRunRequest:
        """The same, with a tensor-type file in place of patterns."""
        return replace(self, tensor_types=(), tensor_types_file=name)

    def options(self) -> tuple[str, ...]:
        found: list[str] = ["--imatrix", self.imatrix] if self.imatrix else []
        for entry in self.tensor_types:
            found += ["--tensor-type", entry]
        if self.tensor_types_file:
            found += ["--tensor-type-file", self.tensor_types_file]
        if self.prune_layers:
            found += ["--prune-layers", ",".join(map(str, self.prune_layers))]
        return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeRequest(DryRunRequest):
    """A file to write."""

    output: str = ""
    override_kv: Mapping[str, str] = field(default_factory=dict)
    allow_requantize: bool = False

    def options(self) -> tuple[str, ...]:
        found = ["--allow-requantize"] if self.allow_requantize else []
        found += DryRunRequest.options(self)
        for key, value in sorted(self.override_kv.items()):
            found += ["--override-kv", f"{key}=str:{value}"]
        return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned(Ran):
    plan: DryRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected(Ran):
    n_entries: int
    n_chunks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured(Ran):
    perplexity: Perplexity


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared(Ran):
    damage: Damage


@dataclass(frozen=True, slots=True, kw_only=True)
class Benched(Ran):
    speed: tuple[Speed, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRequest:
    """A task set in one of llama-perplexity's own formats."""

    kind: str
    model: str
    items: str
    n_items: int
    n_ctx: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored(Ran):
    score: Estimate
    n_items: int


def dry_run(toolchain: Toolchain, request: DryRunRequest, *, cwd: Path) -> Planned:
    """The types and the size that llama-quantize would write."""
    argv = ("llama-quantize", "--dry-run", *request.options(), request.model, request.ftype)
    done = _run(toolchain, argv, cwd, None)
    return Planned(argv=argv, seconds=done.seconds, plan=parse_dry_run(done.stderr))


def quantize(
    toolchain: Toolchain, request: QuantizeRequest, *, cwd: Path, threads: int, on_progress: OnProgress | None = None
) -> Ran:
    """Writes ``cwd/output``; the caller proves its contents."""
    files = (request.model, request.output, request.ftype, str(threads))
    argv = ("llama-quantize", *request.options(), *files)
    done = _run(toolchain, argv, cwd, on_progress)
    _need(cwd / request.output, done)
    return Ran(argv=argv, seconds=done.seconds)


def imatrix(
    toolchain: Toolchain,
    *,
    cwd: Path,
    model: str,
    text: str,
    output: str,
    window: Window,
    process_output: bool,
    threads: int,
    on_progress: OnProgress | None = None,
) -> Collected:
    """Writes the importance matrix ``cwd/output``."""
    more = ("--process-output",) if process_output else ()
    argv = ("llama-imatrix", "-m", model, "-f", text, "-o", output, *window.arguments(), *more, "-t", str(threads))
    done = _run(toolchain, argv, cwd, on_progress)
    _need(cwd / output, done)
    header = read_header(cwd / output)
    n_chunks = header.number("imatrix.chunk_count") or 0
    if not n_chunks or (window.n_chunks and n_chunks < window.n_chunks):
        raise ToolError(
            f"{text}: the importance matrix holds {n_chunks} windows of {window.n_ctx} tokens, "
            f"{window.n_chunks or 'some'} were asked for",
            hint="give a longer calibration text, or lower n_chunks",
        )
    return Collected(argv=argv, seconds=done.seconds, n_entries=len(header.tensors) // 2, n_chunks=n_chunks)


def perplexity_base(
    toolchain: Toolchain,
    *,
    cwd: Path,
    model: str,
    text: str,
    logits: str,
    window: Window,
    threads: int,
    on_progress: OnProgress | None = None,
) -> Measured:
    """The perplexity, and the log-probabilities of every scored token in ``cwd/logits``."""
    store = ("--kl-divergence-base", logits)
    argv = ("llama-perplexity", "-m", model, "-f", text, *window.arguments(), *store, "-t", str(threads))
    done = _run(toolchain, argv, cwd, on_progress)
    _need(cwd / logits, done)
    found = parse_perplexity(done.stdout, done.stderr)
    if window.n_chunks and found.n_chunks < window.n_chunks:
        raise ToolError(
            f"{text}: has {found.n_chunks} windows of {window.n_ctx} tokens, {window.n_chunks} were asked for",
            hint="give a longer text, or lower n_chunks",
        )
    return Measured(argv=argv, seconds=done.seconds, perplexity=found)


def kl_divergence(
    toolchain: Toolchain,
    *,
    cwd: Path,
    model: str,
    logits: str,
    n_ctx: int,
    threads: int,
    on_progress: OnProgress | None = None,
) -> Compared:
    """The damage of a model against stored log-probabilities, which also hold the tokens."""
    what = ("--kl-divergence-base", logits, "--kl-divergence")
    argv = ("llama-perplexity", "-m", model, "-c", str(n_ctx), *what, "-t", str(threads))
    done = _run(toolchain, argv, cwd, on_progress)
    return Compared(argv=argv, seconds=done.seconds, damage=parse_damage(done.stdout, done.stderr))


def bench(
    toolchain: Toolchain, *, cwd: Path, model: str, tests: tuple[str, ...], repetitions: int, threads: int
) -> Benched:
    """Tokens per second of each test, in the order asked for."""
    argv = (
        "llama-bench",
        "-m",
        model,
        *_bench_options(tests),
        "-r",
        str(repetitions),
        "-t",
        str(threads),
        "-o",
        "json",
    )
    done = _run(toolchain, argv, cwd, None)
    found = {speed.test: speed for speed in parse_speed(done.stdout)}
    if missing := [test for test in tests if test not in found]:
        raise ToolError(f"llama-bench printed no result for {', '.join(missing)}", hint="run it by hand to see why")
    return Benched(argv=argv, seconds=done.seconds, speed=tuple(found[test] for test in tests))


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
    """The score over exactly ``n_items`` items."""
    option = {
        "hellaswag": ("--hellaswag", "--hellaswag-tasks"),
        "winogrande": ("--winogrande", "--winogrande-tasks"),
        "multiple-choice": ("--multiple-choice", "--multiple-choice-tasks"),
    }[request.kind]
    items = ("-bf", request.items, "-np", "32") if request.kind == "multiple-choice" else ("-f", request.items)
    chosen = (option[0], option[1], str(request.n_items))
    argv = ("llama-perplexity", "-m", request.model, *items, *chosen, "-c", str(request.n_ctx), "-t", str(threads))
    done = _run(toolchain, argv, cwd, on_progress)
    score = parse_task_score(request.kind, done.stdout, done.stderr, request.n_items)
    return Scored(argv=argv, seconds=done.seconds, score=score, n_items=request.n_items)


def _run(toolchain: Toolchain, argv: tuple[str, ...], cwd: Path, on_progress: OnProgress | None) -> Completed:
    """A finished run that complains of nothing known.

    Raises:
        ModelError: the tool cannot read or run the model.
        ToolError: it failed, in its own words or by its exit code.
    """
    counter = ChunkCounter()

    def listen(stream: str, piece: str) -> None:
        if on_progress is not None and (count := counter.feed(piece)):
            on_progress(*count)

    done = run_tool((str(toolchain.program(argv[0])), *argv[1:]), cwd=cwd, on_output=listen, check=False)
    if known := complaint(done.stderr + done.stdout):
        kind = ModelError if "model" in known[0] or "architecture" in known[0] else ToolError
        raise kind(f"{argv[0]}: {known[0]}", hint=known[1])
    if done.returncode:
        raise failure(done, cwd)
    if not (done.stdout.strip() or done.stderr.strip()):
        raise ToolError(f"{argv[0]} ended with exit code 0 and printed nothing", hint="`lwq toolchain doctor`")
    return done


def _need(path: Path, done: Completed) -> None:
    if not path.is_file() or not path.stat().st_size:
        tail = "\n".join((done.stderr or done.stdout).splitlines()[-12:])
        raise ToolError(f"{done.argv[0]} ended without writing {path.name}; its output ends with:\n{tail}")
