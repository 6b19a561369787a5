"""What a candidate is can be told from its record, whatever a user calls his targets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwq.gguf.types import FTYPES
from lwq.metrics.values import Estimate
from lwq.recipe.target import NAME
from lwq.record.search import Pace, SearchCandidate, budget_and_pace, nothing_fits, pruned_name, stock_name
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
    assert (pruned_name((4,)), pruned_name((3, 17))) == ("without layer 4", "without layers 3, 17")


def test_a_pace_limits_a_budget_only_where_something_was_timed() -> None:
    untimed = Pace(wanted=5.0, layers=(), n_bytes=None, tried=())
    slow = Pace(wanted=5.0, layers=(), n_bytes=None, tried=((90, per_second(4.0, 0.25)),))
    assert (untimed.limit(100), untimed.is_too_slow) == (100, False)
    assert (slow.limit(100), slow.is_too_slow) == (0, True)
    told = "no size makes the 5 tokens per second asked for: the fastest of 1 makes 4.00 ±0.25, which less 1.64 errors"
    assert str(slow).startswith(told)


def test_a_speed_without_an_error_is_told_without_one() -> None:
    alone = Estimate(value=4.0, stderr=None, unit="tokens per second")
    told = "the fastest of 1 makes 4.00, which less 1.64 errors has to reach that"
    assert str(Pace(wanted=5.0, layers=(), n_bytes=None, tried=((90, alone),))).endswith(told)


def test_a_budget_that_nothing_fits_says_why_and_chooses_nothing() -> None:
    pace = Pace(wanted=5.0, layers=(), n_bytes=None, tried=())
    found = nothing_fits("1 GiB", 1 << 30, "too slow", (pace,))
    assert (found.budget, found.budget_bytes, found.chosen, found.paces) == ("1 GiB", 1 << 30, "", (pace,))
    assert found.reason == "With all layers there is no such file: too slow."
    assert (found.candidates, found.stock_difference, found.n_probes, found.n_swaps) == ((), None, 0, 0)
    assert (found.scale, found.exponent, found.ships_stock) == (1.0, 1.0, False)
    assert budget_and_pace("1 GiB", (pace, pace)) == "1 GiB, at least 5 tokens per second"
    assert budget_and_pace("1 GiB", ()) == "1 GiB"


def test_a_search_ships_stock_where_the_chosen_candidate_is_the_stock_mix() -> None:
    empty = nothing_fits("b", 1, "", ())
    both = (candidate("stock Q4_K_M"), candidate("hand"))
    chosen = [
        replace(empty, candidates=both, chosen=name).ships_stock for name in ("stock Q4_K_M", "hand", "stock Q3_K_M")
    ]
    assert chosen == [True, False, False]
