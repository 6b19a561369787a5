"""Intervals of what windows and items show: means of neighbouring windows, averages of task sets, their differences.

Windows follow each other in a text, so neighbours are alike and there are few of them. The interval of a mean is a
bootstrap-t: the mean is divided by an error from the lowest frequencies of the series, which see any slow drift, and
the quantiles of that ratio come from series made of the windows' own residuals with their own correlation, so that
skewed values and few windows are allowed for. A percentile bootstrap of 12 windows with a correlation of 0.3 covers
76 % where 95 % is asked for. Residuals are smoothed: where one window of twelve stands apart, every third series drawn
from bare ones lacks it, its error is next to nothing, and the interval ends nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp
from typing import Final

import numpy as np

from lwq.metrics.arrays import Doubles
from lwq.metrics.values import Interval

MIN_WINDOWS: Final = 8
N_RESAMPLES: Final = 1999
_MIN_FREQUENCIES: Final = 6
_STRONGEST: Final = 0.75
"""Largest correlation of neighbouring windows that is believed."""
_CAUTION: Final = 0.6
"""Resampled series are this many standard errors (1/√n) more correlated than the windows seem."""
_WARM_UP: Final = 20
_SMOOTHING: Final = 0.5
"""Normal noise on resampled residuals, in their standard deviations."""
_MOST: Final = 700.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Average:
    """An average over task sets (or a difference of two), as a fraction; sets weigh alike."""

    value: float
    stderr: float
    interval: Interval


def mean_interval(
    values: Doubles, level: float = 0.95, *, rng: np.random.Generator | None = None, n_resamples: int = N_RESAMPLES
) -> Interval | None:
    """Interval of the mean of figures of consecutive windows; None for fewer than eight.

    The interval of a paired difference of two rows is that of the windows' differences.

    Args:
        values: one figure of each window in the order of the text, float64 of shape (windows,); KLD or NLL in nats.
        level: share of such intervals that hold the true mean.
        rng: where resamples come from; a fixed seed if None, so that the same values give the same interval.

    Raises:
        ValueError: values that are not finite or not one-dimensional; a level outside (0, 1).

    Source: error from q cosines, Lazarus et al. 2018 (J. Bus. Econ. Stat. 36:541) eq. 10; resampled series, Bühlmann
    1997 (Bernoulli 3:123) of order one; correlation less its bias (1 + 3ρ)/n, Kendall 1954; bootstrap-t, Efron 1981;
    smoothed residuals, Silverman and Young 1987 (Biometrika 74:469).
    """
    x = _checked(values, level)
    if len(x) < MIN_WINDOWS:
        return None
    mean = float(x.mean())
    if np.ptp(x) == 0:
        return Interval(low=mean, high=mean)
    waves = _lowest_frequencies(len(x))
    rng = rng or np.random.default_rng(0)
    ratios = _resampled_ratios(x - mean, waves, rng, n_resamples)
    low, high = np.quantile(ratios, _tails(level))
    error = float(_errors(x[:, None], waves)[0])
    return Interval(low=mean - float(high) * error, high=mean - float(low) * error)


def ratio_interval(
    ln_ratios: Doubles,
    level: float = 0.95,
    *,
    rng: np.random.Generator | None = None,
    n_resamples: int = N_RESAMPLES,
) -> Interval | None:
    """Interval of PPL(Q)/PPL(base) from NLL(Q) − NLL(base) of each window (nats); None for fewer than eight.

    All windows score the same number of tokens, so the ratio is exp of the mean.

    Raises:
        ValueError: as ``mean_interval``.
    """
    interval = mean_interval(ln_ratios, level, rng=rng, n_resamples=n_resamples)
    return Interval(low=_exp(interval.low), high=_exp(interval.high)) if interval else None


def quotient_interval(
    a: Doubles, b: Doubles, level: float = 0.95, *, rng: np.random.Generator | None = None
) -> Interval | None:
    """Interval of mean(a) ÷ mean(b), both of the same windows; None for fewer than eight.

    What ``b`` goes up and down by together with ``a`` cancels, so that it is narrow where one is a steady share of the
    other; where the quotient is 1 it is as wide as that of the difference.

    Args:
        a, b: as ``mean_interval`` takes them; the mean of ``b`` above zero.

    Raises:
        ValueError: as ``mean_interval``; another number of windows; a mean of ``b`` that is not above zero.

    Source: the interval of the mean of a − Q b, Q the quotient, ÷ mean(b): Cochran 1977, Sampling Techniques, 2.39.
    """
    return mean_interval(quotient_terms(a, b), level, rng=rng)


def quotient_terms(a: Doubles, b: Doubles) -> Doubles:
    """A figure of each window whose mean is mean(a) ÷ mean(b), and varies as that does: Q + (a − Q b) ÷ mean(b)."""
    if len(a) != len(b) or not (middle := float(np.mean(b))) > 0:
        raise ValueError(f"no quotient of {len(a)} by {len(b)} windows with a mean of {np.mean(b):g}")
    quotient = float(np.mean(a)) / middle
    terms: Doubles = quotient + (a - quotient * b) / middle
    return terms


def _exp(value: float) -> float:
    """exp, infinite where it is beyond floats: a series of which most windows are alike can be that unsure."""
    return exp(value) if value < _MOST else float("inf")


def student(degrees: int, share: float) -> float:
    """What Student's t of so many degrees of freedom is below in that share of cases."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, share))


