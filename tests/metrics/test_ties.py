"""Who differs from whom by more than chance, and who is kept where that is not transitive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwq.metrics.ties import Comparison, Ties, exchanged_p, grouped, mean_estimate, pareto_front, ranked
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
