"""Intervals from windows and items: what they hold, where there is none, and that they do not change."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import fft, signal, stats

from lwq.metrics.arrays import Doubles
from lwq.metrics.paired import (
    _errors,
    _lowest_frequencies,
    _resampled_ratios,
    average_difference,
    block_stderr,
    mean_interval,
    quotient_interval,
    quotient_terms,
    ratio_interval,
    student,
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


def test_a_level_that_is_nearly_nothing_or_all_is_one() -> None:
    for level in (1e-9, 1 - 1e-9):
        assert mean_interval(WINDOWS, level)
    with pytest.raises(ValueError, match="not a level: 1"):
        average_difference({"x": [True]}, {"x": [False]}, 1)


@pytest.mark.parametrize("shape", [(), (3, 4), (40, 1)])
def test_figures_stand_in_one_row(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="not one finite figure for each window: shape"):
        mean_interval(np.zeros(shape))


# parts of the interval, each as its source has it


@pytest.mark.parametrize(("n", "q"), [(8, 6), (27, 6), (64, 8), (216, 18), (1000, 50)])
def test_lowest_frequencies_are_the_first_of_the_cosine_transform_without_the_mean(n: int, q: int) -> None:
    assert _lowest_frequencies(n) == pytest.approx(fft.dct(np.eye(n), axis=0, norm="ortho")[1 : q + 1])


def test_error_is_the_root_of_the_mean_power_of_the_lowest_frequencies() -> None:
    series = np.random.default_rng(1).normal(size=(64, 3))
    power = (fft.dct(series, axis=0, norm="ortho")[1:9] ** 2).mean(axis=0)
    assert _errors(series, _lowest_frequencies(64)) == pytest.approx(np.sqrt(power / 64))


def resampled(x: Doubles, seed: int, n_resamples: int) -> Doubles:
    """Mean over error of series of the residuals with their own correlation, by scipy's filter and transform."""
    n, q = len(x), max(6, round(len(x) ** (2 / 3) / 2))
    seen = sum(a * b for a, b in zip(x[1:], x, strict=False)) / sum(a * a for a in x)
    rho = min(0.75, max(0.0, seen + (1 + 3 * seen) / n))
    residuals = signal.lfilter([1, -rho], [1], x)[1:]
    residuals -= residuals.mean()
    rng = np.random.default_rng(seed)
    drawn = residuals[rng.integers(0, n - 1, (20 + n, n_resamples))]
    drawn = drawn + 0.5 * residuals.std() * rng.standard_normal(drawn.shape)
    series = signal.lfilter([1], [1, -min(0.75, rho + 0.6 / n**0.5)], drawn, axis=0)[20:]
    power = (fft.dct(series, axis=0, norm="ortho")[1 : q + 1] ** 2).mean(axis=0)
    found: Doubles = series.mean(axis=0) / np.sqrt(power / n)
    return found


def series_of(kind: str) -> Doubles:
    noise = np.random.default_rng(6).gamma(2, 1, 60)
    filters: dict[str, tuple[list[float], list[float]]] = {
        "alone": ([1], [1]), "like neighbours": ([1], [1, -0.4]), "a drift": ([1], [1, -0.98]),
        "turns": ([1], [1, 0.6]),
    }  # fmt: skip
    return np.asarray(signal.lfilter(*filters[kind], noise))


KINDS = ["alone", "like neighbours", "a drift", "turns"]


