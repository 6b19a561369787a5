"""What is left of a run is told at the pace that its steps have."""

from __future__ import annotations

import pytest

from lwq.cli.remaining import TimeLeft
from lwq.plan.forecast import Forecast


def remaining() -> TimeLeft:
    foretold = Forecast(n_missing=5, by_key={"e1": 10.0, "e2": 10.0, "q1": 4.0, "q2": 4.0}, unknown=("prune",))
    kinds = {"e1": "evaluate", "e2": "evaluate", "q1": "quantize", "q2": "quantize", "p": "prune", "s": "select"}
    return TimeLeft(forecast=foretold, kinds=kinds)


def test_before_the_first_step_it_is_what_was_forecast() -> None:
    assert remaining().seconds == 28.0
    assert remaining().unknown == ("prune",)


def test_steps_of_a_kind_have_its_pace_and_others_one_between_it_and_the_forecast() -> None:
    left = remaining()
    left.finished("e1", 30.0)
    assert left.seconds == pytest.approx(3 * 10 + 8 * (30 + 8) / (10 + 8))
    left.finished("q1", 2.0)
    assert left.seconds == 3 * 10 + 0.5 * 4
    left.finished("p", 99.0)
    assert left.unknown == ()


def test_what_was_done_before_tells_no_pace() -> None:
    left = remaining()
    left.finished("e1", 0.0)
    assert left.seconds == 18.0
    for key in ("e2", "q1", "q2", "p", "s", "of another run"):
        left.finished(key, 0.0)
    assert left.seconds == 0.0
