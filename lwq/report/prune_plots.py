"""The plot of layers: what removing each costs, what scores of the literature say, and where they rank otherwise."""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator

from lwq.record.prune import LayerScore
from lwq.record.record import Record
from lwq.report.layer_ranks import MEASURED, barred_layers, indices, rankings, removable
from lwq.report.style import COLOURS, INK, OTHER, WIDE, Frame, grid, legend, log_axis, saved, styled
from lwq.store.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LOOKS: Final[dict[str, dict[str, Any]]] = {
    MEASURED: {"linestyle": "", "marker": "_", "color": INK, "markersize": 9, "markeredgewidth": 2},
    "Block Influence": {"linestyle": "", "marker": "v", "color": COLOURS[5], "markersize": 5.5},
    "CosSim": {"linestyle": "", "marker": "s", "color": COLOURS[2], "markersize": 4.5},
}
_NAMES: Final = {
    MEASURED: "rank by measured KLD",
    "Block Influence": "Block Influence, and rank by it",
    "CosSim": "1 − CosSim, and rank by it",
}
_ASIDE: Final = {"Block Influence": -0.16, "CosSim": 0.16}
"""How far marks stand beside their layer, so that none covers another."""
_FEW_DECADES: Final = (30, 300)
"""Between these ratios of its ends, an axis has room for 1, 2 and 5 of each power of ten."""


def layers(record: Record, frame: Frame = WIDE) -> Figure:
    """The plot of a record's layers."""
    assert record.pruning
    return layer_scores(record.pruning.layers, barred_layers(record.pruning), frame)


def draw_layer_scores(scores: tuple[LayerScore, ...], path: Path, barred: Collection[int] = ()) -> None:
    """Writes the plot, as SVG or PNG by the path's ending; equal scores give equal bytes."""
    with styled():
        write_atomic(path, saved(layer_scores(scores, barred), path.suffix.removeprefix(".")))


def layer_scores(scores: tuple[LayerScore, ...], barred: Collection[int], frame: Frame = WIDE) -> Figure:
    """Measured KLD of removing each layer, then indices, both logarithmic; below, ranks of those that may go."""
    figure = frame.figure(7.0)
    costs, values, ranks = figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 2))
    _draw_costs(costs, scores, barred)
    _draw_indices(values, scores)
    _draw_ranks(ranks, removable(scores, barred))
    ranks.set_xlim(min(s.layer for s in scores) - 0.7, max(s.layer for s in scores) + 0.7)
    ranks.xaxis.set_major_locator(MaxNLocator(nbins=10 if frame.is_narrow else 16, integer=True))
    ranks.set_xlabel("layer")
    shown = [Patch(color=COLOURS[0], label="may go")] if removable(scores, barred) else []
    shown += [Patch(color=OTHER, label="barred")] if any(s.layer in barred for s in scores) else []
    marks = [Line2D([], [], label=_NAMES[name], **look) for name, look in _LOOKS.items()]
    legend(figure, [*shown, *marks], 3)
    return figure


def _draw_costs(axes: Axes, scores: tuple[LayerScore, ...], barred: Collection[int]) -> None:
    """Bars from the lower edge; a layer whose removal cost nothing has none."""
    drawn = [s for s in scores if s.kld.value > 0]
    values = [s.kld.value for s in drawn] or [1e-3, 1.0]
    low, high = min(values) / 1.6, max(values) * 1.4
    _logarithmic(axes, low, high)
    for score in drawn:
        x, kld, stderr = score.layer, score.kld.value, score.kld.stderr or 0.0
        colour = OTHER if x in barred else COLOURS[0]
        axes.bar(x, kld - low, bottom=low, color=colour, width=0.74, zorder=2)
        bars = [[min(stderr, 0.999 * kld)], [stderr]]
        axes.errorbar(x, kld, yerr=bars, fmt="none", ecolor=INK, elinewidth=0.8, zorder=3)
    axes.set_ylabel("KLD without the layer\n(nats)")
    grid(axes)


def _draw_indices(axes: Axes, scores: tuple[LayerScore, ...]) -> None:
    """Block Influence and 1 − CosSim of all layers; what a logarithm cannot show has no mark."""
    drawn = {
        name: {layer: value for layer, value in values.items() if value > 0 and math.isfinite(value)}
        for name, values in indices(scores).items()
    }
    every = [value for values in drawn.values() for value in values.values()] or [1e-3, 1.0]
    low, high = min(every) / 1.4, max(every) * 1.4
    _logarithmic(axes, low, high)
    for name, values in drawn.items():
        axes.plot([layer + _ASIDE[name] for layer in values], list(values.values()), zorder=3, **_LOOKS[name])
    axes.set_ylabel("index\n(low: redundant?)")
    grid(axes)


def _logarithmic(axes: Axes, low: float, high: float) -> None:
    axes.set(yscale="log", ylim=(low, high))
    log_axis(axes.yaxis, low, high)
    if _FEW_DECADES[0] <= high / low < _FEW_DECADES[1]:
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))


def _draw_ranks(axes: Axes, scores: tuple[LayerScore, ...]) -> None:
    for name, places in rankings(scores).items():
        across = [layer + _ASIDE.get(name, 0.0) for layer in places]
        axes.plot(across, list(places.values()), zorder=2 if name == MEASURED else 3, **_LOOKS[name])
    axes.set_ylim(len(scores) + 0.9, 0.1)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.set_ylabel("rank (1 goes first)")
    grid(axes)
