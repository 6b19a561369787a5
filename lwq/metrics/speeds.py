"""Speeds measured in rounds: means, and ratios of two files paired by round."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from lwq.metrics.paired import student
from lwq.metrics.values import Estimate, Speed

BUSY: Final = 0.1
"""Share of the CPUs in others' use from which speeds are warned of."""
_QUANTILE: Final = 0.975
_SURE: Final = 1.64
_LEAST_STEP: Final = 0.93
"""Share of its bytes that a size which is too slow is followed by, at most."""
_N_HALVED: Final = 2
_FINE: Final = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """Tokens per second over those of a reference, with its 95 % interval."""

    value: float
    low: float
    high: float
    n_rounds: int

    @property
    def is_tied(self) -> bool:
        """Whether the interval holds 1: the two are not told apart."""
        return self.low <= 1 <= self.high


def mean(samples: Sequence[float]) -> Estimate:
    """Mean tokens per second and its standard error s / √n, s with n − 1; no error for one sample."""
    n = len(samples)
    value = math.fsum(samples) / n
    error = math.sqrt(math.fsum((x - value) ** 2 for x in samples) / (n - 1) / n) if n > 1 else None
    return Estimate(value=value, stderr=error, unit="t/s")


def ratio(samples: Sequence[float], reference: Sequence[float]) -> Ratio:
    """exp(d̄ ± t · s / √n) of the log ratios d of the same round, t with n − 1 degrees of freedom.

    What slows a whole round cancels; log ratios make the ratio the other way round its exact inverse.

    Args:
        samples, reference: tokens per second in round order, of equally many rounds, at least two.

    Raises:
        ValueError: not equally many, or fewer than two.
    """
    logs = [math.log(a / b) for a, b in zip(samples, reference, strict=True)]
    n = len(logs)
    if n < 2:
        raise ValueError(f"{n} round gives no interval")
    middle = math.fsum(logs) / n
    spread = math.sqrt(math.fsum((d - middle) ** 2 for d in logs) / (n - 1))
    half = student(n - 1, _QUANTILE) * spread / math.sqrt(n)
    return Ratio(value=math.exp(middle), low=math.exp(middle - half), high=math.exp(middle + half), n_rounds=n)


def most_at_pace(
    measure: Callable[[int], Estimate], least: int, most: int, wanted: float
) -> tuple[int | None, tuple[tuple[int, Estimate], ...]]:
    """The most bytes, as far as it was tried, at which files make the wanted tokens per second; and what was tried.

    From ``most`` downwards: a file is read once for each token, so the next size is proportionate; then the gap between
    the last that is too slow and the first that is not is halved twice. Sizes between may be slower or faster than both
    (kernels of types differ), so only sizes that were measured count.

    Args:
        measure: tokens per second at a size in bytes.
    """
    tried = [(most, measure(most))]
    slow = most
    while not reaches(tried[-1][1], wanted):
        slow, speed = tried[-1]
        if slow <= least:
            return None, tuple(tried)
        size = max(least, int(slow * min(_LEAST_STEP, speed.value / wanted)))
        tried.append((size, measure(size)))
    enough = tried[-1][0]
    for _ in range(_N_HALVED):
        middle = (enough + slow) // 2
        if middle - enough < enough * _FINE:
            break
        tried.append((middle, measure(middle)))
        enough, slow = (middle, slow) if reaches(tried[-1][1], wanted) else (enough, middle)
    return enough, tuple(tried)


def reaches(speed: Estimate, wanted: float) -> bool:
    """Whether the mean less 1.64 standard errors is at least what is wanted.

    Of three runs that are alike but for chance that is 88 % sure (Student's t), for one size; a rule, and no interval.
    """
    return speed.value - _SURE * (speed.stderr or 0.0) >= wanted


def ratio_to(speed: Speed, reference: Sequence[Speed]) -> Ratio | None:
    """The ratio to the reference's same test; None where the two were not measured in the same rounds."""
    other = next((r for r in reference if r.test == speed.test), None)
    if other is None or speed.busy is None or other.busy is None:
        return None
    pairs = len(speed.samples)
    return ratio(speed.samples, other.samples) if pairs == len(other.samples) and pairs > 1 else None


def busiest(speeds: Sequence[Speed]) -> float:
    """The largest share of the CPUs that others used; 0 where nothing was measured in turns."""
    return max((s.busy for s in speeds if s.busy is not None), default=0.0)
