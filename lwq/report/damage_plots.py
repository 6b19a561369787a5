"""Plots of predicted damage: against what was measured of the candidates, and against size with the files on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from matplotlib.lines import Line2D

from lwq.record.record import Record, Row
from lwq.report.figures import frontier_line, on_frontier
from lwq.report.labels import PlottedPoint, place_labels
from lwq.report.numerals import size_unit
from lwq.report.rows import tensor_bytes
from lwq.report.searches import ComparedCandidate, compared_candidates
from lwq.report.style import (
    COLOURS,
    INK,
    KINDS,
    QUIET,
    WIDE,
    Frame,
    fitted,
    grid,
    kind_of,
    legend,
    legend_entry,
    log_axis,
    marked,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STOCK: Final[dict[str, Any]] = {"linestyle": "", "marker": "o", "color": COLOURS[0], "markersize": 7.5}
_OTHER: Final[dict[str, Any]] = {"linestyle": "", "marker": "^", "color": COLOURS[5], "markersize": 7.5}
_CHOSEN: Final[dict[str, Any]] = {
    "linestyle": "", "marker": "o", "markerfacecolor": "none", "markeredgecolor": INK, "markersize": 13,
    "markeredgewidth": 1.1,
}  # fmt: skip


def predicted_against_measured(record: Record, frame: Frame = WIDE) -> Figure:
    """Measured against predicted KLD of every candidate, both logarithmic, with the line where they are equal."""
    figure = frame.figure(5.4)
    axes = figure.add_subplot()
    points = compared_candidates(record)
    bounds = [v for p in points for v in (p.predicted, p.low, p.high)]
    spread = max(max(bounds) / min(bounds), 1.5) ** 0.08
    low, high = min(bounds) / spread, max(bounds) * spread
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
    log_axis(axes.xaxis, low, high)
    log_axis(axes.yaxis, low, high)
    axes.plot([low, high], [low, high], color=QUIET, linewidth=1.1, zorder=1)
    for point in points:
        _draw_candidate(axes, point)
    axes.set_xlabel("predicted KLD (nats)")
    axes.set_ylabel("measured KLD (nats)")
    grid(axes)
    legend(figure, _candidate_entries(points), 4)
    return figure


def _draw_candidate(axes: Axes, point: ComparedCandidate) -> None:
    bars = [[point.measured - point.low], [point.high - point.measured]]
    axes.errorbar(point.predicted, point.measured, yerr=bars, fmt="none", ecolor=INK, elinewidth=0.8, zorder=2)
    look = _STOCK if point.is_stock else _OTHER
    axes.plot(point.predicted, point.measured, markeredgecolor="white", zorder=3, **look)
    if point.is_chosen:
        axes.plot(point.predicted, point.measured, zorder=4, **_CHOSEN)


def _candidate_entries(points: tuple[ComparedCandidate, ...]) -> list[Line2D]:
    entries = []
    if any(p.is_stock for p in points):
        entries.append(Line2D([], [], label="stock mix", **_STOCK))
    if any(not p.is_stock for p in points):
        entries.append(Line2D([], [], label="any other candidate", **_OTHER))
    if any(p.is_chosen for p in points):
        entries.append(Line2D([], [], label="chosen", **_CHOSEN))
    return [*entries, Line2D([], [], color=QUIET, linewidth=1.1, label="predicted = measured")]


def frontier(record: Record, frame: Frame = WIDE) -> Figure:
    """Lowest predicted KLD at each size as a line, and the measured KLD of our files as points."""
    figure = frame.figure(5.0)
    axes = figure.add_subplot()
    rows = on_frontier(record)
    points = frontier_line(record)
    unit, scale = size_unit([*(p.n_bytes for p in points), *map(tensor_bytes, rows)])
    line = [(p.n_bytes / scale, p.predicted_kld) for p in points]
    _limit(axes, [kld for _, kld in line], rows)
    axes.plot(*zip(*line, strict=True), color=QUIET, linewidth=1.4, marker=".", markersize=4, zorder=1)
    for row in rows:
        kld = row.evaluation.kld
        bars = [[min(kld.stderr or 0.0, 0.999 * kld.value)], [kld.stderr or 0.0]]
        x = tensor_bytes(row) / scale
        axes.errorbar(x, kld.value, yerr=bars, fmt="none", ecolor=INK, capsize=2.5, elinewidth=0.8, zorder=4)
        axes.plot(x, kld.value, markeredgecolor="white", zorder=3, **marked(kind_of(row)))
    axes.margins(x=0.13)
    axes.set_xlabel(f"bytes of all tensors ({unit})")
    axes.set_ylabel("KLD (nats): line predicted, points measured")
    grid(axes)
    legend(figure, _frontier_entries(rows), 3)
    place_labels(
        axes,
        [
            PlottedPoint(fitted(figure, row.name, 0.35), tensor_bytes(row) / scale, row.evaluation.kld.value)
            for row in rows
        ],
        line,
    )
    return figure


def _limit(axes: Axes, predicted: list[float], rows: tuple[Row, ...]) -> None:
    """A logarithmic axis that holds the line and the points, with room for names."""
    values = [*predicted, *(row.evaluation.kld.value for row in rows)]
    spread = max(max(values) / min(values), 2.0) ** 0.1
    low, high = min(values) / spread, max(values) * spread
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    log_axis(axes.yaxis, low, high)


def _frontier_entries(rows: tuple[Row, ...]) -> list[Line2D]:
    kinds = {kind_of(row) for row in rows}
    line = Line2D([], [], color=QUIET, linewidth=1.4, marker=".", label="best allocation (predicted)")
    return [line, *(legend_entry(kind) for kind in KINDS if kind in kinds)]
