"""Figures keep the digits that the tools print, in units that fit."""

from __future__ import annotations

import pytest

from lwq.metrics.values import Estimate
from lwq.report.numerals import (
    brief,
    count,
    duration,
    estimate,
    fixed,
    gib,
    hub_size,
    in_gb,
    mib,
    parameters,
    percent,
    rounded,
    rounded_percent,
    rounded_ppl,
    rounded_range,
    share,
    size_unit,
    tokens,
)
from tests.report.test_card import whole
from tests.sample_record import sample_record


def test_figures_keep_the_tools_digits() -> None:
    assert estimate(Estimate(value=21.411111, stderr=0.170166), 6) == "21.411111 ±0.170166"
    assert estimate(Estimate(value=0.1), 3) == "0.100"
    assert percent(Estimate(value=0.07244, stderr=0.00048), 3) == "7.244 ±0.048"
    assert percent(Estimate(value=0.57794), 3) == "57.794"


def test_sizes_shares_and_times_are_told_in_fitting_units() -> None:
    assert gib((14323703808, 47146213376)) == ("13.34", "43.91")
    assert gib((105454368, 14323703808)) == ("0.0982", "13.3400")
    assert (parameters(23572403200), parameters(134515008)) == ("23.57 B", "134.5 M")
    assert (share(1, 3), share(1, 0)) == ("33.3%", "–")
    assert [duration(s) for s in (4.25, 59.96, 725, 12000)] == ["4.2 s", "1 min 0 s", "12 min 5 s", "3 h 20 min"]


def test_negative_zero_has_no_sign_and_a_small_negative_kld_keeps_it() -> None:
    assert fixed(-0.0, 6) == fixed(-0.0000001, 6) == "0.000000"
    assert "| -0.000001 ±0.000000 |" in whole(sample_record())


def test_small_figures_are_told_with_four_digits_and_sizes_in_mib() -> None:
    assert [brief(v) for v in (1.9, 0.9134, 1234.4, 1.25e-05)] == ["1.900", "0.9134", "1234", "1.250e-05"]
    assert mib(14323703808) == "13,660.15"


@pytest.mark.parametrize(
    ("value", "stderr", "text"),
    [
        (0.0328, 0.000948, "0.0328 ±0.0009"), (0.105129, 0.003471, "0.105 ±0.003"), (0.0352, 0.0011, "0.0352 ±0.0011"),
        (0.4321, 0.0199, "0.432 ±0.020"), (0.4321, 0.02, "0.43 ±0.02"), (12.34, 1.5, "12.3 ±1.5"),
        (12.34, 2.4, "12 ±2"),
        (1234.5, 15.0, "1234 ±15"), (1234.5, 150.0, "1234 ±150"), (-0.00001, 0.002, "0.000 ±0.002"),
        (0.5, 0.01, "0.500 ±0.010"),
        (0.0318123, None, "0.03181"), (0.0318123, 0.0, "0.03181"), (0.0, None, "0"), (0.0, 0.0, "0"),
    ],
)  # fmt: skip
def test_figures_are_rounded_to_the_digit_of_their_error_that_counts(
    value: float, stderr: float | None, text: str
) -> None:
    assert rounded(Estimate(value=value, stderr=stderr)) == text
    hundredth = Estimate(value=value / 100, stderr=None if stderr is None else stderr / 100)
    assert rounded_percent(hundredth) == text


def test_a_figure_without_an_error_has_none() -> None:
    assert estimate(Estimate(value=-0.0, stderr=0.0), 2) == "0.00 ±0.00"
    assert percent(Estimate(value=-0.00001), 2) == "0.00"
    assert (count(1234567), count(999)) == ("1,234,567", "999")
    assert (share(1, 8, 2), share(1, 1, 0), share(0, 3)) == ("12.50%", "100%", "0.0%")


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (9994, "9.99 kB"), (9996, "10.0 kB"), (99_940, "99.9 kB"),
        (99_960, "100 kB"), (999_400, "999 kB"), (999_500, "1.00 MB"), (105_454_368, "105 MB"),
        (999_499_999, "999 MB"), (999_500_000, "1.00 GB"), (4_920_000_000, "4.92 GB"), (49_200_000_000, "49.2 GB"),
        (1_234_500_000_000, "1,234 GB"),
    ],
)  # fmt: skip
def test_sizes_are_those_that_the_hub_shows(n_bytes: int, text: str) -> None:
    assert hub_size(n_bytes) == text


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0.00"), (1, "0.01"), (330_000_001, "0.34"), (340_000_000, "0.34"), (9_990_000_000, "9.99"),
        (9_996_000_000, "10.0"), (5_890_000_001, "5.90"), (59_010_000_000, "59.1"), (99_940_000_000, "100.0"),
        (99_960_000_000, "100"), (130_100_000_000, "131"), (1_234_000_000_000, "1,234"),
    ],
)  # fmt: skip
def test_memory_in_gigabytes_is_rounded_up(n_bytes: int, text: str) -> None:
    assert in_gb(n_bytes) == text


def test_contexts_are_told_in_k_and_m_where_they_are_whole() -> None:
    said = [tokens(n) for n in (512, 1024, 1536, 4096, 131_072, 1 << 20, 3 << 19, 5 << 20)]
    assert said == ["512", "1k", "1,536", "4k", "128k", "1M", "1536k", "5M"]


def test_a_column_of_sizes_has_the_unit_and_the_digits_of_its_sizes() -> None:
    gibibyte = 1 << 30
    assert gib(()) == ()
    assert gib((gibibyte, 2 * gibibyte)) == ("1.00", "2.00")
    assert gib((gibibyte - 1, gibibyte)) == ("1.0000", "1.0000")
    assert (size_unit(()), size_unit((5, gibibyte - 1))) == (("MiB", 1 << 20), ("MiB", 1 << 20))
    assert size_unit((5, gibibyte)) == ("GiB", gibibyte)


def test_parameters_and_times_change_their_unit_where_it_fits() -> None:
    assert [parameters(n) for n in (999_949_999, 10**9, 50_000)] == ["999.9 M", "1.00 B", "0.1 M"]
    times = (0, 59.94, 59.95, 60.4, 3599.4, 3599.5, 3600, 7260)
    assert [duration(s) for s in times] == [
        "0.0 s", "59.9 s", "1 min 0 s", "1 min 0 s", "59 min 59 s", "1 h 0 min", "1 h 0 min", "2 h 1 min",
    ]  # fmt: skip
    assert [brief(v) for v in (0.0, 12345.0, 1.0, -0.5)] == ["0.000", "1.234e+04", "1.000", "-0.5000"]


def test_ends_of_intervals_have_two_digits_of_their_width() -> None:
    assert rounded_range(0.026943, 0.034851) == ("0.0269", "0.0349")
    assert rounded_range(-2.2, 130.4) == ("-2", "130")
    assert rounded_range(0.5, 0.5) == ("0.500000", "0.500000")


def test_perplexity_is_told_as_finely_as_files_differ_on_the_same_tokens() -> None:
    row = next(row for row in sample_record().rows if row.name == "Q4_K_M")
    assert row.evaluation.ppl_difference.stderr is not None
    assert 0.1 < row.evaluation.ppl_difference.stderr < 0.2
    assert rounded_ppl(row.evaluation) == "25.13 ±1.70"
