"""Who differs from whom by more than chance, and who is kept where that is not transitive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwq.metrics.paired import average_difference
from lwq.metrics.ties import (
    Comparison,
    Ties,
    average,
    difference_stderr,
    exchanged_p,
    grouped,
    mean_estimate,
    of_one_size,
    pareto_front,
    ranked,
    row_discordance,
)
from lwq.metrics.values import Estimate, mcnemar
from tests.metrics.test_values import pair


def test_rows_are_tested_against_the_highest_with_holms_correction() -> None:
    best, near = pair(400, 20, 15, 315)
    _, far = pair(300, 120, 20, 310)
    rows = {"best": {"ARC": best}, "near": {"ARC": near}, "far": {"ARC": far}}
    found = ranked(rows)
    assert (found.reference, found.is_highest) == ("best", True)
    assert [c.name for c in found.tied] == ["near"]
    assert [c.name for c in found.lower] == ["far"]
    p_far = mcnemar(far, best)
    assert found.lower[0].p == pytest.approx(min(1, 2 * p_far))  # the smaller of two
    assert ranked(rows, "near").reference == "near"
    with pytest.raises(KeyError):
        ranked(rows, "nobody")


def test_published_scores_are_compared_by_their_errors() -> None:
    rows = {
        "a": Estimate(value=0.70, stderr=0.017),
        "b": Estimate(value=0.68, stderr=0.017),
        "c": Estimate(value=0.55, stderr=0.018),
    }
    found = grouped(rows)
    # z = .02/.02404 = .832, p = .405; z = .15/.02476 = 6.06
    assert found.tied[0].p == pytest.approx(0.405, abs=0.002)
    assert [c.name for c in found.lower] == ["c"]
    with pytest.raises(ValueError, match="standard error"):
        grouped({**rows, "d": Estimate(value=0.5)})


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=9), st.integers(0, 2))
def test_front_keeps_somebody_and_everybody_else_is_beaten_by_one_who_stays(rows, slack: int) -> None:
    named = list(enumerate(rows))

    def compare(a, b, criterion: str) -> int:
        gap = b[1][int(criterion)] - a[1][int(criterion)]
        return 0 if abs(gap) <= slack else 1 if gap > 0 else -1

    found = pareto_front(named, ("0", "1"), compare, order=lambda row: (row[1], row[0]))
    assert found.kept
    assert len(found.kept) + len(found.beaten) == len(named)
    for _, winner in found.beaten:
        assert winner in found.kept
    for a in found.kept:
        for b in found.kept:
            signs = [compare(a, b, c) for c in ("0", "1")]
            assert a is b or not (min(signs) >= 0 and max(signs) > 0)


def test_test_and_difference_speak_of_the_same_where_sets_differ_in_size() -> None:
    a = {"large": [True] * 400 + [False] * 350, "own": [True] * 40 + [False] * 60}
    b = {"large": [True] * 365 + [False] * 385, "own": [True] * 48 + [False] * 52}
    found = ranked({"A": a, "B": b})  # over all items A is right more often (35 to 8), on average B
    (only,) = found.comparisons
    assert (found.reference, only.name) == ("B", "A")
    assert only.interval is not None
    assert only.interval.low < 0 < only.interval.high
    assert found.tied == (only,)
    opposite = (
        {"large": [True] * 75 + [False] * 675, "own": [False] * 20},
        {"large": [False] * 750, "own": [True] * 2 + [False] * 18},
    )
    assert ranked(dict(zip("AB", opposite, strict=True))).tied  # no difference at all: still a row of the paragraph


def test_exchanges_are_mcnemar_for_one_set_and_weigh_sets_alike() -> None:
    for won, lost in ((0, 0), (8, 2), (30, 12)):
        a, b = pair(20, won, lost, 20)
        assert exchanged_p({"x": a}, {"x": b}) == pytest.approx(mcnemar(a, b), abs=0.006)
    small = [True] * 9 + [False], [False] * 10
    large = [True] * 500 + [False] * 500, [True] * 500 + [False] * 500
    assert exchanged_p({"s": small[0], "l": large[0]}, {"s": small[1], "l": large[1]}) == pytest.approx(
        2 / 2**9, abs=0.001
    )


def test_rows_are_higher_lower_or_tied() -> None:
    stated = (("a", 0.5, 0.01), ("b", -0.5, 0.01), ("c", 0.5, 0.05))
    rows = tuple(Comparison(name=name, difference=difference, p=p) for name, difference, p in stated)
    ties = Ties(reference="r", score=0.5, is_highest=False, comparisons=rows)
    assert [[c.name for c in some] for some in (ties.higher, ties.lower, ties.tied)] == [["a"], ["b"], ["c"]]


def test_the_mean_of_independent_scores_has_the_root_of_the_sum_of_squared_errors() -> None:
    scores = [Estimate(value=v, stderr=e, unit="%") for v, e in ((1.0, 3.0), (4.0, 4.0))]
    mean = mean_estimate(scores)
    assert (mean.value, mean.stderr) == (2.5, 2.5)  # hypot(3, 4) / 2
    for lacking in ([], [*scores, Estimate(value=1.0, stderr=None, unit="%")]):
        with pytest.raises(ValueError, match="not all scores have a standard error"):
            mean_estimate(lacking)


def test_sets_weigh_alike_in_an_average() -> None:
    assert average({"x": [True, False], "y": [True] * 9 + [False]}) == pytest.approx(0.7)
    assert of_one_size({"x": [True], "y": [False]})
    assert not of_one_size({"x": [True], "y": [False, True]})


def test_items_of_all_sets_count_together_whatever_the_order_of_sets() -> None:
    a = {"x": [True, False], "y": [True, True, False]}
    b = {"y": [False, True, True], "x": [True, True]}
    found = row_discordance(a, b)
    assert (found.first, found.second, found.n_items) == (1, 2, 5)
    for wrong in ({"x": [True, False]}, {"x": [True, False], "y": [True, True]}, {"x": [True, True], "z": [True] * 3}):
        for compare in (row_discordance, exchanged_p):
            with pytest.raises(ValueError, match="rows were not scored on the same items"):
                compare(a, wrong)


def test_comparisons_have_their_own_difference_interval_and_p_the_smallest_difference_first() -> None:
    best, near = pair(400, 20, 15, 315)
    _, far = pair(300, 120, 20, 310)
    rows = {"far": {"ARC": far}, "best": {"ARC": best}, "near": {"ARC": near}}
    found = ranked(rows)
    assert [c.name for c in found.comparisons] == ["near", "far"]
    assert found.score == pytest.approx(420 / 750)
    for one in found.comparisons:
        assert one.difference == pytest.approx(average(rows[one.name]) - 420 / 750)
        assert one.interval == average_difference(rows[one.name], rows["best"]).interval
    assert found.comparisons[0].p == pytest.approx(mcnemar(near, best))  # the larger of two stays
    below = ranked(rows, "near")
    assert (below.reference, below.is_highest, [c.name for c in below.comparisons]) == ("near", False, ["best", "far"])
    assert ranked({"a": {"ARC": best}, "b": {"ARC": best}}).reference == "a"
    assert ranked({"a": {"ARC": best}, "b": {"ARC": best}}, "b").is_highest


@pytest.mark.parametrize(
    "rows", [{}, {"a": {}}, {"a": {"x": [True]}, "b": {}}, {"a": {"x": []}}, {"a": {"x": [True], "y": []}}]
)
def test_rows_without_items_have_no_rank(rows) -> None:
    with pytest.raises(ValueError, match="no items to compare rows on"):
        ranked(rows)


def test_a_row_that_is_not_there_is_named_beside_those_that_are() -> None:
    with pytest.raises(KeyError, match="no row 'c' among a, b"):
        grouped({name: Estimate(value=0.5, stderr=0.1) for name in "ab"}, "c")
    with pytest.raises(ValueError, match="no rows to compare"):
        grouped({})


def test_z_test_is_the_two_sided_one_and_sure_without_errors() -> None:
    rows = {"a": Estimate(value=0.7, stderr=0.03), "b": Estimate(value=0.6, stderr=0.04)}
    (found,) = grouped(rows).comparisons
    assert found.p == pytest.approx(0.0455003, rel=1e-5)  # z = 2
    assert (found.name, found.difference, found.interval) == ("b", pytest.approx(-0.1), None)
    (found,) = grouped(rows, "b").comparisons
    assert (found.p, found.difference) == (pytest.approx(0.0455003, rel=1e-5), pytest.approx(0.1))
    exact = {
        "a": Estimate(value=0.7, stderr=0.0),
        "b": Estimate(value=0.6, stderr=0.0),
        "c": Estimate(value=0.7, stderr=0.0),
    }
    assert {c.name: c.p for c in grouped(exact).comparisons} == {"b": 0.0, "c": 1.0}
    assert difference_stderr(*rows.values()) == pytest.approx(0.05)
    for lacking in ((rows["a"], Estimate(value=1.0)), (Estimate(value=1.0), rows["a"])):
        with pytest.raises(ValueError, match="not all scores have a standard error"):
            difference_stderr(*lacking)


def test_a_difference_is_one_below_five_hundredths() -> None:
    at = [Comparison(name="x", difference=0.0, p=p).is_told_apart for p in (0.0499, 0.05)]
    assert at == [True, False]
    none = Ties(reference="r", score=0.5, is_highest=True, comparisons=(Comparison(name="x", difference=0.0, p=0.0),))
    assert (none.lower, none.higher, none.tied) == ((), (), ())


def test_exchanges_are_seeded_and_count_what_is_as_far_on_either_side() -> None:
    a, b = pair(0, 3, 0, 0)
    # ± 3 of 8 ways: 1 / 4, but for chance of 99,999 draws
    assert exchanged_p({"x": a}, {"x": b}) == pytest.approx(0.25, abs=0.005)
    assert exchanged_p({"x": a}, {"x": b}) == exchanged_p({"x": b}, {"x": a})
    assert exchanged_p({"x": a}, {"x": a}) == 1.0
    assert exchanged_p({"x": [True] * 40}, {"x": [False] * 40}) == 1 / 100_000


def test_front_keeps_the_given_order_and_names_who_beats_whom() -> None:
    rows = [("d", 4), ("b", 2), ("a", 1), ("c", 3)]

    def compare(a, b, _: str) -> int:
        """Only neighbours are told apart: the larger number is better."""
        return (a[1] > b[1]) - (a[1] < b[1]) if abs(a[1] - b[1]) == 1 else 0

    found = pareto_front(rows, ("x",), compare, order=lambda row: row[0])
    # a beats d and c, which are not told apart from it and stand behind; b beats a, c beats b: a circle
    assert found.kept == (("a", 1),)
    assert found.beaten == ((("d", 4), ("a", 1)), (("b", 2), ("a", 1)), (("c", 3), ("a", 1)))
    two = pareto_front(
        [("y", 2, 1), ("x", 1, 2), ("z", 0, 0)],
        (1, 2),
        lambda a, b, i: (a[i] > b[i]) - (a[i] < b[i]),
        order=lambda r: r[0],
    )
    assert two.kept == (("y", 2, 1), ("x", 1, 2))
    assert two.beaten == ((("z", 0, 0), ("x", 1, 2)),)
    assert pareto_front([], ("x",), compare, order=lambda row: row[0]).kept == ()
