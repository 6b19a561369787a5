"""Paired tests and shares: against scipy, against hand calculation, against what the tool prints."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from lwq.metrics.values import (
    discordance,
    each_alone,
    holm,
    mcnemar,
    score_interval,
    smallest_visible,
)


def pair(both: int, first: int, second: int, neither: int) -> tuple[tuple[bool, ...], tuple[bool, ...]]:
    """Outcomes of two files: items right in both, in the first alone, in the second alone, in none."""
    a = (True,) * both + (True,) * first + (False,) * second + (False,) * neither
    b = (True,) * both + (False,) * first + (True,) * second + (False,) * neither
    return a, b


@pytest.mark.parametrize(("first", "second"), [(10, 2), (2, 10), (7, 7), (0, 5), (41, 29)], ids=lambda n: str(n))
def test_mcnemar_is_the_exact_binomial_test(first: int, second: int) -> None:
    expected = binomtest(min(first, second), first + second, 0.5).pvalue
    assert mcnemar(*pair(300, first, second, 400)) == pytest.approx(expected, rel=1e-12)


def test_mcnemar_of_files_that_never_differ_is_one() -> None:
    assert mcnemar(*pair(300, 0, 0, 450)) == 1.0
    with pytest.raises(ValueError, match="3 and 2 items"):
        mcnemar((True, False, True), (True, False))


def test_discordance_counts_both_sides() -> None:
    found = discordance(*pair(5, 3, 2, 10))
    assert (found.first, found.second, found.share) == (3, 2, 0.25)


def test_holm_by_hand() -> None:
    # sorted .01 .02 .03 .04: times 4, 3, 2, 1 = .04 .06 .06 .04, never falling
    assert holm((0.03, 0.01, 0.04, 0.02)) == pytest.approx((0.06, 0.04, 0.06, 0.06))
    assert holm((0.9, 0.8)) == (1.0, 1.0)
    assert holm(()) == ()
    with pytest.raises(ValueError, match="not p-values"):
        holm((1.5,))


def test_wilson_interval_is_what_the_tool_prints() -> None:
    # llama-perplexity, 43 of 100: [33.7 %, 52.8 %]
    found = score_interval(43, 100)
    assert (round(100 * found.low, 1), round(100 * found.high, 1)) == (33.7, 52.8)
    with pytest.raises(ValueError, match="not a score"):
        score_interval(8, 7)


def test_visible_difference_shrinks_with_items_and_is_found_with_the_power_asked_for() -> None:
    from scipy.stats import binom

    assert smallest_visible(3000, 0.15) < smallest_visible(750, 0.15) < smallest_visible(100, 0.15)
    n, share = 750, 0.15
    delta = smallest_visible(n, share)
    # the test's power where the files differ on 15 % of the items, δ of them net for one side
    one_side = (share + delta) / 2 / share
    n_differ = round(n * share)
    power = sum(
        binom.pmf(k, n_differ, one_side) for k in range(n_differ + 1) if binomtest(k, n_differ, 0.5).pvalue < 0.05
    )
    assert power == pytest.approx(0.8, abs=0.05)  # the formula is the normal approximation


def test_running_means_taken_apart_give_the_values() -> None:
    values = (0.5, 0.1, 0.4)
    running = (0.5, 0.3, 1.0 / 3)
    assert each_alone(running) == pytest.approx(values)
    assert each_alone(()) == ()


@pytest.mark.parametrize(("n", "share"), [(20, 0.01), (50, 0.0), (200, 0.005)])
def test_where_too_few_items_differ_all_of_them_fall_to_one_side(n: int, share: float) -> None:
    from statistics import NormalDist

    delta = smallest_visible(n, share)
    z, b = NormalDist().inv_cdf(0.975), NormalDist().inv_cdf(0.8)
    # Connor's equation with ψ = δ
    assert n**0.5 * delta == pytest.approx(z * delta**0.5 + b * (delta - delta**2) ** 0.5)
    assert share < delta < 1
