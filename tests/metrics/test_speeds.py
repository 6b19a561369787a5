"""Speeds: ratios paired by round, and the largest size that is fast enough."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from lwq.metrics.speeds import Ratio, busiest, mean, most_at_pace, ratio, ratio_to, reaches
from lwq.metrics.values import Estimate, Speed


def speed(samples: tuple[float, ...], test: str = "pp512", busy: float | None = 0.0) -> Speed:
    value = mean(samples)
    return Speed(
        test=test, tokens_per_second=value, samples=samples, n_threads=2, backend="CPU", cpu="a CPU", busy=busy
    )  # fmt: skip


def test_mean_and_its_standard_error_are_those_of_the_rounds() -> None:
    found = mean((100.0, 110.0, 120.0))
    assert (found.value, found.unit) == (110, "t/s")
    assert found.stderr == pytest.approx(10 / math.sqrt(3))  # s = 10
    assert mean((100.0,)).stderr is None
    assert mean((100.0, 102.0)).stderr == pytest.approx(1)


def test_ratio_and_interval_by_hand() -> None:
    found = ratio((110.0, 90.0, 105.0), (100.0, 100.0, 100.0))
    # d = ln 1.1, ln 0.9, ln 1.05 = .0953102, −.1053605, .0487902: mean .0129133, s .1050359, s/√3 .0606425
    # t of 2 degrees of freedom 4.302653: ± .2609240
    assert found.value == pytest.approx(math.exp(0.0129133), rel=1e-6)
    assert found.low == pytest.approx(math.exp(0.0129133 - 0.2609240), rel=1e-5)
    assert found.high == pytest.approx(math.exp(0.0129133 + 0.2609240), rel=1e-5)
    assert (found.n_rounds, found.is_tied) == (3, True)
    assert ratio((2.0, 2.0), (1.0, 1.0)) == Ratio(
        value=pytest.approx(2), low=pytest.approx(2), high=pytest.approx(2), n_rounds=2
    )


@pytest.mark.parametrize(
    ("low", "high", "tied"), [(0.9, 0.99, False), (0.9, 1.0, True), (1.0, 1.1, True), (1.01, 1.1, False)]
)
def test_an_interval_that_holds_one_is_a_tie(low: float, high: float, tied: bool) -> None:
    assert Ratio(value=1.0, low=low, high=high, n_rounds=3).is_tied is tied


def test_interval_is_the_paired_t_interval_of_scipy() -> None:
    a, b = (201.0, 207.0, 190.0, 220.0, 199.0), (181.0, 188.0, 176.0, 190.0, 185.0)
    logs = [math.log(x) for x in a], [math.log(x) for x in b]
    interval = stats.ttest_rel(*logs).confidence_interval(0.95)
    found = ratio(a, b)
    assert (found.low, found.high) == pytest.approx((math.exp(interval.low), math.exp(interval.high)), rel=1e-9)
    assert not found.is_tied


def test_what_slows_a_whole_round_leaves_the_ratio_as_it_is() -> None:
    a, b, shared = (11.0, 11.2, 10.9), (10.0, 10.1, 10.0), (1.0, 0.4, 0.9)
    slowed = [tuple(x * s for x, s in zip(speeds, shared, strict=True)) for speeds in (a, b)]
    calm, noisy = ratio(a, b), ratio(*slowed)
    assert (noisy.value, noisy.low, noisy.high) == pytest.approx((calm.value, calm.low, calm.high))


def test_ratio_the_other_way_round_is_the_inverse() -> None:
    a, b = (11.0, 12.0, 10.0), (10.0, 9.0, 10.5)
    there, back = ratio(a, b), ratio(b, a)
    assert (back.value, back.low, back.high) == pytest.approx((1 / there.value, 1 / there.high, 1 / there.low))


def test_speeds_that_were_not_measured_in_the_same_rounds_have_no_ratio() -> None:
    first = speed((10.0, 11.0))
    assert ratio_to(speed((20.0, 22.0)), (first,)).value == pytest.approx(2)
    assert ratio_to(speed((20.0, 22.0), test="tg8"), (first,)) is None
    assert ratio_to(speed((20.0, 22.0, 21.0)), (first,)) is None
    assert ratio_to(speed((20.0, 22.0), busy=None), (first,)) is None
    with pytest.raises(ValueError, match="1 round"):
        ratio((1.0,), (1.0,))
    assert ratio_to(speed((20.0, 22.0)), (speed((1.0, 2.0), test="tg8"), speed((10.0, 11.0), busy=None))) is None
    assert ratio_to(speed((20.0,)), (speed((10.0,)),)) is None
    with pytest.raises(ValueError, match="zip"):
        ratio((1.0, 2.0), (1.0, 2.0, 3.0))
    assert busiest(()) == busiest((speed((1.0,), busy=None),)) == 0
    assert busiest((first, speed((1.0,), busy=0.4), speed((1.0,), busy=None))) == 0.4


SPEED = 1e9
"""Bytes per second of a machine whose speed is the file's size alone."""