@pytest.mark.parametrize("kind", KINDS)
def test_resampled_series_are_as_correlated_and_as_skewed_as_the_windows(kind: str) -> None:
    centred = series_of(kind) - series_of(kind).mean()
    found = _resampled_ratios(centred, _lowest_frequencies(60), np.random.default_rng(4), 200)
    assert found == pytest.approx(resampled(centred, 4, 200), rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_interval_is_the_mean_less_quantiles_of_the_resampled_ratios_times_its_error(kind: str, level: float) -> None:
    x = series_of(kind)
    found = mean_interval(x, level, rng=np.random.default_rng(4), n_resamples=300)
    assert found
    low, high = np.quantile(resampled(x - x.mean(), 4, 300), [(1 - level) / 2, (1 + level) / 2])
    error = float(_errors(x[:, None], _lowest_frequencies(60))[0])
    assert (found.low, found.high) == pytest.approx((x.mean() - high * error, x.mean() - low * error))
    assert mean_interval(x, level) == mean_interval(x, level, rng=np.random.default_rng(0), n_resamples=1999)


def test_options_of_an_interval_hold_for_ratios_and_quotients_too() -> None:
    x = series_of("alone") / 100
    plain = mean_interval(x, 0.8, rng=np.random.default_rng(5), n_resamples=99)
    ratio = ratio_interval(x, 0.8, rng=np.random.default_rng(5), n_resamples=99)
    assert plain
    assert ratio
    assert (ratio.low, ratio.high) == pytest.approx((np.exp(plain.low), np.exp(plain.high)))
    quotient = quotient_interval(x, 1 + x[::-1], 0.8, rng=np.random.default_rng(5))
    assert quotient == mean_interval(quotient_terms(x, 1 + x[::-1]), 0.8, rng=np.random.default_rng(5))


def test_ratio_beyond_floats_is_infinite_and_one_within_is_not() -> None:
    within, beyond = (ratio_interval(np.full(8, ln)) for ln in (699.0, 701.0))
    assert within
    assert beyond
    assert (within.low, within.high) == (np.exp(699), np.exp(699))
    assert (beyond.low, beyond.high) == (np.inf, np.inf)


def test_equal_windows_have_no_width_even_where_their_mean_is_rounded() -> None:
    flat = np.full(11, 0.7)
    assert flat.mean() != 0.7
    found = mean_interval(flat)
    assert found
    assert found.low == found.high == flat.mean()


def test_students_quantile_is_scipys() -> None:
    assert student(2, 0.975) == pytest.approx(stats.t.ppf(0.975, 2))


@pytest.mark.parametrize("n", [2, 3, 8, 27, 40])
def test_block_error_is_that_of_every_block_round_the_circle(n: int) -> None:
    x = WINDOWS[:n]
    block = {2: 1, 3: 1, 8: 2, 27: 3, 40: 3}[n]
    means = [np.mean([x[(i + k) % n] for k in range(block)]) for i in range(n)]
    expected = np.sqrt(np.var(means) * block / (n - block))
    assert block_stderr(x) == pytest.approx(float(expected), rel=1e-9)


def test_interval_of_an_average_is_of_items_drawn_anew_from_shrunk_shares() -> None:
    a = {"small": [True] * 9 + [False], "large": [True] * 30 + [False] * 20}
    b = {"small": [True] * 2 + [False] * 8, "large": [False] * 5 + [True] * 35 + [False] * 10}
    # small: 7 won, none lost; large: 5 won, 10 lost. Half an item more of each and one of those alike
    shares = {"small": np.array([7.5, 0.5, 4]) / 12, "large": np.array([5.5, 10.5, 36]) / 52}
    rng, steps = np.random.default_rng(0), np.zeros(1999)
    for name, n in (("small", 10), ("large", 50)):
        won, lost, _ = rng.multinomial(n, shares[name], size=1999).T
        steps += (won - lost) / n / 2
    middle = (7 / 12 - 5 / 52) / 2
    found = average_difference(a, b)
    assert found.value == pytest.approx((0.7 - 0.1) / 2)
    assert found.stderr == pytest.approx(steps.std())
    low, high = np.quantile(steps, [0.025, 0.975])  # of what is drawn from these shares the mean is theirs
    assert (found.interval.low, found.interval.high) == pytest.approx((low, high))
    assert found.interval.low < middle < found.interval.high
    few = average_difference(a, b, 0.5, rng=np.random.default_rng(0), n_resamples=1999)
    assert (few.interval.low, few.interval.high) == pytest.approx(tuple(np.quantile(steps, [0.25, 0.75])))


def test_differences_want_the_same_items_and_some() -> None:
    for a, b in (({}, {}), ({"x": []}, {"x": []}), ({"x": [True], "y": []}, {"x": [True], "y": []})):
        with pytest.raises(ValueError, match="no items to average over"):
            average_difference(a, b)
    with pytest.raises(ValueError, match="not the same items: {'x': 1} and {'x': 2}"):
        average_difference({"x": [True]}, {"x": [True, False]})
