"""The plots: names that cover nothing, every kind of row, the same bytes each time."""

from __future__ import annotations

import random
import re
import struct
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from lwq.metrics.values import Estimate
from lwq.record.record import Record, Row
from lwq.report.figures import figure_texts, floor_in_view, front
from lwq.report.labels import PlottedPoint, place_labels
from lwq.report.plots import figure_files
from lwq.report.rows import pareto
from tests.sample_record import damage, sample_record


def overlap(a: Bbox, b: Bbox) -> float:
    both = Bbox.intersection(a, b)
    return both.width * both.height if both else 0.0


@pytest.mark.parametrize(("n", "seed"), [(2, 0), (8, 1), (14, 2), (14, 3), (22, 4), (30, 5)])
def test_names_cover_neither_each_other_nor_a_point_nor_the_edge(n: int, seed: int) -> None:
    chance = random.Random(seed)
    points = [
        PlottedPoint(f"Q{i % 8}_K_M-{i}", 90 + 60 * chance.random(), 10 ** (-3 * chance.random())) for i in range(n)
    ]
    figure = Figure(figsize=(7, 5), dpi=200, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.add_subplot()
    axes.set_yscale("log")
    axes.set_ylim(3e-4, 3)
    axes.plot([p.x for p in points], [p.y for p in points], "o")
    axes.margins(x=0.13)
    boxes = place_labels(axes, canvas, points, [(p.x, p.y) for p in sorted(points)[:2]])
    assert len(boxes) == n
    for i, box in enumerate(boxes):
        inside = overlap(box, axes.bbox)
        assert inside > 0.99 * box.width * box.height
        assert all(overlap(box, other) == 0 for other in boxes[:i])
        for point in points:
            x, y = axes.transData.transform((point.x, point.y))
            assert not box.contains(x, y)


def test_name_of_a_point_at_the_edge_stays_inside() -> None:
    figure = Figure(figsize=(7, 5), dpi=200, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.add_subplot()
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    corners = [PlottedPoint("a-rather-long-name", x, y) for x in (0, 1) for y in (0, 1)]
    for box in place_labels(axes, canvas, corners, []):
        assert overlap(box, axes.bbox) > 0.99 * box.width * box.height


def test_front_goes_by_bytes_of_tensors_and_a_tie_in_kld_by_the_smaller() -> None:
    q4, bare, q8 = (row(sample_record(), name) for name in ("Q4_K_M", "Q4_K_M-no-imatrix", "Q8_0"))
    assert bare.file_bytes < q4.file_bytes
    assert pareto((bare, q4, q8)) == (q4, q8)
    tied = replace(q8, evaluation=q4.evaluation)
    assert pareto((tied, q4)) == (q4,)


def row(record: Record, name: str) -> Row:
    return next(row for row in record.rows if row.name == name)


def test_figures_are_the_same_bytes_each_time_and_hold_no_clock_or_program() -> None:
    first, second = figure_files(sample_record()), figure_files(sample_record())
    assert first == second
    names = [figure.name for figure in figure_texts(sample_record())]
    assert sorted(first) == sorted(f"{name}.{kind}" for name in names for kind in ("png", "svg"))
    for name, data in first.items():
        if name.endswith(".svg"):
            ElementTree.fromstring(data)
            assert b"<dc:date>" not in data
            assert b"matplotlib.org" not in re.sub(rb"<!--.*?-->", b"", data)
        else:
            assert b"Software" not in data
            assert struct.unpack(">I", data[16:20])[0] == 1400


def test_user_settings_of_matplotlib_change_nothing() -> None:
    import matplotlib as mpl

    before = figure_files(sample_record())
    with mpl.rc_context({"font.size": 30, "lines.linewidth": 9, "text.usetex": False, "axes.grid": True}):
        assert figure_files(sample_record()) == before


def with_kld(record: Record, kld: float) -> Record:
    low = replace(damage("Q8_0"), kld=Estimate(value=kld, stderr=0.000002))
    rows = tuple(replace(r, evaluation=low) if r.name == "Q8_0" else r for r in record.rows)
    return replace(record, rows=rows)


def test_row_at_or_below_zero_is_drawn_and_told() -> None:
    record = with_kld(sample_record(searched=False), -0.000001)
    text = next(f for f in figure_texts(record) if f.name == "kld_against_size")
    assert "At or below zero, so at the lower edge: Q8_0." in text.caption
    assert figure_files(record)["kld_against_size.svg"]


def test_all_rows_at_zero_still_draw() -> None:
    record = sample_record(searched=False)
    flat = replace(damage("Q8_0"), kld=Estimate(value=0.0, stderr=0.0))
    record = replace(record, rows=tuple(replace(r, evaluation=flat) for r in record.rows))
    assert figure_files(record)["kld_against_size.png"]


def test_floor_is_a_line_only_where_it_is_in_view() -> None:
    record = sample_record(searched=False)
    assert not floor_in_view(record)
    high = replace(record, floor=Estimate(value=0.0005, stderr=0.00001))
    assert floor_in_view(high)
    caption = figure_texts(high)[0].caption
    assert "dashed line is the floor" in caption
    assert "0.0005" not in caption
    assert figure_files(high)["kld_against_size.svg"] != figure_files(record)["kld_against_size.svg"]


def test_front_leaves_out_the_file_that_the_base_was_made_from() -> None:
    assert [row.name for row in front(sample_record())] == ["IQ4_XS", "Q4_K_M-lwq", "Q4_K_M-by-hand", "Q8_0"]


def test_record_of_a_base_alone_has_no_plot_of_kld() -> None:
    record = sample_record(searched=False, pruned=False)
    alone = replace(record, rows=record.rows[:1])
    assert [f.name for f in figure_texts(alone)] == ["bytes_by_class", "bytes_by_type"]
    assert len(figure_files(alone)) == 4
