"""Races drop only who is far behind, and swaps keep the size."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwq.bits.knapsack import Group, Option
from lwq.bits.race import KEPT, LOST, Runner, difference, leads, proposals, race, rounds_of
from lwq.metrics.divergence import Scores
from lwq.metrics.values import Estimate

MODEST = settings(max_examples=60, deadline=None)


def scores(kld: Any) -> Scores:
    return Scores(kld=np.array(kld, np.float64), nll=np.zeros(np.shape(kld)))


def group(name: str, *ways: tuple[str, int, float]) -> Group:
    return Group(name=name, members=(name,), options=tuple(Option(label=q, n_bytes=b, damage=d) for q, b, d in ways))


def test_a_difference_is_paired() -> None:
    # windows differ by far more than the mixes do: pieces of a − b are 1, 1, 1, 1, 2, 2, 2, 2
    a, b = scores([[11, 21, 31, 41], [902, 802, 702, 602]]), scores([[10, 20, 30, 40], [900, 800, 700, 600]])
    found = difference(a, b)
    # mean 1.5; Σ (x − 1.5)² = 2; stderr² = 2 / 7 / 8
    assert found.value == pytest.approx(1.5)
    assert found.stderr == pytest.approx((2 / 7 / 8) ** 0.5)
    assert found.unit == "nats"


def test_a_difference_uses_the_windows_that_both_have() -> None:
    a, b = scores([[1, 1, 1, 1], [50, 50, 50, 50]]), scores([[3, 3, 3, 3]])
    assert difference(a, b).value == -2
    assert difference(b, a).value == 2


def test_a_single_piece_never_leads() -> None:
    found = difference(scores([[1.0]]), scores([[9.0]]))
    assert found == Estimate(value=-8.0, stderr=None, unit="nats")
    assert not leads(found, 0.0)


def test_to_lead_is_to_be_below_zero_by_so_many_errors() -> None:
    assert leads(Estimate(value=-2.0, stderr=1.0), KEPT)
    assert not leads(Estimate(value=-2.0, stderr=1.0), LOST)
    assert not leads(Estimate(value=2.0, stderr=0.1), KEPT)
    assert not leads(Estimate(value=0.0, stderr=0.0), KEPT)


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (0, []),
        (1, [(0, 1)]),
        (2, [(0, 2)]),
        (3, [(0, 2), (2, 3)]),
        (4, [(0, 2), (2, 4)]),
        (9, [(0, 2), (2, 4), (4, 9)]),
    ],
)
def test_rounds_grow_and_hold_every_window_once(n: int, expected: list[tuple[int, int]]) -> None:
    assert [(r.start, r.stop) for r in rounds_of(n)] == expected


class Course:
    """A mixer and an engine whose scores are known: KLD of window w by mix."""

    def __init__(self, kld: dict[str, Sequence[float]]) -> None:
        self.kld, self.scored, self.mix = kld, dict.fromkeys(kld, 0), ""
        self.engine = SimpleNamespace(score=self.score)

    def put(self, types: dict[str, str], unweighted: frozenset[str], rounding: str | None) -> None:
        self.mix = types["t"]

    def score(self, windows: Sequence[int]) -> Scores:
        self.scored[self.mix] += len(windows)
        wave = np.array([0.0, 0.1, 0.2, 0.1])  # quarters of a window, the same for all mixes
        return scores([self.kld[self.mix][w] + wave for w in windows])


def run_race(kld: dict[str, Sequence[float]], **must_finish: bool) -> tuple[dict[str, Runner], Course]:
    course = Course(kld)
    runners = [Runner(name=n, types={"t": n}, must_finish=must_finish.get(n, False)) for n in kld]
    told: list[int] = []
    race(course, runners, rounds_of(6), lambda: told.append(1))
    assert len(told) == sum({0: 0, 2: 1, 4: 2, 6: 3}[n] for n in course.scored.values())
    return {r.name: r for r in runners}, course


def test_a_race_drops_who_is_far_behind_and_no_other() -> None:
    level = [1.0, 1.2, 0.9, 1.1, 1.0, 1.0]
    runners, course = run_race(
        {
            "best": level,
            "near": [x + d for x, d in zip(level, (0.5, -0.4, 0.5, -0.4, 0.5, -0.4), strict=True)],
            "far": [x + 2 for x in level],
        }
    )
    assert {n: r.dropped for n, r in runners.items()} == {"best": "", "near": "", "far": "behind best after 2 windows"}
    assert course.scored == {"best": 6, "near": 6, "far": 2}
    assert runners["best"].scores is not None
    assert runners["best"].scores.kld[:, 0].tolist() == level
    assert runners["near"].kld == pytest.approx(sum(level) / 6 + 0.05 + 0.1)  # the wave's mean is 0.1


def test_the_stock_mix_finishes_however_far_behind() -> None:
    runners, course = run_race({"best": [1.0] * 6, "stock": [9.0] * 6}, stock=True)
    assert runners["stock"].dropped == ""
    assert course.scored["stock"] == 6


def test_a_mix_that_cannot_be_chosen_drops_nobody() -> None:
    course = Course({"large": [0.1] * 6, "small": [1.0] * 6, "far": [3.0] * 6})
    runners = [Runner(name=n, types={"t": n}, obstacle="too large" if n == "large" else "") for n in course.kld]
    race(course, runners, rounds_of(6), lambda: None)
    assert [r.dropped for r in runners] == ["", "", "behind small after 2 windows"]


def test_a_swap_that_saves_more_than_it_costs_comes_first() -> None:
    a = group("a", ("q4", 4, 8.0), ("q5", 5, 1.0))
    b = group("b", ("q4", 4, 0.5), ("q5", 5, 0.25))
    c = group("c", ("q4", 4, 0.6), ("q5", 5, 0.2))
    (swap,) = proposals({"a": "q4", "b": "q5", "c": "q5"}, [c, b, a], 0, 9)
    # a up saves 7; b down costs .25, c down .4: (−7 + .25) / 8.25 is less than (−7 + .4) / 8.2
    assert (swap.up, swap.down) == (("a", "q5"), ("b", "q4"))
    assert (swap.predicted, swap.at_stake) == (-6.75, 8.25)


def test_a_step_up_needs_less_damage_and_bytes_that_are_there() -> None:
    worse = group("a", ("q4", 4, 1.0), ("q5", 5, 2.0))
    down = group("b", ("q4", 4, 0.5), ("q5", 5, 0.25))
    assert proposals({"a": "q4", "b": "q5"}, [worse, down], 9, 9) == []
    large = group("a", ("q4", 4, 2.0), ("q6", 8, 1.0))
    assert proposals({"a": "q4", "b": "q5"}, [large, down], 2, 9) == []  # 4 more, 1 less
    assert len(proposals({"a": "q4", "b": "q5"}, [large, down], 3, 9)) == 1


WAYS = st.lists(st.tuples(st.integers(1, 30), st.floats(0, 10)), min_size=1, max_size=4)


@MODEST
@given(ways=st.lists(WAYS, min_size=2, max_size=7), spare=st.integers(0, 10), n=st.integers(0, 4), data=st.data())
def test_swaps_fit_share_no_group_and_do_not_depend_on_order(ways, spare: int, n: int, data: st.DataObject) -> None:
    groups = [group(f"g{i}", *((f"o{j}", b, d) for j, (b, d) in enumerate(w))) for i, w in enumerate(ways)]
    options = {(g.name, o.label): o for g in groups for o in g.options}
    chosen = {g.name: data.draw(st.sampled_from([o.label for o in g.options])) for g in groups}
    found = proposals(chosen, groups, spare, n)
    assert len(found) <= n
    touched = [name for swap in found for name in (swap.up[0], swap.down[0])]
    assert len(touched) == len(set(touched))
    for swap in found:
        up, down = options[swap.up], options[swap.down]
        high, low = options[swap.up[0], chosen[swap.up[0]]], options[swap.down[0], chosen[swap.down[0]]]
        assert up.n_bytes > high.n_bytes
        assert up.damage < high.damage
        assert down.n_bytes < low.n_bytes
        assert up.n_bytes + down.n_bytes - high.n_bytes - low.n_bytes <= spare
        assert swap.predicted == pytest.approx(up.damage + down.damage - high.damage - low.damage)
    assert proposals(chosen, data.draw(st.permutations(groups)), spare, n) == found
