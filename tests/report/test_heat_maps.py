"""Heat maps have a place for each tensor, and tell what is missing."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from lwq.report import heat_maps
from lwq.report.figures import figure_texts
from tests.report.test_search_section import allocated, drawn, felt, the_row
from tests.sample_record import sample_record


def test_heat_map_with_a_missing_class_is_drawn_and_the_gap_is_told() -> None:
    record = felt(lambda s: replace(s, tensors=tuple(t for t in s.tensors if t.tensor != "blk.4.attn_k.weight")))
    record = allocated(record, tensor_types=tuple(t for t in the_row(record).tensor_types if ".4.attn_k" not in t[0]))
    captions = {f.name: f.caption for f in figure_texts(record)}
    whole = {f.name: f.caption for f in figure_texts(sample_record())}
    for name in ("sensitivity", "allocation_1"):
        assert "Grey: no such tensor in that layer." in captions[name]
        assert "Grey" not in whole[name]
    drawn(heat_maps.sensitivity(record))
    drawn(heat_maps.allocation(record, row=the_row(record)))


@pytest.mark.parametrize("kept", [r"blk\.0\.", r"blk\.0\.attn_k\.|token_embd", "token_embd", r"blk\.29\."])
def test_heat_maps_cope_with_few_tensors(kept: str) -> None:
    record = felt(lambda s: replace(s, tensors=tuple(t for t in s.tensors if re.match(kept, t.tensor))))
    types = tuple(t for t in the_row(record).tensor_types if re.match(kept, t[0]))
    record = allocated(record, tensor_types=types)
    drawn(heat_maps.sensitivity(record))
    drawn(heat_maps.allocation(record, row=the_row(record)))


def test_alpha_of_zero_has_the_colour_of_the_lower_end_and_is_told() -> None:
    zero = felt(lambda s: replace(s, tensors=(replace(s.tensors[0], alpha=0.0), *s.tensors[1:])))
    caption = next(f.caption for f in figure_texts(zero) if f.name == "sensitivity")
    assert "What lies below the range has the colour of its lower end." in caption
    drawn(heat_maps.sensitivity(zero))
    nothing = felt(lambda s: replace(s, tensors=tuple(replace(t, alpha=0.0) for t in s.tensors)))
    drawn(heat_maps.sensitivity(nothing))


def test_heat_map_has_a_column_for_each_layer_and_a_band_for_each_tensor_outside() -> None:
    layers, outside = heat_maps.sensitivity(sample_record()).axes[:2]
    assert [t.get_text() for t in layers.get_yticklabels()] == [
        "attn_k", "attn_output", "attn_q", "attn_v", "ffn_down", "ffn_gate", "ffn_up",
    ]  # fmt: skip
    assert layers.get_xlim() == (-0.5, 29.5)
    assert [t.get_text() for t in outside.get_yticklabels()] == ["token_embd"]


def test_legend_names_the_types_that_occur_with_their_bits_per_weight() -> None:
    record = sample_record()
    (legend,) = heat_maps.allocation(record, row=the_row(record)).legends
    assert [t.get_text() for t in legend.get_texts()] == [
        "iq4_nl, 4.5 bpw", "q5_0, 5.5 bpw", "q5_K, 5.5 bpw", "q5_1, 6 bpw", "q6_K, 6.5625 bpw", "q8_0, 8.5 bpw",
    ]  # fmt: skip


def test_heat_map_that_one_colour_would_fill_is_left_out() -> None:
    record = sample_record()
    names = {"sensitivity", "allocation_1"}
    assert names <= {f.name for f in figure_texts(record)}
    same = felt(lambda s: replace(s, tensors=tuple(replace(t, alpha=0.5) for t in s.tensors)))
    assert names & {f.name for f in figure_texts(same)} == {"allocation_1"}
    types = tuple((name, "q8_0" if name.startswith("token") else "q5_1") for name, _ in the_row(record).tensor_types)
    assert names & {f.name for f in figure_texts(allocated(record, tensor_types=types))} == {"sensitivity"}
