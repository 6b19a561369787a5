"""Allocations are within the budget and as good as the best of all that there are."""

from __future__ import annotations

import ctypes
import itertools
import os
import random
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwq.bits.knapsack import (
    BudgetError,
    Group,
    Option,
    _beyond,
    _cover,
    _greedy,
    _option_table,
    _OptionTable,
    _price,
    _silent,
    _solved,
    solve,
    undominated,
)
from lwq.gguf.types import tensor_bytes, type_bpw
from lwq.recipe.constraints import TYPE_SETS

MODEST = settings(max_examples=60, deadline=None)
TOLERANCE = 1e-6  # relative; the solver stops within 1e-7 of the best
SIZES = st.one_of(st.integers(0, 12), st.integers(10**9, 10**9 + 10), st.integers(0, 10**10))
DAMAGES = st.one_of(st.integers(0, 4).map(float), st.floats(1e-7, 10.0))


@st.composite
def problems(draw: st.DrawFn) -> list[Group]:
    """3–6 groups of 1–4 options."""
    groups = []
    for i in range(draw(st.integers(3, 6))):
        drawn = draw(st.lists(st.tuples(SIZES, DAMAGES), min_size=1, max_size=4))
        options = tuple(Option(label=f"o{j}", n_bytes=b, damage=d) for j, (b, d) in enumerate(drawn))
        groups.append(Group(name=f"g{i}", members=(f"g{i}",), options=options))
    return groups


def totals(groups: Sequence[Group], chosen: Mapping[str, str]) -> tuple[int, float]:
    """(bytes, damage) of a choice, added up from the options by hand."""
    assert set(chosen) == {g.name for g in groups}
    options = [next(o for o in g.options if o.label == chosen[g.name]) for g in groups]
    return sum(o.n_bytes for o in options), sum(o.damage for o in options)


def best_of_all(groups: Sequence[Group], budget: int) -> float | None:
    """Least damage among all allocations within the budget, tried one by one; None where there is none."""
    every = itertools.product(*(g.options for g in groups))
    found = (sum(o.damage for o in options) for options in every if sum(o.n_bytes for o in options) <= budget)
    return min(found, default=None)


def some_budget(data: st.DataObject, groups: Sequence[Group]) -> int:
    """Exactly the bytes of some choice, or one less: where rounding would show."""
    picked = [data.draw(st.sampled_from(g.options)) for g in groups]
    return sum(o.n_bytes for o in picked) - data.draw(st.integers(0, 1))


@MODEST
@given(groups=problems(), data=st.data())
def test_an_allocation_fits_and_equals_the_best_by_brute_force(groups: list[Group], data: st.DataObject) -> None:
    budget = some_budget(data, groups)
    best = best_of_all(groups, budget)
    if best is None:
        with pytest.raises(BudgetError, match=f"the budget is {budget:,} bytes"):
            solve(groups, budget)
        return
    n_bytes, damage = totals(groups, solve(groups, budget))
    assert n_bytes <= budget
    assert damage == pytest.approx(best, rel=TOLERANCE, abs=1e-12)


@MODEST
@given(groups=problems(), data=st.data())
def test_more_budget_is_never_worse(groups: list[Group], data: st.DataObject) -> None:
    least = sum(min(o.n_bytes for o in g.options) for g in groups)
    less, more = sorted(least + data.draw(st.integers(0, 10**10)) for _ in range(2))
    small, large = (totals(groups, solve(groups, budget))[1] for budget in (less, more))
    assert large <= small * (1 + TOLERANCE) + 1e-12


@MODEST
@given(groups=problems(), data=st.data())
def test_the_order_of_groups_and_options_is_irrelevant(groups: list[Group], data: st.DataObject) -> None:
    budget = max(some_budget(data, groups), sum(min(o.n_bytes for o in g.options) for g in groups))
    shuffled = [
        Group(name=g.name, members=g.members, options=tuple(data.draw(st.permutations(g.options))), layer=g.layer)
        for g in data.draw(st.permutations(groups))
    ]
    assert solve(shuffled, budget) == solve(groups, budget)


def test_damages_far_below_the_worst_are_still_told_apart() -> None:
    # 1e-9 less is 1e-13 of the worst option's damage: a gap relative to that one would not see it
    options = [Option(label="a", n_bytes=1, damage=1e4), Option(label="b", n_bytes=2, damage=3e-9)]
    groups = [
        Group(name=f"g{i}", members=(), options=(*options, Option(label="c", n_bytes=size, damage=1e-9)))
        for i, size in enumerate((5, 4, 3))
    ]
    # of 9 bytes, 6 hold b everywhere; the 3 left take c for g1 and g2 (2 + 1 more), or for g0 alone (3 more)
    assert solve(groups, 9) == {"g0": "b", "g1": "c", "g2": "c"}


