"""What measuring, removing and healing layers found out, as values of the record."""

from __future__ import annotations

from dataclasses import dataclass

from lwq.metrics.values import Damage, Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerScore:
    """One layer: scores of the literature, and the damage of removing it, measured."""

    layer: int
    block_influence: float
    lim: float
    zd: float
    cossim: float | None
    """Of the importance matrix, as ``llama-imatrix --show-statistics`` averages it; None where it has none."""
    angular: tuple[float, ...]
    """d(layer, layer + n) for n = 1, 2, …, as far as the model goes."""
    kld: Estimate
    """Nats against the whole model, with the layer as identity."""
    ppl: float
    attention_kld: Estimate
    """With the layer's attention alone left out (llama-quantize removes whole layers only)."""
    ffn_kld: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedSet:
    """The best set found of its size, on the calibration text."""

    layers: tuple[int, ...]
    kld: Estimate
    ppl: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HealedTensor:
    """One accepted repair."""

    tensor: str
    """Under its name in the original model."""
    method: str
    ridge: float
    """λ as a share of the mean diagonal of the matrix that is inverted."""
    kld: Estimate
    """Nats on the selection text with this repair and those before it."""
    gain: Estimate
    """What this repair changed, nats, paired."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealedSet:
    """One set of removed layers, before and after healing; both measured on the selection text."""

    layers: tuple[int, ...]
    file: str
    """The repaired tensors (a GGUF of them alone); empty where nothing was repaired."""
    before: Estimate
    after: Estimate
    gain: Estimate
    """KLD after less KLD before, nats, paired."""
    tensors: tuple[HealedTensor, ...]
    note: str
    """What was not tried, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PruningFacts:
    """What was measured of a model's layers."""

    n_windows: int
    n_scored: int
    """Scored tokens of the calibration text that each layer was measured on."""
    n_set_windows: int
    """Windows of that text that sets raced on at most."""
    base_ppl: float
    layers: tuple[LayerScore, ...]
    barred: tuple[tuple[int, str], ...]
    """(layer, why it may not go)."""
    sets: tuple[RemovedSet, ...]
    healed: tuple[HealedSet, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunedParts:
    """A pruned row's damage in its two parts."""

    base_file: str
    """The pruned base: the original in 16 bits without the layers, healed if it was."""
    prune: Damage
    """The pruned base against the original."""
    quant: Damage
    """The file against its own pruned base."""
    healed: HealedSet | None
    """How the pruned base was repaired; None where it was not."""
