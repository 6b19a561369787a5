"""Text of the llama.cpp tools turned into values; the only home of output patterns.

Patterns are those of the pinned commit. A parser demands everything it promises and raises with the
offending lines; it never returns 0 or NaN. Log lines start with a clock and a level
(``0.05.184.092 I ``) that can be glued behind a counter without a newline.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any, Final

from lwq.errors import TranscriptError
from lwq.gguf.types import known_type
from lwq.metrics.values import Damage, Estimate, Perplexity, Speed

_NUMBER: Final = r"-?(?:\d+(?:\.\d+)?(?:e[-+]?\d+)?|nan|inf)"
_FINAL: Final = re.compile(rf"Final estimate: PPL = ({_NUMBER}) \+/- ({_NUMBER})")
_CHUNK: Final = re.compile(rf"\[(\d+)\]({_NUMBER}),")
_ANNOUNCED: Final = re.compile(r"(?:over|computing over) (\d+) chunks")
_KLD_ROW: Final = re.compile(rf"^\s*(\d+)((?:\s+{_NUMBER}\s+±\s+{_NUMBER}(?:\s+%)?){{5}})\s*$", re.MULTILINE)
_TENSOR: Final = re.compile(
    r"^\[\s*(\d+)/\s*(\d+)\]\s+(\S+)\s+- \[[\d,\s]+\], type =\s*(\S+), size =\s*([\d.]+) MiB"
    r"(?: ->\s*([\d.]+) MiB \((\w+)\))?\s*$",
    re.MULTILINE,
)
_DEVICE: Final = re.compile(r"^  (\S+): (.+) \((\d+) MiB, (\d+) MiB free\)$", re.MULTILINE)
_MEMORY: Final = re.compile(r"^llama_\w+: (?:.*, )?size =\s*([\d.]+) MiB", re.MULTILINE)
_COMPUTE: Final = re.compile(r"^\w+:\s+\S+\s+(?:compute|output) buffer size =\s*([\d.]+) MiB", re.MULTILINE)
_TOTAL: Final = re.compile(r"quant size\s+=\s*([\d.]+) MiB")
_FALLING_BACK: Final = "-> falling back to "
_FALLBACKS: Final = re.compile(r"(\d+) of (\d+) tensor\(s\) required fallback quantization")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedTensor:
    """One line of a dry run."""

    name: str
    source_type: str
    target_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """What ``llama-quantize --dry-run`` says it would write."""

    tensors: tuple[PlannedTensor, ...]
    total_mib: float
    n_fallback: int
    needs_imatrix: bool


def _fail(what: str, text: str) -> TranscriptError:
    tail = "\n".join(text.splitlines()[-12:])
    return TranscriptError(
        f"{what}; the output ends with:\n{tail}", hint="is it the pinned llama.cpp? `lwq toolchain doctor`"
    )


def _value(text: str, what: str, whole: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _fail(f"{what} is {text}", whole)
    return number


def _estimate(value: str, stderr: str, what: str, whole: str, scale: float = 1.0) -> Estimate:
    """A value must be finite; its ± may be nan (a model against itself), which means unknown."""
    error = float(stderr)
    known = math.isfinite(error)
    main = round(_value(value, what, whole) * scale, 12)
    return Estimate(value=main, stderr=round(abs(error) * scale, 12) if known else None)


def parse_perplexity(stdout: str, stderr: str) -> Perplexity:
    """The final perplexity and its chunks.

    Source: tools/perplexity/perplexity.cpp, ``perplexity``: counters on stdout, the final line on stderr.
    """
    both = stdout + stderr
    final = _FINAL.search(stderr) or _FINAL.search(stdout)
    if final is None:
        raise _fail("no `Final estimate: PPL`", both)
    chunks = tuple((int(n), _value(v, f"chunk {n}", both)) for n, v in _CHUNK.findall(stdout))
    announced = _ANNOUNCED.search(both)
    if announced is None or [n for n, _ in chunks] != list(range(1, int(announced[1]) + 1)):
        raise _fail(f"{len(chunks)} chunks came of {announced[1] if announced else 'an unknown number'}", both)
    return Perplexity(
        ppl=_estimate(final[1], final[2], "PPL", both),
        n_chunks=len(chunks),
        chunk_ppl=tuple(value for _, value in chunks),
    )


def parse_damage(stdout: str, stderr: str = "") -> Damage:
    """Everything of a ``--kl-divergence`` run; percentages become fractions.

    Source: tools/perplexity/perplexity.cpp, ``kl_divergence``.
    """
    table = _KldSummary(stdout)
    rows = [re.findall(_NUMBER, row) for _, row in _KLD_ROW.findall(stdout)]
    announced = _ANNOUNCED.search(stderr)
    if not rows or (announced and len(rows) != int(announced[1])):
        raise _fail(f"{len(rows)} rows of chunks came of {announced[1] if announced else 'an unknown number'}", stdout)
    return Damage(
        ppl=table.estimate("Mean PPL(Q)"),
        ppl_base=table.estimate("Mean PPL(base)"),
        cor_ln_ppl=round(table.number("Cor(ln(PPL(Q)), ln(PPL(base)))") / 100, 12),
        ln_ppl_ratio=table.estimate("Mean ln(PPL(Q)/PPL(base))"),
        ppl_ratio=table.estimate("Mean PPL(Q)/PPL(base)"),
        ppl_difference=table.estimate("Mean PPL(Q)-PPL(base)"),
        kld=table.estimate("Mean KLD"),
        kld_percentiles=table.percentiles("KLD"),
        mean_delta_p=table.estimate("Mean Δp", 0.01),
        delta_p_percentiles=table.percentiles("Δp", 0.01),
        rms_delta_p=table.estimate("RMS Δp", 0.01),
        same_top_p=table.estimate("Same top p", 0.01),
        chunk_kld=tuple(_value(row[4], "a chunk's KLD", stdout) for row in rows),
        chunk_ln_ppl_ratio=tuple(_value(row[2], "a chunk's ln PPL ratio", stdout) for row in rows),
    )


class _KldSummary:
    """The ``name : value ± stderr`` lines of a KLD run, by name with single spaces."""

    _LINE = re.compile(rf"^\s*([^:\n]+?)\s*:\s*({_NUMBER})\s*%?(?:\s*±\s*({_NUMBER})\s*%?)?\s*$", re.MULTILINE)

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = {" ".join(n.split()): (v, e) for n, v, e in self._LINE.findall(text)}

    def number(self, name: str) -> float:
        if name not in self.lines:
            raise _fail(f"no line `{name}`", self.text)
        return _value(self.lines[name][0], name, self.text)

    def estimate(self, name: str, scale: float = 1.0) -> Estimate:
        self.number(name)
        value, stderr = self.lines[name]
        if not stderr:
            raise _fail(f"no ± in the line `{name}`", self.text)
        return _estimate(value, stderr, name, self.text, scale)

    def percentiles(self, quantity: str, scale: float = 1.0) -> tuple[tuple[str, float], ...]:
        percentiles = tuple(
            (name.removesuffix(f" {quantity}"), round(self.number(name) * scale, 12))
            for name, (_, stderr) in self.lines.items()
            if name.endswith(f" {quantity}") and not stderr
        )
        if len(percentiles) < 11 or percentiles[0][0] != "Maximum" or percentiles[-1][0] != "Minimum":
            raise _fail(f"{len(percentiles)} percentiles of {quantity}", self.text)
        return percentiles


def parse_dry_run(stderr: str) -> DryRun:
    """Every tensor of a dry run, in the order and under the names of the file that would be written.

    Source: src/llama-quant.cpp, ``llama_model_quantize_impl``.
    """
    lines = _TENSOR.findall(stderr)
    total = _TOTAL.search(stderr)
    if not lines or total is None:
        raise _fail("no tensors or no `quant size` in a dry run", stderr)
    if [int(line[0]) for line in lines] != list(range(1, len(lines) + 1)):
        raise _fail(f"{len(lines)} tensors of a dry run are not numbered one by one", stderr)
    fallbacks = _FALLBACKS.search(stderr)
    n_fallback = int(fallbacks[1]) if fallbacks else 0
    if n_fallback != (n_listed := stderr.count(_FALLING_BACK)):
        raise _fail(f"{n_listed} tensors fell back one by one, {n_fallback} in all", stderr)
    try:
        types = [(name, known_type(source), known_type(target or source)) for _, _, name, source, _, _, target in lines]
    except ValueError as error:
        raise _fail(str(error), stderr) from None
    return DryRun(
        tensors=tuple(PlannedTensor(name=n, source_type=source, target_type=to) for n, source, to in types),
        total_mib=float(total[1]),
        n_fallback=n_fallback,
        needs_imatrix="will require an imatrix" in stderr,
    )


def parse_speed(text: str) -> tuple[Speed, ...]:
    """The tests of ``llama-bench -o json``, in its order."""
    try:
        tests = json.loads(text)
        if not isinstance(tests, list) or not tests:
            raise ValueError("no list of tests")
        return tuple(_speed(test) for test in tests)
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise _fail(f"llama-bench printed no JSON of the known shape ({type(error).__name__}: {error})", text) from None


def _speed(test: dict[str, Any]) -> Speed:
    parts = ((f"pp{test['n_prompt']}", test["n_prompt"]), (f"tg{test['n_gen']}", test["n_gen"]))
    samples = tuple(float(sample) for sample in test["samples_ts"])
    if not samples or test["avg_ts"] <= 0:
        raise ValueError("a test without samples")
    stderr = float(test["stddev_ts"]) / math.sqrt(len(samples)) if len(samples) > 1 else None
    return Speed(
        test="+".join(name for name, n in parts if n),
        tokens_per_second=Estimate(value=float(test["avg_ts"]), stderr=stderr, unit="t/s"),
        samples=samples,
        n_threads=int(test["n_threads"]),
        backend=str(test["backends"]),
        cpu=str(test["cpu_info"]),
    )


_FIRST_TEST: Final = re.compile(r"llama-bench: benchmark 1/\d+: (starting|warmup)")


class LoadClock:
    """Seconds from opening the model until its first run, by when the lines of ``llama-bench --progress`` come.

    Between the two lines llama-bench loads the model, makes a context and starts its threads.
    Source: tools/llama-bench/llama-bench.cpp, ``llama_bench``.
    """

    def __init__(self) -> None:
        self.line = ""
        self.began: float | None = None
        self.seconds: float | None = None

    def feed(self, piece: str, at: float) -> None:
        """Takes a piece of stderr, and when it came (seconds); a start of the program begins anew."""
        *lines, self.line = (self.line + piece).split("\n")
        for phase in (match[1] for line in lines if (match := _FIRST_TEST.match(line))):
            if phase == "starting":
                self.began, self.seconds = at, None
            elif self.seconds is None and self.began is not None:
                self.seconds = at - self.began


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One device in ``--list-devices``."""

    name: str
    label: str
    n_bytes: int
    free_bytes: int


