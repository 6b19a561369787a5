"""The plot of layers: what removing each costs, and where scores of the literature mislead."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest

from lwq.metrics.values import Estimate
from lwq.report import prune_plots
from lwq.report.card import card_body
from lwq.report.figures import figure_texts
from lwq.report.layer_ranks import first_choices, indices, rankings, removable
from lwq.report.plots import figure_files
from lwq.report.prune_plots import draw_layer_scores
from tests.sample_pruning import pruning
from tests.sample_record import sample_record


def test_ranks_go_by_measured_kld_low_influence_and_high_likeness() -> None:
    free = removable(pruning().layers, (0, 29))
    measured, influence, likeness = rankings(free).values()
    assert measured[20] == influence[22] == likeness[17] == 1
    assert sorted(measured.values()) == list(range(1, 29))
    assert 0 not in rankings(pruning().layers)["CosSim"]
    assert [(c.score, c.layer, c.place) for c in first_choices(free)] == [
        ("Block Influence", 22, 15),
        ("CosSim", 17, 12),
    ]


def test_indices_are_low_where_a_layer_is_held_for_redundant_and_drawn_beneath_the_measurement() -> None:
    influence, unlikeness = indices(pruning().layers).values()
    assert influence[20] == pruning().layers[20].block_influence
    assert unlikeness[20] == 1 - (pruning().layers[20].cossim or 0)
    assert 0 not in unlikeness
    with_costs, with_indices, _ = prune_plots.layer_scores(pruning().layers, (0, 29)).axes
    assert {axes.get_yscale() for axes in (with_costs, with_indices)} == {"log"}
    assert [list(line.get_ydata()) for line in with_indices.lines] == [
        list(influence.values()),
        list(unlikeness.values()),
    ]
    caption = next(f for f in figure_texts(sample_record()) if f.name == "layers").caption
    assert "Middle, logarithmic: Block Influence and 1 − CosSim" in caption


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
    files = figure_files(sample_record())
    assert files["layers.png"].startswith(b"\x89PNG")
    for kind in ("svg", "png"):
        for name in ("one", "two"):
            draw_layer_scores(pruning().layers, tmp_path / f"{name}.{kind}", barred=(0, 29))
        assert (tmp_path / f"one.{kind}").read_bytes() == (tmp_path / f"two.{kind}").read_bytes()
        assert (tmp_path / f"one.{kind}").read_bytes() == files[f"layers.{kind}"]
    ElementTree.fromstring(files["layers.svg"])


def test_figure_of_layers_names_the_cheapest_and_where_scores_mislead() -> None:
    text = next(f for f in figure_texts(sample_record()) if f.name == "layers")
    assert text.alt.endswith("cheapest: layer 20, 0.164060; layer 5, 0.212816; layer 10, 0.213594.")
    assert "Block Influence would remove layer 22 first, by measurement place 15 of 28." in text.caption
    assert "(figures/layers.png)" in card_body(sample_record()).split("## Layers\n")[1].split("\n## ")[0]


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
