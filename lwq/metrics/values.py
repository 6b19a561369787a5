"""What a measurement is: a value, its standard error and its unit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist


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
    chunk_ln_ppl_ratio: tuple[float, ...] = ()
    """Cumulative ln(PPL(Q)/PPL(base)) after each chunk, as printed."""

    def window_kld(self) -> tuple[float, ...]:
        """Mean KLD of each window alone (nats), within (2n − 1)/2 units of the fifth decimal at window n."""
        return each_alone(self.chunk_kld)

    def window_ln_ppl_ratio(self) -> tuple[float, ...]:
        """ln(PPL(Q)/PPL(base)) of each window alone, as exact as ``window_kld``."""
        return each_alone(self.chunk_ln_ppl_ratio)


def each_alone(running: Sequence[float]) -> tuple[float, ...]:
    """The values whose running means these are: n · m_n − (n − 1) · m_(n−1)."""
    before = (0.0, *running)
    return tuple(n * mean - (n - 1) * before[n - 1] for n, mean in enumerate(running, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """One llama-bench test: ``pp512``, ``tg128`` or ``pp1024+tg1024``, in tokens per second."""

    test: str
    tokens_per_second: Estimate
    """Mean of the samples and its standard error, s / √n; llama-bench prints s."""
    samples: tuple[float, ...]
    """In the order in which they were measured: one a round, where files were measured in turns."""
    n_threads: int
    backend: str
    cpu: str
    load_seconds: float | None = None
    """Median over the rounds of the time from opening the file until the first token can be computed."""
    peak_bytes: int | None = None
    """The most resident memory of llama-bench over all rounds and tests, mapped parts of the file included."""
    busy: float | None = None
    """Largest share of the CPUs that others used before a round; None where files were not measured in turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextMemory:
    """What a context takes beside the file, in bytes: of one sequence, keys and values in F16, on a CPU."""

    n_ctx: int
    cache_bytes: int
    """Keys and values, or states."""
    compute_bytes: int
    """Buffers to compute in, with batches of 512 tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskScore:
    """One task set as llama-perplexity scored it; ``score`` is a fraction of ``n_items``."""

    name: str
    score: Estimate
    n_items: int
    outcomes: str = ""
    """``1`` for each item that was right, ``0`` for each other, in the order of the set's ids."""

    def right(self) -> tuple[bool, ...]:
        """Right or wrong, item by item."""
        return tuple(outcome == "1" for outcome in self.outcomes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Where a true value lies, at the level that was asked for."""

    low: float
    high: float

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Discordance:
    """Items on which two files differ: right in the first alone, right in the second alone."""

    first: int
    second: int
    n_items: int

    @property
    def share(self) -> float:
        return (self.first + self.second) / self.n_items if self.n_items else 0.0


def discordance(a: Sequence[bool], b: Sequence[bool]) -> Discordance:
    """Counts of the items on which two files differ.

    Raises:
        ValueError: not as many outcomes in ``b`` as in ``a``.
    """
    if len(a) != len(b):
        raise ValueError(f"outcomes are not paired: {len(a)} and {len(b)} items")
    first = sum(1 for x, y in zip(a, b, strict=True) if x and not y)
    second = sum(1 for x, y in zip(a, b, strict=True) if y and not x)
    return Discordance(first=first, second=second, n_items=len(a))


def mcnemar(a: Sequence[bool], b: Sequence[bool]) -> float:
    """Exact two-sided p-value that two files answer the same items equally well; 1 where they never differ.

    With d items on which they differ and k the smaller side: min(1, 2 Σ_{i ≤ k} C(d, i) / 2^d), in integers.

    Raises:
        ValueError: not as many outcomes in ``b`` as in ``a``.

    Source: McNemar 1947 (Psychometrika 12:153), exact form.
    """
    pairs = discordance(a, b)
    differ, smaller = pairs.first + pairs.second, min(pairs.first, pairs.second)
    term = total = 1
    for i in range(smaller):
        term = term * (differ - i) // (i + 1)
        total += term
    return 1.0 if pairs.first == pairs.second else min(1.0, 2 * total / 2**differ)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """p-values adjusted for their number, in the order given.

    The i-th smallest of m becomes the largest of (m − j + 1) · p_j over j ≤ i, at most 1.

    Raises:
        ValueError: a value outside 0 … 1.

    Source: Holm 1979 (Scand. J. Stat. 6:65).
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"not p-values: {tuple(p_values)}")
    adjusted, so_far = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        so_far = max(so_far, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = so_far
    return tuple(adjusted)


def score_interval(n_right: int, n_items: int, level: float = 0.95) -> Interval:
    """Wilson's interval of a share, as fractions: what llama-perplexity prints for HellaSwag.

    Raises:
        ValueError: no items, or more right than there are.

    Source: Wilson 1927 (J. Am. Stat. Assoc. 22:209); tools/perplexity/perplexity.cpp, ``hellaswag_score``.
    """
    if not 0 <= n_right <= n_items or n_items < 1:
        raise ValueError(f"not a score: {n_right} of {n_items}")
    z, p = _quantile(level), n_right / n_items
    middle = p + z * z / (2 * n_items)
    reach = z * math.sqrt(p * (1 - p) / n_items + (z / (2 * n_items)) ** 2)
    scale = 1 + z * z / n_items
    return Interval(low=max(0.0, (middle - reach) / scale), high=min(1.0, (middle + reach) / scale))


def smallest_visible(n_items: int, share_discordant: float, *, level: float = 0.05, power: float = 0.8) -> float:
    """The difference of two scores (a fraction) that McNemar's test of ``n_items`` finds with that power.

    It solves √n · δ = z_{1−level/2} √ψ + z_power √(ψ − δ²) for δ, ψ being the share of items on which the two
    differ. Where δ would be above ψ, all differing items fall to one side and ψ = δ; 1 where nothing can be seen.

    Raises:
        ValueError: no items; a share outside 0 … 1.

    Source: Miettinen 1968 (Biometrics 24:339); Connor 1987 (Biometrics 43:207), eq. 3.
    """
    if n_items < 1 or not 0 <= share_discordant <= 1:
        raise ValueError(f"no power for {n_items} items, {share_discordant} of which differ")
    z, b = _quantile(1 - level), NormalDist().inv_cdf(power)
    if n_items <= z * z:
        return 1.0
    n, psi = n_items, share_discordant
    visible = math.sqrt(psi) * (z * math.sqrt(n) + b * math.sqrt(n + b * b - z * z)) / (n + b * b)
    if 0 < visible <= psi:
        return visible
    alike = (math.sqrt((z * b) ** 2 + (n + b * b) * (n - z * z)) - z * b) / (n + b * b)
    return 1 - alike * alike


def smallest_visible_unpaired(stderr: float, *, level: float = 0.05, power: float = 0.8) -> float:
    """The difference that a z-test finds with that power, in the unit of the difference's standard error."""
    return (_quantile(1 - level) + NormalDist().inv_cdf(power)) * stderr


def _quantile(level: float) -> float:
    """Standard errors on both sides of a normal value that hold ``level`` of it."""
    return NormalDist().inv_cdf((1 + level) / 2)
