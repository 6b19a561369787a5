"""How long steps take side by side: the rules that hand them out, on a clock that costs no time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lwq.plan.graph import Needs, Pending, longest_chain, pending_of
from lwq.plan.lineup import Lineup, WorkPlace, wall_seconds
from lwq.plan.plan import AnyStep
from lwq.plan.twins import Alike

_HERE = "this machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Crewing:
    """Workers as they are thought of."""

    n_workers: int
    n_threads: int
    """Of the tools of a step that has a machine for itself."""
    n_threads_each: int
    """Of each worker's tools."""
    room: Needs
    """Of a machine."""
    is_one_machine: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WallTime:
    """Seconds of steps that are still to do."""

    seconds: float
    one_by_one: float
    longest_chain: float
    """Of steps of which each waits for the one before: no number of workers is faster."""


def wall_time(
    steps: Iterable[AnyStep],
    alike: Mapping[str, Alike],
    seconds: Mapping[str, float],
    needs: Mapping[str, Needs],
    crew: Crewing,
) -> WallTime:
    """What steps that are to do (each once) take in all, by what each is foretold to take; unknown ones take nothing.

    On one machine a tool with fewer threads is taken for as much slower: so it is at the worst.
    """
    known = {step.key: seconds.get(step.key, 0.0) for step in steps}
    tasks = pending_of(steps, alike, known, needs)
    hosts = (_HERE if crew.is_one_machine else f"machine {i + 1}" for i in range(crew.n_workers))
    lineup = Lineup({_HERE: crew.room}, shares_here=crew.is_one_machine)
    for i, host in enumerate(hosts):
        is_here = crew.is_one_machine
        lineup.join(WorkPlace(name=f"worker {i + 1}", host=host, is_here=is_here), crew.room)
    slower = crew.n_threads / crew.n_threads_each

    def lasts(task: Pending, place: WorkPlace | None) -> float:
        return task.seconds * (slower if place else 1.0)

    return WallTime(
        seconds=wall_seconds(tasks, lineup, lasts),
        one_by_one=sum(task.seconds for task in tasks),
        longest_chain=longest_chain(tasks),
    )
