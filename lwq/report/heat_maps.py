"""Heat maps of tensor class against layer: how sensitive each tensor is, and which ggml type each was given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from lwq.gguf.types import known_type, split_name, type_bpw
from lwq.record.record import Record, Row
from lwq.report.searches import allocations, alpha_range
from lwq.report.style import DPI, WIDTH, log_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh

_COLOURS: Final = "viridis"
_NO_TENSOR: Final = "#e4e4e4"
_CELL: Final = 0.23
_AROUND: Final = 1.35
_STEPS: Final = ((16, 1), (33, 2), (81, 5), (161, 10))


class Cell(NamedTuple):
    """A tensor's place and what its colour says."""

    tensor_class: str
    layer: int | None
    value: float


def sensitivity(record: Record) -> Figure:
    """Alpha of every tensor, logarithmic; below the range the colour of its lower end."""
    assert record.sensitivity
    tensors = record.sensitivity.tensors
    low, high = alpha_range(tensors)
    cells = [Cell(t.tensor_class, t.layer, min(max(t.alpha, low), high)) for t in tensors]
    figure, meshes = _heat_map(cells, mpl.colormaps[_COLOURS], LogNorm(low, high))
    below = any(t.alpha < low for t in tensors)
    bar = figure.colorbar(
        meshes[0], ax=figure.axes, location="top", aspect=55, fraction=0.05, extend="min" if below else "neither"
    )
    measured = "" if record.sensitivity.n_estimated else "measured "
    bar.set_label(f"alpha: {measured}KLD of the probe ÷ local error (nats)", fontsize=8.5)
    bar.outline.set_visible(False)
    log_axis(bar.ax.xaxis, low, high)
    bar.ax.tick_params(labelsize=8.5)
    return figure


def allocation(record: Record, row: Row) -> Figure:
    """The ggml type of every tensor of a row; a type has the same colour in all rows of the record."""
    known = known_types(tuple(allocations(record).values()))
    cells = [Cell(*_class_first(name), known.index(known_type(q))) for name, q in row.tensor_types]
    colours = mpl.colormaps[_COLOURS](np.linspace(0, 1, len(known)))
    figure, _ = _heat_map(cells, ListedColormap(colours), Normalize(-0.5, len(known) - 0.5))
    here = known_types((row,))
    entries = [Patch(color=colours[known.index(q)], label=f"{q}, {type_bpw(q):g} bpw") for q in here]
    figure.legend(
        handles=entries, loc="outside upper left", ncols=4, frameon=False, fontsize=8.5, handlelength=1, handleheight=1
    )
    return figure


def known_types(rows: tuple[Row, ...]) -> tuple[str, ...]:
    """The ggml types of the rows' tensors, from few bits per weight to many."""
    ggml_types = {known_type(ggml_type) for row in rows for _, ggml_type in row.tensor_types}
    return tuple(sorted(ggml_types, key=lambda q: (type_bpw(q), q)))


def _class_first(name: str) -> tuple[str, int | None]:
    layer, tensor_class = split_name(name)
    return tensor_class, layer


def _heat_map(cells: Sequence[Cell], colours: Colormap, norm: Normalize) -> tuple[Figure, list[QuadMesh]]:
    """Classes that layers have as rows of one cell a layer; below them, over the whole width, tensors of no layer."""
    in_layers = [c for c in cells if c.layer is not None]
    alone = [c for c in cells if c.layer is None]
    parts = [part for part in (in_layers, alone) if part]
    heights = [len({c.tensor_class for c in part}) for part in parts]
    figure = Figure(figsize=(WIDTH, _CELL * sum(heights) + _AROUND), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(parts), 1, squeeze=False, height_ratios=heights)[:, 0]
    meshes = [_draw(axes, part, colours, norm) for axes, part in zip(panels, parts, strict=True)]
    if in_layers:
        n_layer = 1 + max(c.layer or 0 for c in in_layers)
        panels[0].set_xticks(range(0, n_layer, next((step for most, step in _STEPS if n_layer <= most), 20)))
        panels[0].set_xlabel("layer", fontsize=8.5, labelpad=2)
    if alone:
        panels[-1].set_xticks([])
        panels[-1].set_xlabel("not in a layer: one tensor each, over the whole width", fontsize=8.5)
    return figure, meshes


def _draw(axes: Axes, cells: Sequence[Cell], colours: Colormap, norm: Normalize) -> QuadMesh:
    """One panel; places without a tensor stay grey."""
    classes = sorted({c.tensor_class for c in cells})
    n_columns = 1 + max(c.layer or 0 for c in cells)
    values = np.full((len(classes), n_columns), np.nan)
    for cell in cells:
        values[classes.index(cell.tensor_class), cell.layer or 0] = cell.value
    axes.set_facecolor(_NO_TENSOR)
    mesh = axes.pcolormesh(
        np.arange(n_columns + 1) - 0.5,
        np.arange(len(classes) + 1) - 0.5,
        np.ma.masked_invalid(values),
        cmap=colours,
        norm=norm,
        edgecolors="white",
        linewidth=0.4,
    )
    axes.set_yticks(range(len(classes)), classes)
    axes.invert_yaxis()
    axes.tick_params(length=0, labelsize=8.5)
    axes.spines[:].set_visible(False)
    return mesh