def test_a_budget_one_byte_short_of_gigabytes_is_kept() -> None:
    sizes = (10**9, 3 * 10**9)
    groups = [
        Group(
            name=f"g{i}",
            members=(),
            options=tuple(Option(label=f"o{j}", n_bytes=b + i, damage=2.0 - j - i / 8) for j, b in enumerate(sizes)),
        )
        for i in range(3)
    ]
    # all large: 9e9 + 3 bytes; g2 saves least (1), as every group does: any one may stay small
    chosen = solve(groups, 9 * 10**9 + 2)
    assert sorted(chosen.values()) == ["o0", "o1", "o1"]
    assert set(solve(groups, 9 * 10**9 + 3).values()) == {"o1"}


def test_best_choice_is_found_beside_one_that_a_gigabyte_hides_as_fitting() -> None:
    gigabyte = 10**9
    ways = {
        "a": (1, 1.0),
        "b": (gigabyte + 1, 2.0),
        "c": (1, 1.0),
        "d": (gigabyte + 2, 3.0),
    }  # bytes, and what they save
    groups = [
        Group(
            name=n, members=(), options=(Option(label="s", n_bytes=0, damage=d), Option(label="l", n_bytes=b, damage=0))
        )
        for n, (b, d) in ways.items()
    ]
    # room for gigabyte + 2: d alone saves 3, b with a or with c as much; d with a and c would save 5, 2 bytes too large
    chosen = solve(groups, gigabyte + 2)
    n_bytes, damage = totals(groups, chosen)
    assert n_bytes <= gigabyte + 2
    assert damage == 4.0


def test_too_small_a_budget_says_what_is_needed() -> None:
    groups = [Group(name="g", members=(), options=(Option(label="o", n_bytes=1234, damage=0.0),))]
    with pytest.raises(
        BudgetError, match="1,000 bytes of tensors, but the smallest allowed types take 1,234"
    ) as caught:
        solve(groups, 1000)
    assert "min_types" in caught.value.hint


def test_no_groups_need_no_bytes() -> None:
    assert solve([], 0) == {}


def test_an_option_beaten_in_bytes_and_damage_is_left_out() -> None:
    a, b = Option(label="a", n_bytes=1, damage=2.0), Option(label="b", n_bytes=2, damage=1.0)
    beaten = [Option(label="c", n_bytes=2, damage=1.0), Option(label="d", n_bytes=3, damage=1.5)]
    assert undominated([*beaten, b, a]) == (a, b)


def test_1500_tensors_of_20_types_are_solved() -> None:
    random_ = random.Random(0)
    types = [*dict.fromkeys(q for found in TYPE_SETS.values() for q in found), "iq1_s", "iq1_m", "tq1_0"]
    assert len(types) == 20
    groups = []
    for i in range(1500):
        ne = random_.choice([(4096, 4096), (4096, 1024), (4096, 14336), (14336, 4096)])
        alpha = 10 ** random_.uniform(-4, 1)
        options = tuple(
            Option(label=q, n_bytes=tensor_bytes(ne, q), damage=alpha * 4 ** -type_bpw(q) * random_.uniform(0.7, 1.3))
            for q in types
        )
        groups.append(Group(name=f"blk.{i // 7}.t{i % 7}.weight", members=(), options=options))
    least, most = (sum(pick(o.n_bytes for o in g.options) for g in groups) for pick in (min, max))
    budget = least + (most - least) // 4
    n_bytes, damage = totals(groups, solve(groups, budget))
    assert n_bytes <= budget
    # no price of a byte bounds the damage from below higher than the best allocation has; a good one comes close
    prices = [10 ** (-12 + i / 12.5) for i in range(100)]
    bound = max(sum(min(o.damage + p * o.n_bytes for o in g.options) for g in groups) - p * budget for p in prices)
    assert bound <= damage <= bound * 1.01


@pytest.mark.parametrize(("scale", "more"), [(1e-7, 0), (1.0, 0), (1e6, 0), (1.0, 100_000)])
@pytest.mark.parametrize("seed", range(4))
def test_forty_groups_are_solved_as_by_tables_of_every_budget(seed: int, scale: float, more: int) -> None:
    """Also where every way costs so much that the best and a good one differ by a millionth."""
    chance = random.Random(seed)
    groups = [
        Group(
            name=f"g{i:02}",
            members=(),
            options=tuple(
                Option(label=f"o{j}", n_bytes=chance.randint(0, 40), damage=scale * (more + chance.randint(0, 1000)))
                for j in range(5)
            ),
        )
        for i in range(40)
    ]
    least = sum(min(o.n_bytes for o in g.options) for g in groups)
    budget = least + chance.randint(50, 400)
    best = np.zeros(budget + 1)  # least damage of the groups so far within each number of bytes
    for group in groups:
        wider = np.full(budget + 1, np.inf)
        for o in group.options:
            wider[o.n_bytes :] = np.minimum(wider[o.n_bytes :], best[: budget + 1 - o.n_bytes] + o.damage)
        best = wider
    n_bytes, damage = totals(groups, solve(groups, budget))
    assert n_bytes <= budget
    assert damage == pytest.approx(best[budget], rel=2e-7)


# its parts

WAYS = ((0, 8.0), (4, 3.0), (10, 0.0)), ((1, 5.0), (3, 1.0)), ((2, 0.5),)
"""(bytes, damage) of three groups."""


def table() -> _OptionTable:
    return _option_table([[Option(label="", n_bytes=b, damage=d) for b, d in ways] for ways in WAYS])


