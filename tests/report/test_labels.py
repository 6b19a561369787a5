"""Names beside points cover neither each other nor points nor the edge."""

from __future__ import annotations

import math
import random

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from lwq.report.labels import (
    Box,
    PlottedPoint,
    _along,
    _around,
    _best,
    _covered,
    _is_far,
    _room,
    _shared,
    _square,
    place_labels,
)


def overlap(a: Box, b: Box) -> float:
    both = Bbox.intersection(Bbox.from_extents(*a), Bbox.from_extents(*b))
    return both.width * both.height if both else 0.0


def area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


@pytest.mark.parametrize(("n", "seed"), [(2, 0), (8, 1), (14, 2), (14, 3), (22, 4), (30, 5)])
def test_names_cover_neither_each_other_nor_a_point_nor_the_edge(n: int, seed: int) -> None:
    chance = random.Random(seed)
    points = [
        PlottedPoint(f"Q{i % 8}_K_M-{i}", 90 + 60 * chance.random(), 10 ** (-3 * chance.random())) for i in range(n)
    ]
    figure = Figure(figsize=(7, 5), dpi=200, layout="constrained")
    axes = figure.add_subplot()
    axes.set_yscale("log")
    axes.set_ylim(3e-4, 3)
    axes.plot([p.x for p in points], [p.y for p in points], "o")
    axes.margins(x=0.13)
    boxes = place_labels(axes, points, [(p.x, p.y) for p in sorted(points)[:2]])
    assert len(boxes) == n
    figure.draw_without_rendering()
    written = {text.get_text(): Text.get_window_extent(text).extents for text in axes.texts}  # without its line
    for i, box in enumerate(boxes):
        assert written[points[i].name] == pytest.approx(box, abs=1)  # a name stands where its box says, to a pixel
        assert overlap(box, axes.bbox.extents) > 0.99 * area(box)
        assert all(overlap(box, other) == 0 for other in boxes[:i])
        for point in points:
            x, y = axes.transData.transform((point.x, point.y))
            assert not (box[0] <= x <= box[2] and box[1] <= y <= box[3])


def test_name_of_a_point_at_the_edge_stays_inside() -> None:
    figure = Figure(figsize=(7, 5), dpi=200, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    corners = [PlottedPoint("a-rather-long-name", x, y) for x in (0, 1) for y in (0, 1)]
    for box in place_labels(axes, corners, []):
        assert overlap(box, axes.bbox.extents) > 0.99 * area(box)


# its parts, in pixels


def test_boxes_lie_around_their_middle() -> None:
    assert _square((10, 20), 3) == (7, 17, 13, 23)
    assert _around((10, 20), (5, -5), (4, 6)) == (13, 12, 17, 18)


def test_areas_are_shared_and_what_is_outside_counts() -> None:
    a = (0.0, 0.0, 10.0, 4.0)
    assert _shared(a, (6.0, 1.0, 20.0, 3.0)) == _shared((6.0, 1.0, 20.0, 3.0), a) == 8
    assert [_shared(a, b) for b in ((10.0, 0.0, 12.0, 4.0), (0.0, 4.0, 10.0, 9.0), (11.0, 5.0, 12.0, 9.0))] == [0, 0, 0]
    assert _covered(a, [(0.0, 0.0, 2.0, 2.0), (9.0, 3.0, 99.0, 99.0)], (0.0, 0.0, 8.0, 99.0)) == 8 + 4 + 1


def test_a_line_is_covered_without_gaps_from_end_to_end() -> None:
    squares = _along([(0.0, 0.0), (10.0, 0.0), (10.0, 0.0)], 1.0)
    middles = [((b[0] + b[2]) / 2, (b[1] + b[3]) / 2) for b in squares]
    assert middles == [*[(2.0 * k, 0.0) for k in range(6)], (10, 0), (10, 0)]
    assert all(b[2] - b[0] == b[3] - b[1] == 2 for b in squares)
    assert len(_along([(0.0, 0.0), (3.0, 4.0)], 1.0)) == 4  # a length of five in three steps of at most two
    assert _along([(0.0, 0.0)], 1.0) == []


def test_room_is_the_distance_to_the_nearest_other_point() -> None:
    spots = [(0.0, 0.0), (3.0, 4.0), (0.0, 6.0)]
    assert [_room(spots, i) for i in range(3)] == [5, pytest.approx(13**0.5), pytest.approx(13**0.5)]
    assert _room(spots[:1], 0) == 0


@pytest.mark.parametrize(
    ("spot", "far"),
    [((0.0, 5.0), False), ((-20.0, 5.0), False), ((-20.1, 5.0), True), ((30.0, 5.0), False), ((30.1, 5.0), True),
     ((5.0, -20.1), True), ((5.0, -20.0), False), ((5.0, 30.1), True), ((5.0, 30.0), False), ((-15.0, -15.0), True),
     ((-14.0, -14.0), False)],
)  # fmt: skip
def test_a_name_is_far_from_twenty_points_on(spot: tuple[float, float], far: bool) -> None:
    assert _is_far(spot, (0.0, 0.0, 10.0, 10.0), 1.0) is far
    twice = (2 * spot[0], 2 * spot[1])
    assert _is_far(twice, (0.0, 0.0, 20.0, 20.0), 2.0) is far


def test_the_nearest_free_place_is_taken_beginning_above() -> None:
    everywhere, size = (-1e3, -1e3, 1e3, 1e3), (40.0, 10.0)
    assert _best((0, 0), size, [], everywhere, 1.0) == pytest.approx((0, 9 + 5), abs=1e-9)
    assert _best((0, 0), size, [], everywhere, 2.0) == pytest.approx((0, 18 + 5), abs=1e-9)
    above = (-1e3, 1.0, 1e3, 1e3)
    dx, dy = _best((0, 0), size, [above], everywhere, 1.0)
    box = _around((0, 0), (dx, dy), size)
    assert _covered(box, [above], everywhere) == 0
    assert dx == pytest.approx(math.cos(math.pi / 2 + 5 * math.pi / 8) * (9 + 20))
    assert dy == pytest.approx(math.sin(math.pi / 2 + 5 * math.pi / 8) * (9 + 5))


def test_where_nothing_is_free_the_least_is_covered() -> None:
    everywhere, size = (-1e3, -1e3, 1e3, 1e3), (10.0, 10.0)
    all_over, also_below = (-1e3, -1e3, 1e3, 1e3), (-1e3, -1e3, 1e3, 0.0)
    dx, dy = _best((0, 0), size, [all_over, also_below], everywhere, 1.0)
    assert _covered(_around((0, 0), (dx, dy), size), [all_over, also_below], everywhere) == pytest.approx(100)
    assert dy >= 5


def test_a_name_that_had_to_move_away_is_led_to_its_point_by_a_line() -> None:
    figure = Figure(figsize=(7, 5), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    crowd = [PlottedPoint(f"a-long-name-of-point-{i}", 0.5 + 0.001 * i, 0.5) for i in range(12)]
    place_labels(axes, [*crowd, PlottedPoint("alone", 0.1, 0.9)], [])
    told = {text.get_text(): text.arrow_patch is not None for text in axes.texts}  # type: ignore[attr-defined]
    assert list(told).count("alone") == 1
    assert len(told) == 13
    assert not told["alone"]
    assert 0 < sum(told.values()) < 12
