"""What is kept: differences count only where they are told apart."""

from __future__ import annotations

import numpy as np
import pytest

from lwq.metrics.fronts import CRITERIA, Point, compare, front, reason
from lwq.metrics.speeds import mean
from lwq.metrics.values import Estimate, Speed

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
