"""Who differs from whom by more than chance, and who is kept where that is not transitive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwq.metrics import Estimate, mcnemar
from lwq.ties import grouped, pareto_front, ranked
from tests.test_metrics import pair


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
