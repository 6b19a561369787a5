"""What a candidate is can be told from its record, whatever a user calls his targets."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwq.gguf.types import FTYPES
from lwq.metrics.values import Estimate
from lwq.recipe.target import NAME
from lwq.record.search import SearchCandidate, pruned_name, stock_name


def candidate(name: str, **changes: Any) -> SearchCandidate:
    kld = Estimate(value=0.1, stderr=0.01, unit="nats")
    facts = {"n_bytes": 1, "predicted_kld": 0.1, "kld": kld, "n_windows": 2, "verdict": "chosen", **changes}
    return SearchCandidate(name=name, **facts)


@given(st.from_regex(NAME, fullmatch=True))
def test_a_target_is_a_hand_written_mix_whatever_its_name(name: str) -> None:
    assert candidate(name).kind == "hand"


@pytest.mark.parametrize("name", ["stock", "stock-x", "stock.Q4_K_M", "without", "without-layer", "allocation"])
def test_names_that_look_like_others_are_hand_written_mixes(name: str) -> None:
    assert NAME.fullmatch(name)
    assert candidate(name).kind == "hand"


@pytest.mark.parametrize("ftype", sorted(FTYPES))
def test_stock_mixes_are_told(ftype: str) -> None:
    assert candidate(stock_name(ftype)).kind == "stock"


def test_what_was_computed_and_what_lacks_layers_is_told() -> None:
    assert candidate("allocation, exponent 0.9, 2 swaps").kind == "allocated"
    assert candidate("allocation that was timed").kind == "allocated"
    assert [candidate(pruned_name(layers)).kind for layers in ((4,), (3, 17))] == ["pruned", "pruned"]
    assert pruned_name((3, 17)) == "without layers 3, 17"