def test_a_table_holds_options_one_group_after_another() -> None:
    found = table()
    assert found.damage.tolist() == [8, 3, 0, 5, 1, 0.5]
    assert found.n_bytes.tolist() == [0, 4, 10, 1, 3, 2]
    assert found.starts.tolist() == [0, 3, 5]
    assert found.group_of.tolist() == [0, 0, 0, 1, 1, 2]


@pytest.mark.parametrize(
    ("price", "least", "picked"),
    [(0.0, [0, 1, 0.5], [2, 4, 5]), (1.0, [7, 4, 2.5], [1, 4, 5]), (1.25, [8, 4.75, 3], [0, 4, 5]),
     (3.0, [8, 8, 6.5], [0, 3, 5])],
)  # fmt: skip
def test_at_a_price_of_bytes_each_group_takes_its_cheapest_the_first_of_equals(
    price: float, least: list[float], picked: list[int]
) -> None:
    costs, at = table().cheapest(price)
    assert (costs.tolist(), at.tolist()) == (least, picked)
    assert table().bytes_at(price) == sum([0, 4, 10, 1, 3, 2][i] for i in picked)


# bytes of the cheapest: 15 below 1/2, 9 up to 5/4, 5 up to 2, 3 from there on
@pytest.mark.parametrize(("budget", "price"), [(15, 0.0), (14, 0.5), (9, 0.5), (8, 1.25), (5, 1.25), (4, 2.0)])
def test_the_price_is_the_least_at_which_the_cheapest_fit(budget: int, price: float) -> None:
    assert _price(table(), budget) == pytest.approx(price)
    assert table().bytes_at(_price(table(), budget)) <= budget


def test_a_price_is_found_whatever_the_units() -> None:
    for unit in (1e-12, 1.0, 1e12):
        found = _price(
            _OptionTable(
                damage=unit * table().damage, **{n: getattr(table(), n) for n in ("n_bytes", "starts", "group_of")}
            ),
            8,
        )
        assert found == pytest.approx(1.25 * unit)


@pytest.mark.parametrize(
    ("budget", "picked"), [(3, [0, 3, 5]), (4, [0, 3, 5]), (5, [0, 4, 5]), (7, [1, 3, 5]), (15, [2, 4, 5])]
)
def test_what_is_left_of_a_budget_buys_the_largest_improvement_that_fits(budget: int, picked: list[int]) -> None:
    # from the smallest on: for 4 bytes 5 of damage, for 2 bytes 4
    assert _greedy(table(), 3.0, budget).tolist() == picked


def test_bytes_beyond_the_smallest_of_what_is_still_open() -> None:
    sizes, first = _beyond(table(), np.array([1, 2, 3, 4, 5]))
    assert (sizes.tolist(), first) == ([0, 6, 0, 2, 0], 4 + 1 + 2)


def test_a_choice_within_the_room_is_the_best_and_covers_rule_out_others() -> None:
    open_ = np.arange(6)
    # with 4 bytes beyond the smallest: 5 of damage for 4 bytes beats 4 for 2
    taken = _solved(table(), open_, 4, 13.5, [])
    assert taken is not None
    assert np.flatnonzero(taken).tolist() == [1, 3, 5]
    without = _solved(table(), open_, 4, 13.5, [(np.array([False, True, True, False, False, False]), 0)])
    assert without is not None
    assert np.flatnonzero(without).tolist() == [0, 4, 5]
    assert _solved(table(), open_, 4, 13.5, [(np.array([True, True, True, False, False, False]), 0)]) is None


def test_a_cover_is_the_largest_that_break_the_room_and_all_as_large_in_their_groups() -> None:
    groups, sizes = np.array([0, 0, 0, 1, 1, 2, 2]), np.array([0.0, 5, 9, 0, 4, 0, 3])
    taken = np.array([False, True, False, False, True, False, True])
    # 5 and 4 are more than 8: of group 0 the options from 5 on, of group 1 those from 4 on, at most one of them
    flags, most = _cover(groups, sizes, taken, 8)
    assert (np.flatnonzero(flags).tolist(), most) == ([1, 2, 4], 1)
    flags, most = _cover(groups, sizes, taken, 11)
    assert (np.flatnonzero(flags).tolist(), most) == ([1, 2, 4, 6], 2)
    flags, most = _cover(groups, sizes, taken, 9)  # exactly as much as there is room for
    assert (np.flatnonzero(flags).tolist(), most) == ([1, 2, 4, 6], 2)


def test_nothing_of_what_the_solver_prints_is_seen_and_all_else_is(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    libc, n_open = ctypes.CDLL(None), len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch, open(1, "w", closefd=False) as stdout:
        patch.setattr(sys, "stdout", stdout)
        print("before")
        with suppress(ZeroDivisionError), _silent():
            libc.puts(b"by the solver")
            os.write(1, b"of a thread")
            sys.stdout.flush()
            raise ZeroDivisionError  # whatever happens within
        print("after")
    assert capfd.readouterr().out == "before\nafter\n"
    assert len(os.listdir("/proc/self/fd")) == n_open
