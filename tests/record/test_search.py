"""What a candidate is can be told from its record, whatever a user calls his targets."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwq.gguf.types import FTYPES
from lwq.metrics.values import Estimate
from lwq.recipe.target import NAME
from lwq.record.search import Pace, SearchCandidate, pruned_name, stock_name
from tests.metrics.test_speeds import per_second


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


def test_a_pace_limits_a_budget_only_where_something_was_timed() -> None:
    untimed = Pace(wanted=5.0, layers=(), n_bytes=None, tried=())
    slow = Pace(wanted=5.0, layers=(), n_bytes=None, tried=((90, per_second(4.0, 0.25)),))
    assert (untimed.limit(100), untimed.is_too_slow) == (100, False)
    assert (slow.limit(100), slow.is_too_slow) == (0, True)
    told = "no size makes the 5 tokens per second asked for: the fastest of 1 makes 4.00 ±0.25, which less 1.64 errors"
    assert str(slow).startswith(told)
