"""What is kept: differences count only where they are told apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lwq.metrics.fronts import CRITERIA, Point, compare, front, point, reason
from lwq.metrics.paired import mean_interval
from lwq.metrics.speeds import mean
from lwq.metrics.values import Estimate, Speed
from tests.sample_record import sample_record

WINDOWS = np.random.default_rng(3).gamma(4, 0.01, 40)


def row(name: str, n_bytes: int, extra: float = 0.0, wobble: float = 0.0, **more) -> Point:
    noise = np.random.default_rng(len(name)).normal(0, 1, 40) * wobble
    windows = WINDOWS + extra + noise - noise.mean()
    return Point(name=name, n_bytes=n_bytes, kld=Estimate(value=float(windows.mean())), windows=tuple(windows), **more)


def speed(*samples: float) -> tuple[Speed, ...]:
    rest = {"n_threads": 1, "backend": "CPU", "cpu": "c", "busy": 0.0}
    return (Speed(test="tg128", tokens_per_second=mean(samples), samples=samples, **rest),)


def test_smaller_and_surely_closer_beats_and_says_why() -> None:
    good, bad = row("good", 100), row("worse", 120, extra=0.01)
    found = front([good, bad], ("bytes", "kld"))
    assert [p.name for p in found.kept] == ["good"]
    told = reason(good, bad, ("bytes", "kld"))
    assert told == f"good is 20 bytes smaller and closer (KLD {good.kld.value:.3g} against {bad.kld.value:.3g} nats)"


def test_larger_file_whose_gain_is_within_chance_is_not_kept() -> None:
    small, large = row("small", 100), row("large-one", 120, extra=-0.0005, wobble=0.02)
    assert large.kld.value < small.kld.value
    assert compare(small, large, "kld") == 0
    found = front([small, large], ("bytes", "kld"))
    assert [p.name for p in found.kept] == ["small"]
    assert reason(small, large, ("bytes", "kld")) == "small is 20 bytes smaller; not told apart by mean KLD"


def test_larger_file_that_is_surely_closer_is_kept() -> None:
    found = front([row("small", 100), row("large", 120, extra=-0.01)], ("bytes", "kld"))
    assert {p.name for p in found.kept} == {"small", "large"}


def test_few_windows_are_compared_by_their_means() -> None:
    a, b = (Point(name=n, n_bytes=1, kld=Estimate(value=v), windows=(v, v)) for n, v in (("a", 0.1), ("b", 0.2)))
    assert (compare(a, b, "kld"), compare(b, a, "kld"), compare(a, a, "kld")) == (1, -1, 0)


def test_speed_and_tasks_count_only_where_measured_and_told_apart() -> None:
    quick, slow = row("quick", 1, speed=speed(20.0, 20.2, 19.9)), row("slow", 1, speed=speed(10.0, 10.1, 9.9))
    noisy = row("noisy", 1, speed=speed(10.0, 25.0, 28.0))
    assert (compare(quick, slow, "tg"), compare(slow, quick, "tg"), compare(quick, noisy, "tg")) == (1, -1, 0)
    assert compare(quick, row("bare", 1), "tg") == 0
    right = row("right", 1, tasks={"ARC": (True,) * 90 + (False,) * 10})
    wrong = row("wrong", 1, tasks={"ARC": (True,) * 50 + (False,) * 50})
    nearly = row("nearly", 1, tasks={"ARC": (True,) * 89 + (False,) * 11})
    assert (compare(right, wrong, "tasks"), compare(right, nearly, "tasks")) == (1, 0)
    assert compare(right, row("other", 1, tasks={"MMLU": (True,) * 100}), "tasks") == 0
    assert "better at the tasks (90.00 against 50.00 %)" in reason(right, wrong, ("tasks",))


def test_every_criterion_is_antisymmetric() -> None:
    points = [row("a", 5, speed=speed(1.0, 1.1)), row("bb", 4, extra=0.004, wobble=0.01, speed=speed(2.0, 2.3))]
    for criterion in CRITERIA:
        assert compare(*points, criterion) == -compare(*reversed(points), criterion)


def test_nothing_in_is_nothing_kept() -> None:
    assert front([], ("bytes",)).kept == ()
    with pytest.raises(KeyError):
        compare(row("a", 1), row("b", 1), "beauty")


def test_a_point_is_what_a_row_is_judged_by() -> None:
    row = next(r for r in sample_record().rows if r.name == "Q4_K_M")
    bare = replace(row.tasks[0], name="unknown", outcomes="")
    found = point("a", 7, row.evaluation, row.speed, [*row.tasks, bare])
    assert (found.name, found.n_bytes, found.kld) == ("a", 7, row.evaluation.kld)
    assert found.windows == row.evaluation.window_kld()
    assert [s.test for s in found.speed] == ["tg32"]
    assert {s.test for s in row.speed} > {"tg32"}
    assert found.tasks == {t.name: t.right() for t in row.tasks}


def test_bytes_decide_by_themselves() -> None:
    small, large = row("small", 5), row("large", 6)
    found = [compare(a, b, "bytes") for a, b in ((small, large), (large, small), (small, small))]
    assert found == [1, -1, 0]


@pytest.mark.parametrize(("low", "high", "sign"), [(0.1, 0.2, 1), (-0.2, -0.1, -1), (-0.1, 0.1, 0)])
def test_windows_decide_where_their_interval_leaves_out_zero(low: float, high: float, sign: int) -> None:
    steps = np.linspace(low, high, 12)[[3, 7, 1, 11, 5, 0, 9, 2, 8, 6, 10, 4]]
    a = Point(name="a", n_bytes=1, kld=Estimate(value=9.0), windows=tuple(np.ones(12)))
    b = Point(name="b", n_bytes=1, kld=Estimate(value=9.0), windows=tuple(1 + steps))
    interval = mean_interval(steps)
    assert interval
    assert (interval.low > 0) - (interval.high < 0) == sign
    assert (compare(a, b, "kld"), compare(b, a, "kld")) == (sign, -sign)


def test_rows_of_other_windows_are_compared_by_their_means() -> None:
    a = Point(name="a", n_bytes=1, kld=Estimate(value=0.1), windows=(0.5,) * 12)
    b = Point(name="b", n_bytes=1, kld=Estimate(value=0.2), windows=(0.1,) * 11)
    assert (compare(a, b, "kld"), compare(b, a, "kld")) == (1, -1)


def test_speeds_that_are_hardly_apart_are_told_apart_where_every_round_agrees() -> None:
    a, b = row("a", 1, speed=speed(10.1, 20.2, 30.3)), row("b", 1, speed=speed(10.0, 20.0, 30.0))
    assert (compare(a, b, "tg"), compare(b, a, "tg"), compare(a, a, "tg")) == (1, -1, 0)
    assert compare(row("bare", 1), a, "tg") == 0


def test_tasks_decide_by_items_that_both_answered() -> None:
    right, wrong = (row(n, 1, tasks={"ARC": (x,) * 40}) for n, x in (("right", True), ("wrong", False)))
    assert (compare(wrong, right, "tasks"), compare(right, wrong, "tasks")) == (-1, 1)
    assert compare(right, row("few", 1, tasks={"ARC": (False,) * 39}), "tasks") == 0
    assert compare(row("a", 1), row("b", 1), "tasks") == 0


def test_reasons_name_every_advantage_and_what_told_nothing_apart() -> None:
    quick = row("quick", 90, speed=speed(20.0, 20.2, 19.9), tasks={"ARC": (True,) * 40})
    slow = row("slow", 90, speed=speed(10.0, 10.1, 9.9), tasks={"ARC": (True,) * 40})
    assert reason(quick, slow, CRITERIA) == (
        "quick is of the same size and faster (20.03 against 10.00 t/s of tg128); not told apart by mean KLD or"
        " average of the tasks"
    )
    assert reason(quick, slow, ("kld",)) == "quick is kept in its place; not told apart by mean KLD"
    assert reason(slow, quick, ("tg",)) == "slow is kept in its place"
    assert reason(row("a", 1000), row("b", 4001), ("bytes",)) == "a is 3,001 bytes smaller"


def test_of_equals_the_smaller_then_the_closer_then_the_first_by_name_stays() -> None:
    same = [row("b", 5), row("a", 5)]
    assert [p.name for p in front(same, ("kld",)).kept] == ["a"]
    assert [p.name for p in front([row("a", 6), row("b", 5)], ("kld",)).kept] == ["b"]
    closer = Point(name="z", n_bytes=5, kld=Estimate(value=0.01), windows=())
    further = Point(name="a", n_bytes=5, kld=Estimate(value=0.02), windows=())
    assert [p.name for p in front([further, closer], ("bytes",)).kept] == ["z"]
