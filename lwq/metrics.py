"""What a measurement is: a value, its standard error and its unit."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A measured value with one standard error.

    Fractions stay fractions (``0.9957``, not 99.57 %); ``digits`` is how many decimals the tool
    printed of the value, so that a card never shows more than was measured.

    Raises:
        ValueError: a value that is not finite, or a negative standard error.
    """

    value: float
    stderr: float | None = None
    unit: str = ""

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"not a finite measurement: {self.value}")
        if self.stderr is not None and not (math.isfinite(self.stderr) and self.stderr >= 0):
            raise ValueError(f"not a standard error: {self.stderr}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Perplexity:
    """The closing line of a perplexity run: ``Final estimate: PPL = value +/- stderr``."""

    ppl: Estimate
    n_chunks: int
    chunk_ppl: tuple[float, ...]
    """Cumulative perplexity after each chunk, as printed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """All that ``llama-perplexity --kl-divergence`` prints of Q against base.

    KLD in nats; Δp, same top p and correlation as fractions (the tool prints %).
    Source: tools/perplexity/perplexity.cpp, ``kl_divergence``.
    """

    ppl: Estimate
    ppl_base: Estimate
    cor_ln_ppl: float
    """Cor(ln PPL(Q), ln PPL(base)): the ρPPL of model cards, a fraction."""
    ln_ppl_ratio: Estimate
    ppl_ratio: Estimate
    ppl_difference: Estimate
    kld: Estimate
    kld_percentiles: tuple[tuple[str, float], ...]
    """(label, nats) as printed: ``Maximum``, ``99.9%``, … ``Median``, … ``Minimum``."""
    mean_delta_p: Estimate
    delta_p_percentiles: tuple[tuple[str, float], ...]
    rms_delta_p: Estimate
    same_top_p: Estimate
    chunk_kld: tuple[float, ...]
    """Cumulative mean KLD after each chunk, as printed (nats)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """One llama-bench test: ``pp512``, ``tg128`` or ``pp1024+tg1024``, in tokens per second."""

    test: str
    tokens_per_second: Estimate
    samples: tuple[float, ...]
    n_threads: int
    backend: str
    cpu: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskScore:
    """One task set as llama-perplexity scored it; ``score`` is a fraction of ``n_items``."""

    name: str
    score: Estimate
    n_items: int
