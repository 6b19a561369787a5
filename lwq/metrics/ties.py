"""Which rows differ by more than chance: tests against one row, and the front of those that nothing beats."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, Generic, TypeVar

import numpy as np

from lwq.metrics.paired import average_difference
from lwq.metrics.values import Discordance, Estimate, Interval, discordance, holm, mcnemar

_N_EXCHANGES: Final = 99_999
_ROUNDING: Final = 1e-12
LEVEL: Final = 0.05
"""An adjusted p below it is called a difference."""
T = TypeVar("T")

Outcomes = Mapping[str, Sequence[bool]]
"""Task set → whether each of its items was answered right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One row against the reference: score less the reference's (a fraction), p adjusted for the rows compared."""

    name: str
    difference: float
    p: float
    interval: Interval | None = None
    """95 % interval of the difference, from the items; None where only scores are known."""

    @property
    def is_told_apart(self) -> bool:
        return self.p < LEVEL


@dataclass(frozen=True, slots=True, kw_only=True)
class Ties:
    """All rows against one, the smallest difference first among the lower as among the higher."""

    reference: str
    score: float
    """The reference's, a fraction."""
    is_highest: bool
    """No row's score is above the reference's."""
    comparisons: tuple[Comparison, ...]

    @property
    def tied(self) -> tuple[Comparison, ...]:
        return tuple(c for c in self.comparisons if not c.is_told_apart)

    @property
    def lower(self) -> tuple[Comparison, ...]:
        return tuple(c for c in self.comparisons if c.is_told_apart and c.difference < 0)

    @property
    def higher(self) -> tuple[Comparison, ...]:
        return tuple(c for c in self.comparisons if c.is_told_apart and c.difference > 0)


def average(outcomes: Outcomes) -> float:
    """Mean over sets of the share of right items: a set weighs the same whatever its size."""
    return sum(sum(items) / len(items) for items in outcomes.values()) / len(outcomes)


def row_discordance(a: Outcomes, b: Outcomes) -> Discordance:
    """Items of all sets together on which two rows differ.

    Raises:
        ValueError: other sets, or other numbers of items.
    """
    return discordance(*_all_items(a, b))


def ranked(rows: Mapping[str, Outcomes], reference: str | None = None) -> Ties:
    """Rows on the same items against one: the highest average (the first of equals) unless a name is given.

    Differences are of averages over sets, their intervals from items drawn anew (each interval for itself); p is
    McNemar's over the items of all sets together where these are of one size, else that of `exchanged_p`, so that it
    speaks of the same difference; adjusted by Holm.

    Raises:
        ValueError: no rows, an empty set, rows on other sets or other numbers of items.
        KeyError: a reference that is no row.
    """
    if not rows or not all(row and all(map(len, row.values())) for row in rows.values()):
        raise ValueError("no items to compare rows on")
    averages = {name: average(row) for name, row in rows.items()}
    base = _chosen(averages, reference)
    others = {name: row for name, row in rows.items() if name != base}
    p_values = {name: _paired_p(row, rows[base]) for name, row in others.items()}
    intervals = {name: average_difference(row, rows[base]).interval for name, row in others.items()}
    return _ties(base, averages, p_values, intervals)


def of_one_size(row: Outcomes) -> bool:
    """Whether all sets have equally many items."""
    return len({len(items) for items in row.values()}) == 1


def exchanged_p(a: Outcomes, b: Outcomes) -> float:
    """Two-sided p of the difference of two averages over sets: each item's two outcomes are exchanged at random.

    (1 + exchanges with a difference at least as large) ÷ (1 + exchanges), 99,999 seeded ones; for sets of one size it
    is McNemar's but for chance.

    Raises:
        ValueError: other sets, or other numbers of items.
    """
    _all_items(a, b)
    rng = np.random.default_rng(0)
    seen, drawn = 0.0, np.zeros(_N_EXCHANGES)
    for name, items in a.items():
        pairs = discordance(items, b[name])
        n_unlike = pairs.first + pairs.second
        seen += (pairs.first - pairs.second) / len(items)
        drawn += (2 * rng.binomial(n_unlike, 0.5, size=_N_EXCHANGES) - n_unlike) / len(items)
    return float(1 + (np.abs(drawn) >= abs(seen) - _ROUNDING).sum()) / (1 + _N_EXCHANGES)


def _paired_p(a: Outcomes, b: Outcomes) -> float:
    return mcnemar(*_all_items(a, b)) if of_one_size(a) else exchanged_p(a, b)


