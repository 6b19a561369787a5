"""Figures keep the digits that the tools print, in units that fit."""

from __future__ import annotations

from lwq.metrics.values import Estimate
from lwq.report.card import card
from lwq.report.numerals import brief, duration, estimate, fixed, gib, mib, parameters, percent, share
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
    assert "| -0.000001 ±0.000000 |" in card(sample_record())


def test_small_figures_are_told_with_four_digits_and_sizes_in_mib() -> None:
    assert [brief(v) for v in (1.9, 0.9134, 1234.4, 1.25e-05)] == ["1.900", "0.9134", "1234", "1.250e-05"]
    assert mib(14323703808) == "13,660.15"