def per_second(value: float, stderr: float | None = 0.0) -> Estimate:
    return Estimate(value=value, stderr=stderr, unit="t/s")


def by_size(n_bytes: int) -> Estimate:
    return per_second(SPEED / n_bytes)


def test_a_budget_that_is_fast_enough_is_measured_once() -> None:
    found, tried = most_at_pace(by_size, 100, 1000, SPEED / 1000)
    assert found == 1000
    assert [size for size, _ in tried] == [1000]


def test_the_size_found_is_fast_enough_and_near_the_largest_that_is() -> None:
    found, tried = most_at_pace(by_size, 100_000, 1_000_000, SPEED / 620_000)
    assert found is not None
    assert 0.98 * 620_000 <= found <= 620_000
    assert len(tried) <= 5
    assert (found, by_size(found)) in tried


def test_none_where_even_the_smallest_is_too_slow() -> None:
    found, tried = most_at_pace(by_size, 100, 1000, SPEED / 99)
    assert found is None
    assert [size for size, _ in tried][-1] == 100


def test_the_next_size_is_proportionate_but_no_smaller_a_step_than_seven_hundredths() -> None:
    _, tried = most_at_pace(by_size, 100, 1000, SPEED / 970)
    assert [size for size, _ in tried] == [1000, 930, 965, 982]
    _, tried = most_at_pace(by_size, 100, 1000, SPEED / 500)
    assert [size for size, _ in tried] == [1000, 500, 750, 625]
    found, tried = most_at_pace(lambda n: per_second(1.0 if n > 150 else 9.0), 150, 1000, 5.0)
    assert (found, [size for size, _ in tried]) == (150, [1000, 200, 150, 175, 162])


def test_gaps_of_half_a_hundredth_are_not_halved() -> None:
    _, tried = most_at_pace(lambda n: per_second(1.0 if n > 1000 else 9.0), 1000, 1009, 5.0)
    assert [size for size, _ in tried] == [1009, 1000]
    _, tried = most_at_pace(lambda n: per_second(1.0 if n > 1000 else 9.0), 1000, 1010, 5.0)
    assert [size for size, _ in tried] == [1010, 1000, 1005]


def test_of_halves_that_are_fast_enough_the_larger_is_found() -> None:
    found, tried = most_at_pace(lambda n: per_second(1.0 if n > 750 else 9.0), 100, 1000, 2.0)
    assert [size for size, _ in tried] == [1000, 500, 750, 875]
    assert found == 750


def test_only_measured_sizes_count_where_smaller_files_are_slower() -> None:
    """Kernels of small types may be slow: below 500 bytes everything is half as fast."""

    def speed(n_bytes: int) -> Estimate:
        return per_second(SPEED / n_bytes / (2 if n_bytes < 500 else 1))

    found, tried = most_at_pace(speed, 100, 1000, SPEED / 700)
    assert found is not None
    assert 500 <= found <= 700
    assert dict(tried)[found] == speed(found)


def test_a_speed_counts_only_if_it_is_reached_by_1_64_errors() -> None:
    assert reaches(per_second(61.0, 0.5), 60)
    assert not reaches(per_second(60.5, 0.5), 60)
    assert reaches(per_second(60.0, None), 60)
    assert reaches(per_second(61.64, 1.0), 60)
    assert not reaches(per_second(61.63, 1.0), 60)
    assert not reaches(per_second(59.99, None), 60)
