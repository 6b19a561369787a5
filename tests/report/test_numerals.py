"""Figures keep the digits that the tools print, in units that fit."""

from __future__ import annotations

from lwq.metrics.values import Estimate
from lwq.report.numerals import (
    brief,
    duration,
    estimate,
    fixed,
    gib,
    mib,
    parameters,
    percent,
    rounded,
    rounded_percent,
    rounded_ppl,
    rounded_range,
    share,
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


def test_figures_of_a_card_have_the_digits_that_their_errors_leave() -> None:
    said = [
        (0.03276, 0.00094),
        (0.4834, 0.0118),
        (25.129, 1.7046),
        (1.0281, 0.0064),
        (1200.0, 85.0),
        (2.5, None),
        (0.0, None),
    ]
    assert [rounded(Estimate(value=v, stderr=e)) for v, e in said] == [
        "0.0328 ±0.0009", "0.483 ±0.012", "25.1 ±1.7", "1.028 ±0.006", "1200 ±85", "2.5", "0",
    ]  # fmt: skip
    assert rounded_percent(Estimate(value=0.87711, stderr=0.00681)) == "87.7 ±0.7"
    assert rounded_range(0.026943, 0.034851) == ("0.0269", "0.0349")
    assert rounded_range(-2.2, 130.4) == ("-2", "130")
    assert rounded_range(0.5, 0.5) == ("0.500000", "0.500000")


def test_perplexity_is_told_as_finely_as_files_differ_on_the_same_tokens() -> None:
    row = next(row for row in sample_record().rows if row.name == "Q4_K_M")
    assert row.evaluation.ppl_difference.stderr is not None
    assert 0.1 < row.evaluation.ppl_difference.stderr < 0.2
    assert rounded_ppl(row.evaluation) == "25.13 ±1.70"
