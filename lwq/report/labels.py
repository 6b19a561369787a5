"""Names beside the points of a plot, placed so that they cover neither each other nor points nor line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from matplotlib.figure import Figure

from lwq.report.style import QUIET, SMALL, settle

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_RADII: Final = (9, 16, 26, 38, 52, 68, 88)
_N_ANGLES: Final = 16
_LEADER_FROM: Final = 20
_POINT_MARGIN: Final = 7.0
_LINE_MARGIN: Final = 1.5
Pixels = tuple[float, float]
Box = tuple[float, float, float, float]
"""Left, lower, right and upper edge, in pixels."""


class PlottedPoint(NamedTuple):
    """A name and where it belongs, in data."""

    name: str
    x: float
    y: float


def place_labels(axes: Axes, points: Sequence[PlottedPoint], line: Sequence[tuple[float, float]]) -> tuple[Box, ...]:
    """Writes each name near its point, with a thin line where it had to move away; the layout is settled.

    Greedy, the most crowded point first: of all places around the point the nearest that is free, or the
    one that covers least of points, names and ``line``.
    """
    figure = cast(Figure, axes.figure)
    settle(figure)
    scale = figure.dpi / 72
    within: Box = axes.bbox.extents
    spots = [_pixels(axes, x, y) for _, x, y in points]
    taken = [_square(spot, _POINT_MARGIN * scale) for spot in spots]
    taken += _along([_pixels(axes, *place) for place in line], _LINE_MARGIN * scale)
    placed: dict[int, Box] = {}
    for i in sorted(range(len(points)), key=lambda i: (_room(spots, i), i)):
        size = _size(axes, points[i])
        offset = _best(spots[i], (size[0] + 3 * scale, size[1] + 2 * scale), taken, within, scale)
        placed[i] = _around(spots[i], offset, size)
        taken.append(placed[i])
        _write(axes, points[i], (offset[0] / scale, offset[1] / scale), _is_far(spots[i], placed[i], scale))
    return tuple(placed[i] for i in range(len(points)))


def _pixels(axes: Axes, x: float, y: float) -> Pixels:
    across, up = axes.transData.transform((x, y))
    return float(across), float(up)


def _square(middle: Pixels, margin: float) -> Box:
    return middle[0] - margin, middle[1] - margin, middle[0] + margin, middle[1] + margin


def _along(line: Sequence[Pixels], margin: float) -> list[Box]:
    """Small squares that cover a line."""
    squares = []
    for start, end in pairwise(line):
        n = max(1, math.ceil(math.dist(start, end) / (2 * margin)))
        for k in range(n + 1):
            x, y = (start[i] + (end[i] - start[i]) * k / n for i in (0, 1))
            squares.append(_square((x, y), margin))
    return squares


def _size(axes: Axes, point: PlottedPoint) -> Pixels:
    text = axes.annotate(point.name, (point.x, point.y), fontsize=SMALL)
    box = text.get_window_extent()
    text.remove()
    return float(box.width), float(box.height)


def _is_far(spot: Pixels, box: Box, scale: float) -> bool:
    """Whether a name stands so far off that a line must lead to its point."""
    left, lower, right, upper = box
    dx = max(left - spot[0], spot[0] - right, 0)
    dy = max(lower - spot[1], spot[1] - upper, 0)
    return math.hypot(dx, dy) > _LEADER_FROM * scale


def _write(axes: Axes, point: PlottedPoint, offset: Pixels, far: bool) -> None:
    leader = {"arrowstyle": "-", "color": QUIET, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 4}
    axes.annotate(
        point.name,
        (point.x, point.y),
        xytext=offset,
        textcoords="offset points",
        fontsize=SMALL,
        ha="center",
        va="center",
        zorder=5,
        arrowprops=leader if far else None,
    )


def _room(spots: Sequence[Pixels], i: int) -> float:
    """Distance to the nearest other point."""
    others = (math.dist(spots[i], spot) for j, spot in enumerate(spots) if j != i)
    return min(others, default=0.0)


def _best(spot: Pixels, size: Pixels, taken: Sequence[Box], within: Box, scale: float) -> Pixels:
    """The offset of the label's middle that covers least, the nearest of equals."""
    best, cost = (0.0, 0.0), math.inf
    for radius in _RADII:
        for step in range(_N_ANGLES):
            angle = math.pi / 2 + 2 * math.pi * step / _N_ANGLES
            dx = math.cos(angle) * (radius * scale + size[0] / 2)
            dy = math.sin(angle) * (radius * scale + size[1] / 2)
            covered = _covered(_around(spot, (dx, dy), size), taken, within)
            if covered < cost:
                best, cost = (dx, dy), covered
        if cost == 0:
            break
    return best


def _around(spot: Pixels, offset: Pixels, size: Pixels) -> Box:
    x, y = spot[0] + offset[0] - size[0] / 2, spot[1] + offset[1] - size[1] / 2
    return x, y, x + size[0], y + size[1]


def _covered(box: Box, taken: Sequence[Box], within: Box) -> float:
    """Area covered of others, and area outside the axes."""
    outside = (box[2] - box[0]) * (box[3] - box[1]) - _shared(box, within)
    return outside + sum(_shared(box, other) for other in taken)


def _shared(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0
