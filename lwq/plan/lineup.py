"""What starts next and where: the longest chain first, in what is free of the machines. No clock, no process.

The same rules carry out steps (``dispatch``) and foretell how long that takes (``wall_seconds``).
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from lwq.plan.graph import Needs, Pending, ranks

HERE: Final = ""
"""The name of the client's own process among the places."""
_BRIEF_SECONDS: Final = 0.2
"""A step that takes less is handed out while others as brief still run: its way takes as long as itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkPlace:
    """Something that carries out one step at a time, and keeps a few brief ones waiting for their turn."""

    name: str
    host: str
    is_here: bool = True
    """On the client's machine, where speeds are measured."""


class _Places:
    """Places that there are: what each was given, and which may be given more."""

    def __init__(self, n_brief: int) -> None:
        self.n_brief = n_brief
        self.all: dict[str, WorkPlace] = {}
        self.free: dict[str, WorkPlace] = {}
        """Those that have nothing to do."""
        self.brief: dict[str, WorkPlace] = {}
        """Those with brief tasks only, which may have one more such."""
        self.given: dict[str, dict[str, Pending]] = {}
        """Name → what it was given, by key."""
        self.holds: dict[str, set[str]] = {}
        """Name → keys of steps whose files lie there."""

    def join(self, place: WorkPlace, holds: Iterable[str]) -> None:
        self.all[place.name] = self.free[place.name] = place
        self.holds[place.name], self.given[place.name] = set(holds), {}

    def leave(self, name: str) -> None:
        for known in (self.all, self.free, self.brief, self.given, self.holds):
            known.pop(name, None)

    def give(self, name: str, task: Pending) -> None:
        self.given[name][task.key] = task
        self._sort_in(name)

    def take(self, name: str, key: str) -> None:
        if name in self.all:
            self.given[name].pop(key, None)
            self._sort_in(name)

    def open_for(self, task: Pending) -> Iterable[WorkPlace]:
        """Those that may be given a task, as far as the task's needs are not asked."""
        return (self.free or (self.brief if _is_brief(task) else {})).values()

    def near(self, place: WorkPlace, task: Pending) -> int:
        """How much of what a task reads lies at a place; a task that is done there is nearest."""
        held = self.holds[place.name]
        return (len(task.after) + 1) * (task.key in held) + len(task.after & held)

    def here(self) -> set[str]:
        """Hosts of the client's machine, where speeds are measured."""
        return {place.host for place in self.all.values() if place.is_here}

    def _sort_in(self, name: str) -> None:
        for known in (self.free, self.brief):
            known.pop(name, None)
        given = self.given[name].values()
        if not given:
            self.free[name] = self.all[name]
        elif len(given) < self.n_brief and all(map(_is_brief, given)):
            self.brief[name] = self.all[name]


class _Ready:
    """Tasks that wait for nothing but a place: those that most is behind first, then as they came."""

    def __init__(self) -> None:
        self.entries: list[tuple[float, int, Pending]] = []
        self.n_here = 0
        """How many need no place."""
        self._n = 0

    def add(self, task: Pending, rank: float) -> None:
        self._n += 1
        self.n_here += task.where != "anywhere"
        insort(self.entries, (-rank, self._n, task))

    def take(self, i: int) -> None:
        self.n_here -= self.entries.pop(i)[2].where != "anywhere"

    def drop(self, key: str) -> None:
        for i in reversed([i for i, (*_, task) in enumerate(self.entries) if task.key == key]):
            self.take(i)