def block_stderr(values: Doubles) -> float:
    """Standard error of the mean of consecutive windows, by blocks of round(∛n) of them; infinite for one window.

    It is what infinitely many resamples of the circular block bootstrap would give, times √(n/(n − block)). Of
    windows correlated by 0.3 it shows about nine tenths.

    Raises:
        ValueError: values that are not finite or not one-dimensional.

    Source: Politis and Romano 1992, circular blocks.
    """
    x = _checked(values, 0.5)
    n = len(x)
    if n < 2:
        return float("inf")
    block = max(1, round(n ** (1 / 3)))
    sums = np.cumsum(np.concatenate([[0.0], x, x[: block - 1]]))
    means = (sums[block:] - sums[:-block]) / block
    return float(np.sqrt(((means - x.mean()) ** 2).mean() * block / (n - block)))


def average_difference(
    a: Mapping[str, Sequence[bool]],
    b: Mapping[str, Sequence[bool]],
    level: float = 0.95,
    *,
    rng: np.random.Generator | None = None,
    n_resamples: int = N_RESAMPLES,
) -> Average:
    """Average of ``a`` less that of ``b`` over task sets, with the interval of a bootstrap paired by item.

    Items are drawn anew within each set, both files' outcomes of an item together. Half an item is added to each way
    in which outcomes can differ, and one to those alike, as Agresti and Min 2005 do, so that files that never differ
    on few items do not get an interval of no width; its middle is the difference of the shares so shrunk.

    Args:
        a, b: set name → outcome of each item, items in the same order in both.

    Raises:
        ValueError: other sets or other numbers of items in ``b``; no set, an empty set; a level outside (0, 1).
    """
    _check_pairs(a, b)
    rng = rng or np.random.default_rng(0)
    value, centre, drawn = 0.0, 0.0, np.zeros(n_resamples)
    for name, first in a.items():
        steps = np.asarray(first, np.int8) - np.asarray(b[name], np.int8)
        n = len(steps)
        won, lost = int((steps > 0).sum()), int((steps < 0).sum())
        shares = np.array([won + 0.5, lost + 0.5, n - won - lost + 1]) / (n + 2)
        counts = rng.multinomial(n, shares, size=n_resamples)
        drawn += ((counts[:, 0] - counts[:, 1]) / n - (shares[0] - shares[1])) / len(a)
        value += (won - lost) / n / len(a)
        centre += float(shares[0] - shares[1]) / len(a)
    low, high = np.quantile(drawn, _tails(level))
    return Average(
        value=value, stderr=float(drawn.std()), interval=Interval(low=centre + float(low), high=centre + float(high))
    )


def _checked(values: Doubles, level: float) -> Doubles:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or not np.isfinite(x).all():
        raise ValueError(f"not one finite figure for each window: shape {x.shape}")
    _tails(level)
    return x


def _tails(level: float) -> tuple[float, float]:
    if not 0 < level < 1:
        raise ValueError(f"not a level: {level}")
    return (1 - level) / 2, (1 + level) / 2


def _check_pairs(a: Mapping[str, Sequence[bool]], b: Mapping[str, Sequence[bool]]) -> None:
    if not a or not all(map(len, a.values())):
        raise ValueError("no items to average over")
    sizes = ({name: len(items) for name, items in side.items()} for side in (a, b))
    if (first := next(sizes)) != (second := next(sizes)):
        raise ValueError(f"not the same items: {first} and {second}")


def _lowest_frequencies(n: int) -> Doubles:
    """The q slowest cosines over n windows, orthonormal and free of the mean: shape (q, n), q = n^⅔ / 2, at least 6."""
    q = min(n - 2, max(_MIN_FREQUENCIES, round(n ** (2 / 3) / 2)))
    turns = np.arange(1, q + 1)[:, None] * (np.arange(n) + 0.5) / n
    waves: Doubles = np.sqrt(2 / n) * np.cos(np.pi * turns)
    return waves


def _errors(series: Doubles, waves: Doubles) -> Doubles:
    """Standard error of the mean of each column of ``series``, shape (n, columns)."""
    errors: Doubles = np.sqrt(((waves @ series) ** 2).mean(axis=0) / len(series))
    return errors


def _resampled_ratios(centred: Doubles, waves: Doubles, rng: np.random.Generator, n_resamples: int) -> Doubles:
    """Mean over error of series drawn from the residuals, whose true mean is zero."""
    n = len(centred)
    seen = float(centred[1:] @ centred[:-1] / (centred @ centred))
    correlation = min(_STRONGEST, max(0.0, seen + (1 + 3 * seen) / n))
    drawn_with = min(_STRONGEST, correlation + _CAUTION / np.sqrt(n))
    residuals = centred[1:] - correlation * centred[:-1]
    residuals -= residuals.mean()
    series = residuals[rng.integers(0, n - 1, (_WARM_UP + n, n_resamples))]
    series += _SMOOTHING * residuals.std() * rng.standard_normal(series.shape)
    for i in range(1, len(series)):
        series[i] += drawn_with * series[i - 1]
    kept = series[_WARM_UP:]
    ratios: Doubles = kept.mean(axis=0) / np.maximum(_errors(kept, waves), np.finfo(np.float64).tiny)
    return ratios