def grouped(rows: Mapping[str, Estimate], reference: str | None = None) -> Ties:
    """Published rows (score ± standard error) against one: the highest unless a name is given.

    z = difference ÷ √(se² + se²), as if rows had been scored on different items; p adjusted by Holm. Rows that were
    scored on the same items differ by less chance than that, so a tie here may be none.

    Raises:
        ValueError: no rows, or one without a standard error.
        KeyError: a reference that is no row.
    """
    if not rows:
        raise ValueError("no rows to compare")
    scores = {name: row.value for name, row in rows.items()}
    base = _chosen(scores, reference)
    return _ties(base, scores, {name: _z_test(row, rows[base]) for name, row in rows.items() if name != base}, {})


def mean_estimate(scores: Sequence[Estimate]) -> Estimate:
    """The mean of independent scores and its standard error, √Σse² ÷ n.

    Raises:
        ValueError: no score, or one without a standard error.
    """
    errors = [score.stderr for score in scores if score.stderr is not None]
    if not scores or len(errors) < len(scores):
        raise ValueError("not all scores have a standard error")
    n = len(scores)
    return Estimate(value=sum(score.value for score in scores) / n, stderr=math.hypot(*errors) / n)


def difference_stderr(a: Estimate, b: Estimate) -> float:
    """√(se² + se²), of scores on different items.

    Raises:
        ValueError: one without a standard error.
    """
    if a.stderr is None or b.stderr is None:
        raise ValueError("not all scores have a standard error")
    return math.hypot(a.stderr, b.stderr)


def _chosen(scores: Mapping[str, float], reference: str | None) -> str:
    if reference is None:
        return max(scores, key=lambda name: scores[name])
    if reference not in scores:
        raise KeyError(f"no row {reference!r} among {', '.join(scores)}")
    return reference


def _ties(
    base: str, scores: Mapping[str, float], p_values: Mapping[str, float], intervals: Mapping[str, Interval]
) -> Ties:
    adjusted = dict(zip(p_values, holm(tuple(p_values.values())), strict=True))
    compared = [
        Comparison(name=name, difference=scores[name] - scores[base], p=p, interval=intervals.get(name))
        for name, p in adjusted.items()
    ]
    return Ties(
        reference=base,
        score=scores[base],
        is_highest=scores[base] >= max(scores.values()),
        comparisons=tuple(sorted(compared, key=lambda c: abs(c.difference))),
    )


def _all_items(a: Outcomes, b: Outcomes) -> tuple[tuple[bool, ...], tuple[bool, ...]]:
    if {name: len(items) for name, items in a.items()} != {name: len(items) for name, items in b.items()}:
        raise ValueError("rows were not scored on the same items")
    return tuple(chain.from_iterable(a.values())), tuple(chain.from_iterable(b[name] for name in a))


def _z_test(a: Estimate, b: Estimate) -> float:
    spread = difference_stderr(a, b)
    if a.value == b.value:
        return 1.0
    return math.erfc(abs(a.value - b.value) / spread / math.sqrt(2)) if spread else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Front(Generic[T]):
    """Rows that no row of the front beats, in the order given, and for each other row the one that beats it."""

    kept: tuple[T, ...]
    beaten: tuple[tuple[T, T], ...]
    """(row, who beats it, or the row that was kept where a circle left nobody unbeaten)."""


def pareto_front(
    rows: Sequence[T],
    criteria: Sequence[str],
    compare: Callable[[T, T, str], int],
    order: Callable[[T], Any],
) -> Front[T]:
    """The rows worth keeping where some differences cannot be told from chance.

    A row beats another if it is surely worse on no criterion and surely better on one; of two that are told apart on
    none, the first by ``order`` beats the other. As "not told apart" is not transitive, rows may beat each other in a
    circle: each row is therefore beaten by one that stays, and of a circle that nobody outside it beats, the first
    by ``order`` stays. So one row always does.

    Args:
        compare: (a, b, criterion) → 1 where a is surely better, −1 where b is, 0 where they are not told apart.
        order: bytes, then name, or any other key by which the first of equals is kept.
    """

    def beats(a: T, b: T) -> bool:
        signs = [compare(a, b, criterion) for criterion in criteria]
        return min(signs) >= 0 and (max(signs) > 0 or order(a) < order(b))

    left, kept, beaten = sorted(rows, key=order), list[T](), list[tuple[T, T]]()
    while left:
        best = next((a for a in left if not any(beats(b, a) for b in left if b is not a)), left[0])
        gone = [b for b in left if b is not best and (beats(best, b) or beats(b, best))]
        kept.append(best)
        beaten += [(b, best) for b in gone]
        left = [row for row in left if row is not best and not any(row is b for b in gone)]
    place = {id(row): i for i, row in enumerate(rows)}
    return Front(
        kept=tuple(sorted(kept, key=lambda row: place[id(row)])),
        beaten=tuple(sorted(beaten, key=lambda pair: place[id(pair[0])])),
    )