class Lineup:
    """Tasks that wait, run and are over, and the places for them."""

    def __init__(self, rooms: Mapping[str, Needs], *, n_brief: int = 1, shares_here: bool = False) -> None:
        """
        Args:
            rooms: host → what its steps may need together, what is not named being unbounded.
            n_brief: how many brief tasks a place is given at a time.
            shares_here: places have a share of the client's machine each; a task that nothing can run beside is done in
                the client's process, which has all of it.
        """
        self.rooms = dict(rooms)
        self._places, self._shares_here = _Places(n_brief), shares_here
        self._whole: set[str] = set()
        """Keys of what runs in the client's process with all of the machine."""
        self.tasks: dict[str, Pending] = {}
        self.running: dict[str, str] = {}
        """Key → the name of its place."""
        self._after: dict[str, set[str]] = {}
        self._behind: dict[str, list[str]] = {}
        self._at: dict[str, set[str]] = {}
        """Host → keys of what runs there."""
        self._solitary: set[str] = set()
        self._ranks: dict[str, float] = {}
        self._ready = _Ready()

    @property
    def n_places(self) -> int:
        return len(self._places.all)

    def join(self, place: WorkPlace, room: Needs | None = None, holds: Iterable[str] = ()) -> None:
        """A place that may be used from now on."""
        self.rooms.setdefault(place.host, room or {})
        self._places.join(place, holds)

    def leave(self, name: str) -> tuple[str, ...]:
        """What ran at a place that is no more, and waits again."""
        self._places.leave(name)
        lost = tuple(key for key, place in self.running.items() if place == name)
        for key in lost:
            self.again(key)
        return lost

    def add(self, tasks: Iterable[Pending]) -> None:
        """Tasks to do, each behind those that it waits for; what they wait for and is not among them is over."""
        new = [task for task in tasks if task.key not in self.tasks]
        self._ranks |= ranks(new)
        for task in new:
            self.tasks[task.key] = task
            self._after[task.key] = set(task.after & self.tasks.keys())
            for key in self._after[task.key]:
                self._behind.setdefault(key, []).append(task.key)
            self._make_ready(task.key)

    def again(self, key: str) -> None:
        """A task that ran for nothing waits again."""
        self._release(key)
        self._make_ready(key)

    def again_alone(self, key: str) -> None:
        """The same, with nothing beside it on its machine."""
        self._solitary.add(key)
        self.again(key)

    def finished(self, key: str) -> None:
        """A task is over; those that waited for it alone may run."""
        if place := self._release(key):
            self._places.holds.get(place, set()).add(key)
        self._forget(key)
        for other in self._behind.pop(key, ()):
            if key in self._after.get(other, ()):  # not one that was dropped, or that was dropped and added again
                self._after[other].discard(key)
                self._make_ready(other)

    def drop(self, key: str) -> None:
        """Takes a task away that nobody wants any more; what waits for it must go too."""
        self._release(key)
        self._ready.drop(key)
        self._forget(key)

    def next(self) -> tuple[Pending, WorkPlace | None] | None:
        """A task that starts now, and its place (None: in the client's process); None where nothing may start."""
        places = self._places
        if not places.free and not places.brief and not self._ready.n_here and not self._shares_here:
            return None
        timed = any(self.tasks[key].where == "alone" or key in self._whole for key in self.running)
        shut, is_full = places.here() if timed else set[str](), False
        is_shut_here = timed
        for i, (_, _, task) in enumerate(self._ready.entries):
            if task.where == "anywhere":
                if not timed and self._is_only(task):
                    self._whole.add(task.key)
                    return self._start(i, task, None)
                if not is_full and (place := self._place_for(task, shut)):
                    return self._start(i, task, place)
                is_full = is_full or not places.free  # nor is a place filled up with what is behind this one
                self._shut_for(task, shut)
            elif task.where == "here" and not is_shut_here:
                return self._start(i, task, None)
            elif task.where == "alone" and not is_shut_here:
                if not self._is_busy_here():
                    return self._start(i, task, None)
                is_shut_here = True  # what comes behind it here would keep it waiting
                shut |= places.here()
        return None

    def _start(self, i: int, task: Pending, place: WorkPlace | None) -> tuple[Pending, WorkPlace | None]:
        self._ready.take(i)
        self.running[task.key] = place.name if place else HERE
        if place:
            self._places.give(place.name, task)
            self._at.setdefault(place.host, set()).add(task.key)
        return task, place

    def _place_for(self, task: Pending, shut: set[str]) -> WorkPlace | None:
        """A free place where the task fits; one that has it, or what it reads, before others."""
        open_for = [p for p in self._places.open_for(task) if p.host not in shut and self._fits(task, p.host)]
        return max(open_for, key=lambda place: self._places.near(place, task), default=None)

    def _fits(self, task: Pending, host: str) -> bool:
        """Whether there is room beside what runs there; a task that has a machine for itself may always try."""
        beside = [self.tasks[key] for key in self._at.get(host, ())]
        if not beside:
            return True
        if self._solitary & {task.key, *self._at[host]}:
            return False
        room = self.rooms.get(host, {})
        return all(n + sum(t.needs.get(what, 0) for t in beside) <= room.get(what, n) for what, n in task.needs.items())

    def _is_only(self, task: Pending) -> bool:
        """Whether nothing that takes long runs, or could."""
        if not self._shares_here or _is_brief(task):
            return False
        others = (*map(self.tasks.__getitem__, self.running), *(other for *_, other in self._ready.entries))
        return all(other is task or other.where == "here" for other in others)

    def _shut_for(self, task: Pending, shut: set[str]) -> None:
        """Keeps the machine that has most room for a task from those behind it, or it might wait for ever."""
        if hosts := {place.host for place in self._places.free.values()} - shut:
            shut.add(min(hosts, key=lambda host: (len(self._at.get(host, ())), host)))

    def _is_busy_here(self) -> bool:
        here = {name for name, place in self._places.all.items() if place.is_here} | {HERE}
        return any(place in here for place in self.running.values())

    def _make_ready(self, key: str) -> None:
        if key in self.tasks and not self._after[key] and key not in self.running:
            self._ready.add(self.tasks[key], self._ranks[key])

    def _release(self, key: str) -> str:
        name = self.running.pop(key, HERE)
        self._whole.discard(key)
        for keys in self._at.values():
            keys.discard(key)
        self._places.take(name, key)
        return name

    def _forget(self, key: str) -> None:
        for known in (self.tasks, self._after, self._ranks):
            known.pop(key, None)


def _is_brief(task: Pending) -> bool:
    return 0.0 < task.seconds <= _BRIEF_SECONDS


def wall_seconds(
    tasks: Iterable[Pending], lineup: Lineup, seconds: Callable[[Pending, WorkPlace | None], float]
) -> float:
    """How long tasks take at the places of a lineup, on a clock that costs no time."""
    lineup.add(tasks)
    now, running = 0.0, list[tuple[float, str]]()
    while True:
        while found := lineup.next():
            heapq.heappush(running, (now + seconds(*found), found[0].key))
        if not running:
            return now
        now, key = heapq.heappop(running)
        lineup.finished(key)