def parse_buffers(text: str) -> tuple[int, int]:
    """(bytes of the cache of keys and values, or of states; bytes of compute and output buffers) of a new context.

    Raises:
        TranscriptError: no compute buffer is told of.
    """
    cache, compute = (
        sum(round(float(mib) * (1 << 20)) for mib in pattern.findall(text)) for pattern in (_MEMORY, _COMPUTE)
    )
    if not compute:
        raise _fail("llama.cpp said nothing of a context's buffers", text)
    return cache, compute


def parse_devices(text: str) -> tuple[Listed, ...]:
    """Devices that have memory of their own, in the tool's order (Accelerate's, on macOS, has none)."""
    rows = _DEVICE.findall(text)
    return tuple(
        Listed(name=name, label=label, n_bytes=int(total) << 20, free_bytes=int(free) << 20)
        for name, label, total, free in rows
        if int(total)
    )


_PROGRESS: Final = (
    re.compile(r"\[(\d+)\]-?[\dn]"),
    re.compile(r"^\s*(\d+)\s+-?[\dn][\d.an]*\s+±", re.MULTILINE),
    re.compile(r"^(\d+)\t\s*[\d.]+", re.MULTILINE),
)
_QUANTIZED: Final = re.compile(r"^\[\s*(\d+)/\s*(\d+)\]", re.MULTILINE)


class ChunkCounter:
    """(done, total) of a run, from the pieces of output as they come; ``total`` where the tool announces none."""

    def __init__(self, total: int = 0) -> None:
        self.text = ""
        self.total = total

    def feed(self, piece: str) -> tuple[int, int] | None:
        """The newest count, or None while there is none."""
        self.text = (self.text + piece)[-4096:]
        if quantized := _QUANTIZED.findall(self.text):
            return int(quantized[-1][0]), int(quantized[-1][1])
        if announced := _ANNOUNCED.findall(self.text):
            self.total = int(announced[-1])
        counts = [int(n) for pattern in _PROGRESS for n in pattern.findall(self.text)]
        return (max(counts), self.total) if counts and self.total else None
