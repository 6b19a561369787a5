"""What the figures show is said in words, and no more than they show."""

from __future__ import annotations

from dataclasses import replace

from lwq.metrics.values import Estimate
from lwq.report.figures import figure_texts, floor_in_view, front, frontier_line, on_frontier
from lwq.report.plots import drawings
from tests.documents import whole
from tests.report.test_search_section import felt
from tests.sample_record import sample_record
from tests.sample_search import sensitivity


def test_floor_is_a_line_only_where_it_is_in_view() -> None:
    record = sample_record(searched=False)
    assert not floor_in_view(record)
    high = replace(record, floor=Estimate(value=0.0005, stderr=0.00001))
    assert floor_in_view(high)
    caption = figure_texts(high)[0].caption
    assert "dashed line is the floor" in caption
    assert "0.0005" not in caption
    assert drawings(high)["kld_against_size"].html != drawings(record)["kld_against_size"].html


def test_front_leaves_out_the_file_that_the_base_was_made_from() -> None:
    assert [row.name for row in front(sample_record())] == ["IQ4_XS", "Q4_K_M-lwq", "Q4_K_M-by-hand", "Q8_0"]


def test_frontier_says_what_is_predicted_and_what_is_measured_on_which_text() -> None:
    caption = next(f.caption for f in figure_texts(sample_record()) if f.name == "frontier")
    assert "Predicted is on the text of the probes (`calibration.txt`)" in caption
    assert "measured on the evaluation text (`evaluation.txt`)" in caption
    assert {r.origin for r in on_frontier(sample_record())} == {"ours"}


def test_frontier_ends_where_no_file_is_near_and_says_so() -> None:
    point = sensitivity().frontier[0]
    far = tuple(
        replace(point, predicted_kld=kld, n_bytes=n) for n, kld in ((1, 90.0), (10**10, 1e-9), (2 * 10**10, 0.0))
    )
    record = felt(lambda s: replace(s, frontier=s.frontier + far))
    assert frontier_line(record) == frontier_line(sample_record()) == sensitivity().frontier
    captions = [next(f.caption for f in figure_texts(r) if f.name == "frontier") for r in (record, sample_record())]
    assert ["The line ends where no file is near." in caption for caption in captions] == [True, False]


def test_figure_of_layers_names_the_cheapest_and_where_scores_mislead() -> None:
    text = next(f for f in figure_texts(sample_record()) if f.name == "layers")
    assert text.alt.endswith("cheapest: layer 20, 0.164 ±0.004; layer 5, 0.213 ±0.005; layer 10, 0.214 ±0.005.")
    assert "Block Influence would remove layer 22 first, by measurement place 15 of 28." in text.caption
    assert "(figures/layers.png)" in whole(sample_record()).split("## Layers\n")[1].split("\n## ")[0]
