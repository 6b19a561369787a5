"""The plot of layers: readable axes, any number of layers, the same bytes each time."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest

from lwq.metrics.values import Estimate
from lwq.report import prune_plots
from lwq.report.figures import figure_texts
from lwq.report.plots import drawings
from lwq.report.prune_plots import draw_layer_scores
from tests.sample_pruning import pruning
from tests.sample_record import sample_record


def test_logarithmic_axes_have_figures_at_four_places_or_more() -> None:
    figure = prune_plots.layer_scores(pruning().layers, (0, 29))
    figure.canvas.draw()
    for axes in figure.axes[:2]:
        low, high = axes.get_ylim()
        shown = [
            label.get_text()
            for at, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
            if low <= at <= high
        ]
        assert len([text for text in shown if text]) >= 4


def test_plot_of_layers_is_written_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    drawn = drawings(sample_record())["layers"].png
    assert drawn.startswith(b"\x89PNG")
    for kind in ("svg", "png"):
        for name in ("one", "two"):
            draw_layer_scores(pruning().layers, tmp_path / f"{name}.{kind}", barred=(0, 29))
        assert (tmp_path / f"one.{kind}").read_bytes() == (tmp_path / f"two.{kind}").read_bytes()
    assert (tmp_path / "one.png").read_bytes() == drawn
    ElementTree.fromstring((tmp_path / "one.svg").read_bytes())


@pytest.mark.parametrize("kept", [slice(0, 1), slice(0, 2), slice(5, 6), slice(3, 9)])
def test_plot_copes_with_few_layers_costless_ones_and_none_that_may_go(kept: slice) -> None:
    layers = pruning().layers[kept]
    free = tuple(replace(s, kld=Estimate(value=0.0), cossim=None) for s in layers)
    for found in (layers, free, (*layers[:-1], *free[-1:])):
        for barred in ((), (0, 29), tuple(range(30))):
            prune_plots.layer_scores(found, barred).canvas.draw()
            facts = replace(pruning(), layers=found, barred=tuple((layer, "barred") for layer in barred))
            record = replace(sample_record(), pruning=facts)
            assert "layers" in {f.name for f in figure_texts(record)}
