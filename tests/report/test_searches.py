"""Figures of sensitivity and allocation show what has a place in their range, and count what has none."""

from __future__ import annotations

from dataclasses import replace

from lwq.metrics.values import Estimate
from lwq.report import damage_plots
from lwq.report.figures import figure_texts
from lwq.report.searches import alpha_range, compared_candidates, has_gaps
from tests.report.test_search_section import drawn, searched
from tests.sample_pruning import weighed
from tests.sample_record import sample_record
from tests.sample_search import search, sensitivity


def test_range_of_alpha_spans_four_decades_at_most_and_never_nothing() -> None:
    first, second, *_ = sensitivity().tensors
    pair = (replace(first, alpha=1e-9), replace(second, alpha=2.0))
    assert alpha_range(pair) == (2e-4, 2.0)
    assert alpha_range(pair[1:]) == (1.0, 4.0)


def test_gap_is_a_class_that_one_layer_has_and_another_lacks() -> None:
    assert not has_gaps([("a", 0), ("a", 1), ("output", None)])
    assert has_gaps([("a", 0), ("a", 1), ("b", 1)])
    assert not has_gaps([("output", None)])


def test_candidates_without_a_place_on_a_logarithm_are_left_out_and_counted() -> None:
    assert len(compared_candidates(sample_record(pruned=False))) == 4
    assert len(compared_candidates(sample_record())) == 9
    assert [c.is_chosen for c in compared_candidates(sample_record(pruned=False))] == [False, False, False, True]
    stock, *others = weighed(search()).candidates
    flat = tuple(replace(c, kld=Estimate(value=0.0)) if c.kld and c.kind != "pruned" else c for c in others)
    record = searched(candidates=(stock, *flat))
    assert len(compared_candidates(record)) == 6
    caption = next(f.caption for f in figure_texts(record) if f.name == "predicted_against_measured")
    assert "3 at or below zero are not drawn." in caption
    drawn(damage_plots.predicted_against_measured(record))


def test_predictions_are_drawn_only_where_five_candidates_were_not_fitted_on() -> None:
    name = "predicted_against_measured"
    candidates = weighed(search()).candidates
    assert [c.was_fitted for c in compared_candidates(searched(candidates=candidates))].count(False) == 5
    assert name in {f.name for f in figure_texts(searched(candidates=candidates))}
    for fewer in (candidates[:-1], search().candidates):
        assert name not in {f.name for f in figure_texts(searched(candidates=fewer))}
