"""Heat maps of tensor class against layer: how sensitive each tensor is, and which ggml type each was given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, to_hex
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path

from lwq.gguf.types import known_type, split_name, type_bpw
from lwq.record.record import Record, Row
from lwq.report.searches import allocations, alpha_range
from lwq.report.style import SMALL, WIDE, Frame, legend, log_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS: Final = "viridis"
_NO_TENSOR: Final = "#e4e4e4"
_CELL: Final = 0.23
_AROUND: Final = 1.35
_N_SHADES: Final = 32
_STEPS: Final = ((16, 1), (33, 2), (81, 5), (161, 10))


class Cell(NamedTuple):
    """A tensor's place and what its colour says."""

    tensor_class: str
    layer: int | None
    value: float


def sensitivity(record: Record, frame: Frame = WIDE) -> Figure:
    """Alpha of every tensor, logarithmic; below the range the colour of its lower end."""
    assert record.sensitivity
    tensors = record.sensitivity.tensors
    low, high = alpha_range(tensors)
    norm, colours = LogNorm(low, high), mpl.colormaps[_COLOURS].resampled(_N_SHADES)
    cells = [Cell(t.tensor_class, t.layer, min(max(t.alpha, low), high)) for t in tensors]
    figure = _heat_map(cells, lambda alpha: to_hex(colours(float(norm(alpha)))), frame)
    below = any(t.alpha < low for t in tensors)
    bar = figure.colorbar(
        ScalarMappable(norm, colours),
        ax=figure.axes,
        location="top",
        aspect=55,
        fraction=0.05,
        extend="min" if below else "neither",
    )
    measured = "" if record.sensitivity.n_estimated else "measured "
    between = "\n" if frame.is_narrow else " "
    bar.set_label(f"alpha: {measured}KLD of the probe{between}÷ local error (nats)", fontsize=SMALL)
    bar.outline.set_visible(False)
    log_axis(bar.ax.xaxis, low, high)
    bar.ax.tick_params(labelsize=SMALL)
    return figure


def allocation(record: Record, frame: Frame = WIDE, *, row: Row) -> Figure:
    """The ggml type of every tensor of a row; a type has the same colour in all rows of the record."""
    known = known_types((*allocations(record).values(), row))
    cells = [Cell(*_class_first(name), known.index(known_type(q))) for name, q in row.tensor_types]
    colours = [to_hex(colour) for colour in mpl.colormaps[_COLOURS](np.linspace(0, 1, len(known)))]
    figure = _heat_map(cells, lambda at: colours[int(at)], frame)
    entries = [Patch(color=colours[known.index(q)], label=f"{q}, {type_bpw(q):g} bpw") for q in known_types((row,))]
    legend(figure, entries, 4, handlelength=1, handleheight=1)
    return figure


def known_types(rows: tuple[Row, ...]) -> tuple[str, ...]:
    """The ggml types of the rows' tensors, from few bits per weight to many."""
    ggml_types = {known_type(ggml_type) for row in rows for _, ggml_type in row.tensor_types}
    return tuple(sorted(ggml_types, key=lambda q: (type_bpw(q), q)))


def _class_first(name: str) -> tuple[str, int | None]:
    layer, tensor_class = split_name(name)
    return tensor_class, layer


def _heat_map(cells: Sequence[Cell], colour: Callable[[float], str], frame: Frame) -> Figure:
    """Classes that layers have as rows of one cell a layer; below them, over the whole width, tensors of no layer."""
    in_layers = [c for c in cells if c.layer is not None]
    alone = [c for c in cells if c.layer is None]
    parts = [part for part in (in_layers, alone) if part]
    heights = [len({c.tensor_class for c in part}) for part in parts]
    figure = frame.figure(_CELL * sum(heights) + _AROUND + (0.4 if frame.is_narrow else 0))
    panels = figure.subplots(len(parts), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, part in zip(panels, parts, strict=True):
        _draw(axes, part, colour)
    if in_layers:
        n_layer = 1 + max(c.layer or 0 for c in in_layers)
        panels[0].set_xticks(range(0, n_layer, next((step for most, step in _STEPS if n_layer <= most), 20)))
        panels[0].set_xlabel("layer", fontsize=SMALL, labelpad=2)
    if alone:
        panels[-1].set_xticks([])
        panels[-1].set_xlabel("not in a layer: one tensor each", fontsize=SMALL)
    return figure


def _draw(axes: Axes, cells: Sequence[Cell], colour: Callable[[float], str]) -> None:
    """One panel, one shape for all cells of a colour; places without a tensor stay grey."""
    classes = sorted({c.tensor_class for c in cells})
    n_columns = 1 + max(c.layer or 0 for c in cells)
    places: dict[str, list[Path]] = {}
    for cell in cells:
        x, y = (cell.layer or 0) - 0.5, classes.index(cell.tensor_class) - 0.5
        corners = ((x, y), (x + 1, y), (x + 1, y + 1), (x, y + 1), (x, y))
        places.setdefault(colour(cell.value), []).append(Path(corners, closed=True))
    axes.set_facecolor(_NO_TENSOR)
    for shade, squares in places.items():
        shape = Path.make_compound_path(*squares)
        axes.add_patch(PathPatch(shape, facecolor=shade, edgecolor="white", linewidth=0.4))
    axes.set(xlim=(-0.5, n_columns - 0.5), ylim=(len(classes) - 0.5, -0.5), yticks=range(len(classes)))
    axes.set_yticklabels(classes)
    axes.tick_params(length=0, labelsize=SMALL)
    axes.spines[:].set_visible(False)
