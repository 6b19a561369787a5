"""What is asked of the llama.cpp programs, and what they answer; tools.py runs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from lwq.llama.task_transcripts import Outcomes
from lwq.llama.transcripts import DryRun
from lwq.metrics.values import Damage, Perplexity, Speed


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A tool's run: its command with bare names, its wall time, and the most memory (resident bytes) seen of it."""

    argv: tuple[str, ...]
    seconds: float
    peak_bytes: int = 0


def with_threads(argv: tuple[str, ...], n_threads: int) -> tuple[str, ...]:
    """A command of a tool with another number of threads, which changes no result."""
    if "-t" in argv:
        i = argv.index("-t") + 1
        return (*argv[:i], str(n_threads), *argv[i + 1 :])
    is_quantize = argv[0] == "llama-quantize" and "--dry-run" not in argv
    return (*argv[:-1], str(n_threads)) if is_quantize else argv


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """How a text is cut: tokens of a window, and how many windows (None: all)."""

    n_ctx: int
    n_chunks: int | None
    first: int = 0
    """Windows of the text that are left out at its start; llama-imatrix alone can do that."""

    def arguments(self) -> tuple[str, ...]:
        some = ("--chunks", str(self.n_chunks)) if self.n_chunks else ()
        return ("-c", str(self.n_ctx), *some, *(("--chunk", str(self.first)) if self.first else ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRequest:
    """A text to run through a model, and the file that keeps what came of it."""

    model: str
    text: str
    window: Window
    output: str
    onto: str = ""
    """An importance matrix to whose sums the window's are added."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KldRequest:
    """A model to compare with stored log-probabilities, in windows of ``n_ctx`` tokens."""

    model: str
    logits: str
    n_ctx: int


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
        options: list[str] = ["--imatrix", self.imatrix] if self.imatrix else []
        for entry in self.tensor_types:
            options += ["--tensor-type", entry]
        if self.tensor_types_file:
            options += ["--tensor-type-file", self.tensor_types_file]
        if self.prune_layers:
            options += ["--prune-layers", ",".join(map(str, self.prune_layers))]
        return tuple(options)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeRequest(DryRunRequest):
    """A file to write."""

    output: str = ""
    override_kv: Mapping[str, str | int] = field(default_factory=dict)
    allow_requantize: bool = False

    def options(self) -> tuple[str, ...]:
        options = ["--allow-requantize"] if self.allow_requantize else []
        options += DryRunRequest.options(self)
        for key, value in sorted(self.override_kv.items()):
            options += ["--override-kv", f"{key}={'str' if isinstance(value, str) else 'int'}:{value}"]
        return tuple(options)


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
    load_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRequest:
    """A task set in one of llama-perplexity's own formats.

    The tool's whole context is ``n_parallel · n_ctx`` tokens, and it keeps logits for every one of them.
    """

    kind: str
    model: str
    items: str
    n_items: int
    n_ctx: int
    n_parallel: int = 4
    """Sequences at once: at least the choices of the widest item."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored(Ran):
    outcomes: Outcomes


def logits_bytes(n_vocab: int, n_ctx: int, n_chunks: int) -> int:
    """Bytes of a ``--kl-divergence-base`` file.

    Source: tools/perplexity/perplexity.cpp: header, tokens, then for each scored token of a chunk
    ``2·⌈n_vocab/2⌉ + 4`` 16-bit values.
    """
    row = 2 * (2 * ((n_vocab + 1) // 2) + 4)
    return 20 + 4 * n_ctx * n_chunks + n_chunks * (n_ctx - 1 - n_ctx // 2) * row
