"""Paired tests and shares: against scipy, against hand calculation, against what the tool prints."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest
from scipy.stats import binomtest

from lwq.metrics.values import (
    Estimate,
    Interval,
    TaskScore,
    discordance,
    each_alone,
    holm,
    mcnemar,
    score_interval,
    smallest_visible,
    smallest_visible_unpaired,
)
from tests.sample_record import sample_record


def pair(both: int, first: int, second: int, neither: int) -> tuple[tuple[bool, ...], tuple[bool, ...]]:
    """Outcomes of two files: items right in both, in the first alone, in the second alone, in none."""
    a = (True,) * both + (True,) * first + (False,) * second + (False,) * neither
    b = (True,) * both + (False,) * first + (True,) * second + (False,) * neither
    return a, b


@pytest.mark.parametrize(
    ("first", "second"), [(10, 2), (2, 10), (7, 7), (0, 5), (1, 0), (41, 29), (1200, 1300)], ids=lambda n: str(n)
)
def test_mcnemar_is_the_exact_binomial_test(first: int, second: int) -> None:
    expected = binomtest(min(first, second), first + second, 0.5).pvalue
    assert mcnemar(*pair(300, first, second, 400)) == pytest.approx(expected, rel=1e-12)


def test_mcnemar_of_files_that_never_differ_is_one() -> None:
    assert mcnemar(*pair(300, 0, 0, 450)) == 1.0
    with pytest.raises(ValueError, match="3 and 2 items"):
        mcnemar((True, False, True), (True, False))


def test_discordance_counts_both_sides() -> None:
    found = discordance(*pair(5, 3, 2, 10))
    assert (found.first, found.second, found.n_items, found.share) == (3, 2, 20, 0.25)
    assert discordance((), ()).share == 0


def test_holm_by_hand() -> None:
    # sorted .01 .02 .03 .04: times 4, 3, 2, 1 = .04 .06 .06 .04, never falling
    assert holm((0.03, 0.01, 0.04, 0.02)) == pytest.approx((0.06, 0.04, 0.06, 0.06))
    assert holm((0.9, 0.8)) == (1.0, 1.0)
    assert holm(()) == ()
    assert holm((0.0, 1.0)) == (0.0, 1.0)
    assert holm((0.01, 0.04, 0.01)) == pytest.approx((0.03, 0.04, 0.03))
    for wrong in (1.5, -0.1, float("nan")):
        with pytest.raises(ValueError, match="not p-values"):
            holm((0.5, wrong))


def test_wilson_interval_is_what_the_tool_prints() -> None:
    # llama-perplexity, 43 of 100: [33.7 %, 52.8 %]
    found = score_interval(43, 100)
    assert (round(100 * found.low, 1), round(100 * found.high, 1)) == (33.7, 52.8)
    for right, n in ((8, 7), (-1, 7), (0, 0), (0, -1)):
        with pytest.raises(ValueError, match=f"not a score: {right} of {n}"):
            score_interval(right, n)


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (0, 20), (20, 20), (7, 20)])
@pytest.mark.parametrize("level", [0.8, 0.99])
def test_wilson_interval_is_scipys(right: int, n: int, level: float) -> None:
    found, theirs = score_interval(right, n, level), binomtest(right, n).proportion_ci(level, "wilson")
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert 0 <= found.low <= found.high <= 1


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
    delta = smallest_visible(n, share)
    z, b = NormalDist().inv_cdf(0.975), NormalDist().inv_cdf(0.8)
    # Connor's equation with ψ = δ
    assert n**0.5 * delta == pytest.approx(z * delta**0.5 + b * (delta - delta**2) ** 0.5)
    assert share < delta < 1


@pytest.mark.parametrize(
    ("n", "share", "level", "power"), [(750, 0.15, 0.05, 0.8), (40, 0.5, 0.01, 0.9), (9, 1.0, 0.1, 0.6)]
)
def test_visible_difference_solves_connors_equation(n: int, share: float, level: float, power: float) -> None:
    delta = smallest_visible(n, share, level=level, power=power)
    z, b = NormalDist().inv_cdf(1 - level / 2), NormalDist().inv_cdf(power)
    assert math.sqrt(n) * delta == pytest.approx(z * math.sqrt(share) + b * math.sqrt(share - delta**2))


def test_of_hardly_any_items_nothing_is_seen_and_of_none_nothing_is_said() -> None:
    assert [smallest_visible(n, 0.5) for n in (1, 3)] == [1.0, 1.0]  # z² = 3.84
    assert smallest_visible(4, 0.5) < 1
    assert smallest_visible(1, 0.5, level=0.5) < 1
    assert smallest_visible(9, 1.0) <= 1
    for n, share in ((0, 0.5), (5, -0.1), (5, 1.1)):
        with pytest.raises(ValueError, match=f"no power for {n} items, {share} of which differ"):
            smallest_visible(n, share)


def test_visible_difference_of_errors_is_a_multiple_of_them() -> None:
    assert smallest_visible_unpaired(0.01) == pytest.approx(0.01 * (1.959964 + 0.841621), rel=1e-6)
    assert smallest_visible_unpaired(2.0, level=0.1, power=0.5) == pytest.approx(2 * 1.644854, rel=1e-6)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_measurement_is_finite_and_so_is_its_error(value: float) -> None:
    with pytest.raises(ValueError, match=f"not a finite measurement: {value}"):
        Estimate(value=value)
    with pytest.raises(ValueError, match=f"not a standard error: {value}"):
        Estimate(value=1.0, stderr=value)


def test_an_error_is_not_below_zero() -> None:
    assert Estimate(value=-1.0, stderr=0.0).stderr == 0
    with pytest.raises(ValueError, match=r"not a standard error: -0.1"):
        Estimate(value=1.0, stderr=-0.1)


def test_windows_of_a_pass_are_taken_apart_each_series_for_itself() -> None:
    damage = next(row for row in sample_record().rows if row.origin == "ours").evaluation
    assert damage.window_kld() == each_alone(damage.chunk_kld)
    assert damage.window_ln_ppl_ratio() == each_alone(damage.chunk_ln_ppl_ratio)
    assert len(damage.window_ln_ppl_ratio()) == len(damage.chunk_ln_ppl_ratio) > 1
    assert damage.window_ln_ppl_ratio() != damage.window_kld()


def test_outcomes_are_read_item_by_item_and_an_interval_holds_its_ends() -> None:
    score = TaskScore(name="x", score=Estimate(value=0.5), n_items=4, outcomes="1001")
    assert score.right() == (True, False, False, True)
    found = Interval(low=-1.0, high=2.0)
    assert [found.holds(x) for x in (-1.1, -1.0, 0, 2.0, 2.1)] == [False, True, True, True, False]
