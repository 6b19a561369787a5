"""Intervals from windows and items: what they hold, where there is none, and that they do not change."""

from __future__ import annotations

import numpy as np
import pytest

from lwq.metrics.paired import (
    average_difference,
    block_stderr,
    mean_interval,
    quotient_interval,
    quotient_terms,
    ratio_interval,
)

RNG = np.random.default_rng(11)
WINDOWS = RNG.gamma(4, 0.01, 40)


def test_one_window_that_stands_apart_widens_the_interval_and_does_not_open_it() -> None:
    shares = np.array([0.51, 0.54, 0.52, 0.5, 0.55, 0.49, 0.53, 1.0, 0.52, 0.5, 0.54, 0.51])
    found, without = mean_interval(shares), mean_interval(np.delete(shares, 7))
    assert found
    assert without
    assert without.high < 0.6 < found.high < 0.9


def test_interval_holds_the_mean_and_is_the_same_each_time() -> None:
    found = mean_interval(WINDOWS)
    assert found
    assert found.low < WINDOWS.mean() < found.high
    assert mean_interval(WINDOWS) == found


def test_interval_moves_and_scales_with_the_values() -> None:
    found, moved = mean_interval(WINDOWS), mean_interval(2 * WINDOWS + 1)
    assert found
    assert moved
    assert (moved.low, moved.high) == pytest.approx((2 * found.low + 1, 2 * found.high + 1))


def test_fewer_than_eight_windows_have_no_interval_and_equal_ones_one_of_no_width() -> None:
    assert mean_interval(WINDOWS[:7]) is None
    flat = mean_interval(np.full(9, 0.25))
    assert flat
    assert (flat.low, flat.high) == (0.25, 0.25)
    with pytest.raises(ValueError, match="finite"):
        mean_interval(np.array([0.1] * 9 + [np.nan]))


def test_correlated_windows_have_wider_intervals() -> None:
    noise = np.random.default_rng(5).normal(size=120)
    drift = noise.copy()
    for i in range(1, 120):
        drift[i] += 0.7 * drift[i - 1]
    drift *= noise.std() / drift.std()
    alone, along = mean_interval(noise), mean_interval(drift)
    assert alone
    assert along
    assert along.high - along.low > 1.5 * (alone.high - alone.low)


def test_ratio_is_the_exponential_of_the_mean() -> None:
    found, logs = ratio_interval(WINDOWS), mean_interval(WINDOWS)
    assert found
    assert logs
    assert (found.low, found.high) == pytest.approx((np.exp(logs.low), np.exp(logs.high)))


def test_a_quotient_is_as_sure_as_its_steadiness_however_windows_differ() -> None:
    noise = np.random.default_rng(3).normal(scale=0.02, size=40)
    half = WINDOWS * (0.5 + noise)
    found = quotient_interval(half, WINDOWS)
    assert found
    assert found.low < half.mean() / WINDOWS.mean() < found.high
    assert found.high - found.low < 0.04
    exact = quotient_interval(0.25 * WINDOWS, WINDOWS)
    assert exact
    assert (exact.low, exact.high) == pytest.approx((0.25, 0.25))


def test_where_the_quotient_is_one_its_interval_is_that_of_the_difference() -> None:
    other = np.roll(WINDOWS, 7)  # the same mean
    found, differences = quotient_interval(other, WINDOWS), mean_interval(other - WINDOWS)
    assert found
    assert differences
    middle = WINDOWS.mean()
    assert (found.low, found.high) == pytest.approx((1 + differences.low / middle, 1 + differences.high / middle))


def test_quotients_need_eight_windows_of_both_and_something_to_divide_by() -> None:
    assert quotient_interval(WINDOWS[:7], WINDOWS[:7]) is None
    # 3 / 2 and, by hand, 1.5 + (a − 1.5 b) / 2 = 1.5 + (1 − 1.5) / 2, 1.5 + (5 − 4.5) / 2
    assert quotient_terms(np.array([1.0, 5.0]), np.array([1.0, 3.0])).tolist() == [1.25, 1.75]
    with pytest.raises(ValueError, match="no quotient of 9 by 8 windows"):
        quotient_interval(WINDOWS[:9], WINDOWS[:8])
    with pytest.raises(ValueError, match="mean of 0"):
        quotient_interval(WINDOWS[:9], np.zeros(9))


def test_block_error_of_independent_windows_is_the_usual_one() -> None:
    noise = np.random.default_rng(2).normal(size=4000)
    assert block_stderr(noise) == pytest.approx(noise.std(ddof=1) / 4000**0.5, rel=0.1)
    assert block_stderr(np.array([1.0])) == float("inf")


def test_sets_weigh_alike_and_difference_is_paired() -> None:
    a = {"ARC": (True,) * 60 + (False,) * 40, "MMLU": (True,) * 10 + (False,) * 10}
    b = {"ARC": (True,) * 50 + (False,) * 50, "MMLU": (True,) * 10 + (False,) * 10}
    found = average_difference(a, b)
    assert found.value == pytest.approx((0.1 + 0.0) / 2)
    unpaired = average_difference(a, {**b, "ARC": b["ARC"][::-1]})
    assert unpaired.value == pytest.approx(found.value)
    assert unpaired.stderr > 1.5 * found.stderr
    with pytest.raises(ValueError, match="not the same items"):
        average_difference(a, {"ARC": b["ARC"]})


def test_series_of_which_most_windows_are_alike_has_no_upper_end_beyond_floats() -> None:
    found = ratio_interval(np.array([0.0] * 9 + [0.003]))
    assert found
    assert 0 <= found.low <= np.exp(0.0003) <= found.high


def test_intervals_of_one_small_set_cover_as_they_say() -> None:
    rng, held, n_runs = np.random.default_rng(3), 0, 600
    for _ in range(n_runs):
        steps = rng.choice([1, -1, 0], p=[0.06, 0.04, 0.9], size=50)
        found = average_difference({"x": steps > 0}, {"x": steps < 0}, n_resamples=499)
        held += found.interval.low - 1e-9 <= 0.02 <= found.interval.high + 1e-9  # items are whole
    assert 0.93 <= held / n_runs <= 0.99


@pytest.mark.parametrize("level", [0.0, 1.0, -0.5, 1.5])
def test_a_level_is_between_nothing_and_all(level: float) -> None:
    with pytest.raises(ValueError, match=f"not a level: {level}"):
        mean_interval(WINDOWS, level)
