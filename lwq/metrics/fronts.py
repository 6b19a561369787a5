"""Rows against each other on bytes, KLD, speed and tasks, each difference counted only where it is told apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

import numpy as np

from lwq.metrics.paired import average_difference, mean_interval
from lwq.metrics.speeds import ratio_to
from lwq.metrics.ties import Front, average, pareto_front
from lwq.metrics.values import Damage, Estimate, Speed, TaskScore

Criterion = Literal["bytes", "kld", "tg", "tasks"]
CRITERIA: Final[tuple[Criterion, ...]] = get_args(Criterion)
NAMES: Final[Mapping[str, str]] = {
    "bytes": "bytes",
    "kld": "mean KLD",
    "tg": "speed of generation",
    "tasks": "average of the tasks",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One row and what it is judged by."""

    name: str
    n_bytes: int
    """Of tensors: a few words of metadata more or less beat nobody."""
    kld: Estimate
    windows: tuple[float, ...]
    """KLD of each window, nats."""
    speed: tuple[Speed, ...] = ()
    tasks: Mapping[str, tuple[bool, ...]] = field(default_factory=dict)


def point(name: str, n_bytes: int, damage: Damage, speed: tuple[Speed, ...], scores: Iterable[TaskScore]) -> Point:
    """A row's measurements as a point."""
    return Point(
        name=name,
        n_bytes=n_bytes,
        kld=damage.kld,
        windows=damage.window_kld(),
        speed=tuple(s for s in speed if s.test.startswith("tg")),
        tasks={s.name: s.right() for s in scores if s.outcomes},
    )


def compare(a: Point, b: Point, criterion: str) -> int:
    """1 where ``a`` is better, −1 where ``b`` is, 0 where they are not told apart or one was not measured.

    KLD by the 95 % interval of the windows' differences (by the means where there are fewer than eight windows),
    generation by that of the rounds' ratios, tasks by that of the average over items answered by both.
    """
    if criterion == "bytes":
        return (b.n_bytes > a.n_bytes) - (b.n_bytes < a.n_bytes)
    return {"kld": _by_kld, "tg": _by_speed, "tasks": _by_tasks}[criterion](a, b)


def _by_kld(a: Point, b: Point) -> int:
    if len(a.windows) == len(b.windows) and (interval := mean_interval(np.subtract(b.windows, a.windows))):
        return _side(interval.low, interval.high)
    return _side(b.kld.value - a.kld.value, b.kld.value - a.kld.value)


def _by_speed(a: Point, b: Point) -> int:
    speed_ratio = ratio_to(a.speed[0], b.speed) if a.speed else None
    return _side(speed_ratio.low - 1, speed_ratio.high - 1) if speed_ratio else 0


def _by_tasks(a: Point, b: Point) -> int:
    sizes = ({name: len(items) for name, items in p.tasks.items()} for p in (a, b))
    if not a.tasks or next(sizes) != next(sizes):
        return 0
    interval = average_difference(a.tasks, b.tasks).interval
    return _side(interval.low, interval.high)


def _side(low: float, high: float) -> int:
    return 1 if low > 0 else -1 if high < 0 else 0


def front(points: Iterable[Point], criteria: Iterable[str]) -> Front[Point]:
    """The points that no other beats; of those told apart on nothing, the one of fewer bytes, then by name."""
    return pareto_front(tuple(points), tuple(criteria), compare, lambda p: (p.n_bytes, p.kld.value, p.name))


def reason(winner: Point, loser: Point, criteria: Iterable[str]) -> str:
    """Why the winner is kept in the loser's place, criterion by criterion."""
    signs = {c: compare(winner, loser, c) for c in criteria}
    better = [_advantage(winner, loser, c) for c, sign in signs.items() if sign > 0]
    even = [NAMES[c] for c, sign in signs.items() if sign == 0 and c != "bytes"]
    same = ["of the same size"] if signs.get("bytes") == 0 else []
    advantages = " and ".join(same + better) or "kept in its place"
    return f"{winner.name} is {advantages}" + (f"; not told apart by {' or '.join(even)}" if even else "")


def _advantage(winner: Point, loser: Point, criterion: str) -> str:
    if criterion == "bytes":
        return f"{loser.n_bytes - winner.n_bytes:,} bytes smaller"
    if criterion == "kld":
        return f"closer (KLD {winner.kld.value:.3g} against {loser.kld.value:.3g} nats)"
    if criterion == "tg":
        mine, its = (p.speed[0].tokens_per_second.value for p in (winner, loser))
        return f"faster ({mine:.2f} against {its:.2f} t/s of {winner.speed[0].test})"
    return f"better at the tasks ({100 * average(winner.tasks):.2f} against {100 * average(loser.tasks):.2f} %)"
