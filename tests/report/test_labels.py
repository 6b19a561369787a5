"""Names beside points cover neither each other nor points nor the edge."""

from __future__ import annotations

import random

import pytest
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from lwq.report.labels import Box, PlottedPoint, place_labels


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
    for i, box in enumerate(boxes):
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
