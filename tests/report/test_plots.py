"""The plots: every kind of row, the same bytes each time."""

from __future__ import annotations

import struct
from dataclasses import replace

from lwq.metrics.values import Estimate
from lwq.record.record import Record
from lwq.report.figures import figure_texts
from lwq.report.plots import drawings
from tests.sample_record import damage, sample_record


def test_figures_are_the_same_bytes_each_time_and_hold_no_clock_or_program() -> None:
    first, second = drawings(sample_record()), drawings(sample_record())
    assert first == second
    assert list(first) == [figure.name for figure in figure_texts(sample_record())]
    for drawing in first.values():
        assert b"Software" not in drawing.png
        assert struct.unpack(">I", drawing.png[16:20])[0] == 1400


def test_user_settings_of_matplotlib_change_nothing() -> None:
    import matplotlib as mpl

    before = drawings(sample_record())
    with mpl.rc_context({"font.size": 30, "lines.linewidth": 9, "text.usetex": False, "axes.grid": True}):
        assert drawings(sample_record()) == before


def with_kld(record: Record, kld: float) -> Record:
    low = replace(damage("Q8_0"), kld=Estimate(value=kld, stderr=0.000002))
    rows = tuple(replace(r, evaluation=low) if r.name == "Q8_0" else r for r in record.rows)
    return replace(record, rows=rows)


def test_row_at_or_below_zero_is_drawn_and_told() -> None:
    record = with_kld(sample_record(searched=False), -0.000001)
    text = next(f for f in figure_texts(record) if f.name == "kld_against_size")
    assert "At or below zero, so at the lower edge: Q8_0." in text.caption
    assert drawings(record)["kld_against_size"].html


def test_all_rows_at_zero_still_draw() -> None:
    record = sample_record(searched=False)
    flat = replace(damage("Q8_0"), kld=Estimate(value=0.0, stderr=0.0))
    record = replace(record, rows=tuple(replace(r, evaluation=flat) for r in record.rows))
    assert drawings(record)["kld_against_size"].png


def test_record_of_a_base_alone_has_no_plot_of_kld() -> None:
    record = sample_record(searched=False, pruned=False)
    alone = replace(record, rows=record.rows[:1])
    assert [f.name for f in figure_texts(alone)] == ["bytes_by_class", "bytes_by_type"]
    assert len(drawings(alone)) == 2
