"""The look that all figures share: sizes, colours, a marker and a colour for each kind of row, log axes, bytes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from lwq.record.record import Row

DPI: Final = 200
WIDTH: Final = 7.0
INK: Final = "#222222"
QUIET: Final = "#9a9a9a"
STYLE: Final[dict[Any, Any]] = {
    "text.parse_math": False,
    "svg.hashsalt": "lwq",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "figure.facecolor": "#ffffff",
    "axes.facecolor": "#ffffff",
    "savefig.facecolor": "#ffffff",
}
# Okabe and Ito's colours, which people with any colour vision tell apart
COLOURS: Final = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#222222")
OTHER: Final = "#BBBBBB"
ALLOCATION: Final = "lwq allocation"
KINDS: Final = {
    ALLOCATION: ("*", COLOURS[7]),
    "stock mix, imatrix": ("o", COLOURS[0]),
    "stock mix, no imatrix": ("X", COLOURS[1]),
    "hand-written patterns": ("s", COLOURS[2]),
    "layers removed": ("v", COLOURS[5]),
    "third party": ("D", COLOURS[3]),
}
_EVEN_BELOW: Final = 4
_SUBDIVIDED_BELOW: Final = 30
_METADATA: Final[dict[str, dict[str, Any]]] = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}


@contextmanager
def styled() -> Iterator[None]:
    """Figures drawn within look alike, whatever the user's own settings are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def saved(figure: Figure, kind: str) -> bytes:
    """The figure as ``svg`` or ``png``, with no clock and no program in it."""
    stream = io.BytesIO()
    figure.savefig(stream, format=kind, metadata=_METADATA[kind], dpi=DPI)
    return stream.getvalue()


def kind_of(row: Row) -> str:
    """Which of ``KINDS`` a row is."""
    if row.origin == "third-party":
        return "third party"
    if row.pruned_layers:
        return "layers removed"
    if row.search:
        return ALLOCATION
    if row.tensor_type_patterns:
        return "hand-written patterns"
    return "stock mix, imatrix" if row.uses_imatrix else "stock mix, no imatrix"


def marked(kind: str) -> dict[str, Any]:
    """How the points of a kind of row are drawn; stars are larger, so that they look as large."""
    marker, colour = KINDS[kind]
    return {"linestyle": "", "marker": marker, "color": colour, "markersize": 13 if marker == "*" else 7.5}


def legend_entry(kind: str) -> Line2D:
    """A kind of row in a legend."""
    return Line2D([], [], label=kind, **marked(kind))


def log_axis(axis: Axis, low: float, high: float) -> None:
    """Figures on a logarithmic axis, at even steps where it spans so little that powers of ten would leave it bare."""
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(lambda *_: "")
    if high / low < _EVEN_BELOW:
        axis.set_major_locator(MaxNLocator(6))
        axis.set_minor_locator(NullLocator())
    elif high / low < _SUBDIVIDED_BELOW:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))


def grid(axes: Axes) -> None:
    """Thin grey lines behind everything."""
    axes.grid(visible=True, which="major", color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)
