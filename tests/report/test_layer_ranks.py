"""Layers rank by what removing each costs, and by scores of the literature."""

from __future__ import annotations

from dataclasses import replace

from lwq.metrics.values import Estimate
from lwq.report import prune_plots
from lwq.report.figures import figure_texts
from lwq.report.layer_ranks import barred_layers, first_choices, indices, rankings, removable
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


def test_places_go_by_value_then_by_layer_without_what_is_not_finite() -> None:
    layers = pruning().layers[3:8]
    layers = tuple(
        replace(s, kld=Estimate(value=v), block_influence=b, cossim=c)
        for s, v, b, c in zip(
            layers, (0.3, 0.1, 0.1, 0.2, 0.4), (float("nan"), 5.0, 4.0, float("inf"), 6.0), (None,) * 5, strict=True
        )
    )
    assert rankings(layers) == {
        "measured KLD": {4: 1, 5: 2, 6: 3, 3: 4, 7: 5}, "Block Influence": {5: 1, 4: 2, 7: 3}, "CosSim": {},
    }  # fmt: skip
    assert [(c.score, c.layer, c.place) for c in first_choices(layers)] == [("Block Influence", 5, 2)]


def test_layers_that_are_barred_may_not_go() -> None:
    found = pruning()
    assert barred_layers(found) == {layer for layer, _ in found.barred}
    assert [s.layer for s in removable(found.layers[:4], iter((1, 2)))] == [0, 3]
