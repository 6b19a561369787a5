"""The look that all figures share: sizes, colours, legends, a marker and a colour for each kind of row, log axes."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from lwq.record.record import Row
from lwq.report.markdown import one_line

DPI: Final = 200
SMALL: Final = 9
"""Size of the smallest text."""
INK: Final = "#222222"
QUIET: Final = "#9a9a9a"
STYLE: Final[dict[Any, Any]] = {
    "text.parse_math": False,
    "text.hinting": "no_hinting",
    "figure.constrained_layout.w_pad": 0.08,
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
COLOURS: Final = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#6C6C6C")
OTHER: Final = "#BBBBBB"
ON_BRIGHT: Final = "#111111"
ON_DARK: Final = "#fefefe"
ALLOCATION: Final = "lwq allocation"
KINDS: Final = {
    ALLOCATION: ("*", INK),
    "stock mix, imatrix": ("o", COLOURS[0]),
    "stock mix, no imatrix": ("X", COLOURS[1]),
    "hand-written patterns": ("s", COLOURS[2]),
    "layers removed": ("v", COLOURS[5]),
    "third party": ("D", COLOURS[3]),
}
_EVEN_BELOW: Final = 4
_SUBDIVIDED_BELOW: Final = 30
_METADATA: Final[dict[str, dict[str, Any]]] = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}


@dataclass(frozen=True, slots=True)
class Frame:
    """How wide a figure is, in inches of 72 units: on a page, its text is as large in pixels as it is in units."""

    width: float

    @property
    def is_narrow(self) -> bool:
        return self.width < WIDE.width

    def figure(self, height: float) -> Figure:
        """An empty figure that can measure its texts."""
        figure = Figure(figsize=(self.width, height), dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        return figure


WIDE: Final = Frame(7.0)
NARROW: Final = Frame(4.5)
"""For screens of 360 pixels and more, of which 324 are left for it."""


@contextmanager
def styled() -> Iterator[None]:
    """Figures drawn within look alike, whatever the user's own settings are."""
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a box in its place, and text on the page
        yield


def settle(figure: Figure) -> None:
    """Finds the layout, which stays as it is from then on."""
    if isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):
        figure.draw_without_rendering()
        figure.set_layout_engine("none")


def saved(figure: Figure, kind: str) -> bytes:
    """The figure as ``svg`` or ``png``, with no clock and no program in it."""
    stream = io.BytesIO()
    figure.savefig(stream, format=kind, metadata=_METADATA[kind], dpi=DPI)
    return stream.getvalue()


def fitted(figure: Figure, name: str, share: float) -> str:
    """A row's name on one line, cut where it is wider than that share of the figure."""
    canvas = cast(FigureCanvasAgg, figure.canvas)
    renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
    font = FontProperties(size=SMALL)
    whole = one_line(name)
    for n in range(min(len(whole), 120), 0, -1):
        cut = whole if n == len(whole) else f"{whole[:n]}…"
        if renderer.get_text_width_height_descent(cut, font, False)[0] <= share * figure.bbox.width:
            return cut
    return "…"


def legend(figure: Figure, entries: Sequence[Artist], n_columns: int, **looks: float) -> None:
    """The entries above the axes, in ``n_columns`` or as many as there is room for."""
    for n in range(n_columns, 0, -1):
        made = figure.legend(handles=entries, loc="outside upper left", ncols=n, frameon=False, fontsize=SMALL, **looks)
        if n == 1 or made.get_window_extent().width <= figure.bbox.width:
            return
        made.remove()


def ink_on(colour: str) -> str:
    """Dark or white, whichever can be read on a colour (a ratio of at least 4.5); the same in light and dark."""
    light = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in to_rgb(colour))
    luminance = sum(share * v for share, v in zip((0.2126, 0.7152, 0.0722), light, strict=True))
    return ON_BRIGHT if luminance > 0.18 else ON_DARK


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
