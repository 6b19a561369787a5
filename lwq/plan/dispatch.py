"""Steps side by side: each starts as soon as what it reads is there and a place with room for it is free.

One thread decides. Whoever wants steps carried out waits for it; a step that two of them want is done once.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from lwq.errors import ClusterError, Interrupted
from lwq.plan.execution import Surroundings, to_make_again, work_of
from lwq.plan.graph import Needs, made_of, pending_of
from lwq.plan.lineup import HERE, Lineup, WorkPlace
from lwq.plan.plan import AnyStep
from lwq.plan.workers import Assignment, Outcome, ThisProcess, Workers
from lwq.store.cache import Entry

_LOOK_SECONDS: Final = 1.0
_STOP_SECONDS: Final = 15.0
_N_BRIEF: Final = 8


@dataclass(slots=True, kw_only=True, eq=False)
class _Share:
    """What one caller wants carried out."""

    steps: dict[str, list[AnyStep]]
    """By key; some are in a plan under several titles."""
    around: Surroundings
    again: set[str]
    entries: dict[str, Entry]
    left: set[str]
    fault: BaseException | None = None
    over: threading.Event = field(default_factory=threading.Event)


class Dispatcher:
    """A ``Crew``: carries out steps of any number of callers, at all places that there are."""

    def __init__(
        self,
        workers: Workers,
        rooms: dict[str, Needs] | None = None,
        *,
        shares_here: bool = False,
        leaves: bool = False,
    ) -> None:
        """
        Args:
            rooms: host → what its steps may need together, of hosts that are known before their workers are.
            shares_here: workers have a share of this machine each.
            leaves: what workers have begun when the user interrupts goes on there.
        """
        self._workers = workers
        self._events: _Events = queue.SimpleQueue()
        lineup = Lineup(rooms or {}, n_brief=_N_BRIEF, shares_here=shares_here)
        self._deciding = _Deciding(workers, lineup, self._events)
        self._deciding.leaves = leaves
        self._thread = threading.Thread(target=self._deciding.run, name="lwq-dispatch", daemon=True)
        self._thread.start()

    def execute(self, steps: tuple[AnyStep, ...], around: Surroundings) -> dict[str, Entry]:
        """The entries of all steps by key.

        Raises:
            LwqError: of the first step that failed; what others wait for goes on, what else ran for it is stopped.
        """
        again = to_make_again(steps, around.cache)
        by_key, entries = dict[str, list[AnyStep]](), dict[str, Entry]()
        for step in steps:
            by_key.setdefault(step.key, []).append(step)
            if step.key not in again and (entry := around.cache.lookup(step.module.NAME, step.key)):
                entries[step.key] = entry
                around.watch.finished(step, entry, fresh=False)
        share = _Share(steps=by_key, around=around, again=again, entries=entries, left=by_key.keys() - entries.keys())
        if share.left:
            self._events.put(lambda: self._deciding.add(share))
            try:
                share.over.wait()
            except BaseException as error:
                self._end(share, error)
                raise
        if share.fault:
            raise share.fault
        return {step.key: share.entries[step.key] for step in steps}

    def is_wanted(self, key: str) -> bool:
        """Whoever calls ``execute`` in turn knows of the others; here are none."""
        return False

    def has_room(self) -> bool:
        """Whether there is a place that has nothing to do."""
        lineup = self._deciding.lineup
        return len(lineup.running) < max(1, lineup.n_places)

    def n_places(self) -> int:
        """How many steps may run at a time."""
        return max(1, self._deciding.lineup.n_places)

    def interrupt(self, around: Surroundings | None = None) -> None:
        """Ends what was asked for with these surroundings, or everything, as ^C does."""
        error = Interrupted("interrupted", hint="finished steps are kept; the same command goes on from there")
        for share in list(self._deciding.shares):
            if around is None or share.around is around:
                self._end(share, error)

    def close(self) -> None:
        """Ends what runs, unless it is left to the workers, and lets them go."""
        self._events.put(self._deciding.shut)
        self._thread.join(_STOP_SECONDS)
        self._workers.close(leave=self._deciding.leaves)

    def _end(self, share: _Share, error: BaseException) -> None:
        self._events.put(lambda: self._deciding.end(share, error))


_Events = queue.SimpleQueue[Callable[[], None]]


class _Deciding:
    """What the thread that decides knows and does."""

    def __init__(self, workers: Workers, lineup: Lineup, events: _Events) -> None:
        self.workers, self.lineup, self.events = workers, lineup, events
        self.own = ThisProcess()
        self.shares: list[_Share] = []
        self._n_lost: dict[str, int] = {}
        self._tickets: dict[str, object] = {}
        """Key → the attempt that counts."""
        self._killed: set[str] = set()
        """Keys of steps of which a process was killed, as happens when memory runs out: these go on alone."""
        self.leaves = False
        self._due = 0.0
        self._is_open = True

    def run(self) -> None:
        """Goes on until ``shut``; what nobody foresaw ends all that is waited for, with that error."""
        while self._is_open:
            try:
                self._hear()
                if self.shares and time.monotonic() >= self._due:
                    self._look()
                    self._due = time.monotonic() + _LOOK_SECONDS
                self._start_what_may()
            except Exception as error:
                self._give_up(error)

    def add(self, share: _Share) -> None:
        self.shares.append(share)
        if len(self.shares) == 1:
            self.workers.begin()
        around = share.around
        steps = [same[0] for key, same in share.steps.items() if key in share.left]
        self.lineup.add(pending_of(steps, around.alike, around.seconds, around.needs))

    def end(self, share: _Share, error: BaseException) -> None:
        """Ends what one caller wants, and stops what nobody else does."""
        if share not in self.shares:
            return
        self.shares.remove(share)
        share.fault = error
        try:
            for key in [key for key in share.left if not self.wanting(key)]:
                is_left = self.leaves and isinstance(error, Interrupted) and self.lineup.running.get(key)
                if not is_left:
                    self._stop(key)
                self.lineup.drop(key)
        finally:
            share.over.set()

    def shut(self) -> None:
        self._give_up(Interrupted("the run was ended"))
        self._is_open = False

    def _hear(self) -> None:
        try:
            self.events.get(timeout=_LOOK_SECONDS / 2)()
            while True:
                self.events.get_nowait()()
        except queue.Empty:
            return

    def _look(self) -> None:
        joined, left = self.workers.look(frozenset(self.lineup.tasks))
        for name in left:
            for key in self.lineup.leave(name):
                self._lost(key, is_counted=True)
        for one in joined:
            self.lineup.join(one.place, one.room, one.holds)
        waits = any(task.where == "anywhere" for task in self.lineup.tasks.values())
        if waits and not self.lineup.n_places and (error := self.workers.lack()):
            self._give_up(error)

    def _start_what_may(self) -> None:
        while found := self.lineup.next():
            task, place = found
            key, share = task.key, next(s for s in self.shares if task.key in s.left)
            tell = self._teller(key)
            try:
                self._start(share, key, place, tell)
            except Exception as error:  # of this step alone
                tell(Outcome(error=error))

    def _start(self, share: _Share, key: str, place: WorkPlace | None, tell: Callable[[Outcome], None]) -> None:
        for one in self.wanting(key):
            one.around.watch.started(one.steps[key][0].label, place.name if place else HERE)
        step = share.steps[key][0]
        given = Assignment(
            step=step,
            place=place,
            entries={made.key: share.entries[made.key] for made in made_of(step)},
            around=replace(share.around, watch=_Handing(self, key)),
            whole=key in share.again,
        )
        twin = share.around.alike.get(key)
        if twin and (same := twin.finished(share.entries)):
            self.own.start(given, twin.taken_over(same), tell)
        elif place is None:
            self.own.start(given, work_of(step, given.entries, given.around), tell)
        else:
            self.workers.start(given, tell)

    def _teller(self, key: str) -> Callable[[Outcome], None]:
        """What an attempt tells its end with; once there is another, it is not heard any more."""
        ticket = self._tickets[key] = object()
        return lambda outcome: self.events.put(lambda: self._over(key, outcome, ticket))

    def _over(self, key: str, outcome: Outcome, ticket: object) -> None:
        if self._tickets.get(key) is not ticket or key not in self.lineup.running:
            return
        if outcome.was_killed and key not in self._killed:
            self._killed.add(key)
            self.lineup.again_alone(key)
        elif outcome.error is not None:
            for share in self.wanting(key):
                self.end(share, outcome.error)
        elif outcome.entry is None:
            self.lineup.again(key)
            self._lost(key, is_counted=outcome.is_counted)
        else:
            self.lineup.finished(key)
            for share in self.wanting(key):
                self._have(share, key, outcome.entry, fresh=outcome.fresh)

    def _have(self, share: _Share, key: str, entry: Entry, *, fresh: bool) -> None:
        share.entries[key] = entry
        share.left.discard(key)
        for n, step in enumerate(share.steps[key]):
            share.around.watch.finished(step, entry, fresh=fresh and not n)
        if not share.left:
            self.shares.remove(share)
            share.over.set()

    def _lost(self, key: str, *, is_counted: bool) -> None:
        """A step goes elsewhere, unless it loses every worker that it is given."""
        self._tickets.pop(key, None)
        n = self._n_lost[key] = self._n_lost.get(key, 0) + is_counted
        if n > self.workers.n_failures:
            hint = "perhaps memory ran out: `lwq plan` says what the step needs; the same command goes on"
            for share in self.wanting(key):
                told = f"{share.steps[key][0].label}: {n} workers were lost while they carried it out"
                self.end(share, ClusterError(told, hint=hint))

    def wanting(self, key: str) -> list[_Share]:
        """Whoever waits for a step."""
        return [share for share in list(self.shares) if key in share.left]

    def _stop(self, key: str) -> None:
        place = self.lineup.running.get(key)
        self._tickets.pop(key, None)
        if place == HERE:
            self.own.stop(key)
        elif place is not None:
            self.own.stop(key)  # a twin's, which is taken over here
            self.workers.stop(place, key)

    def _give_up(self, error: BaseException) -> None:
        for share in list(self.shares):
            self.end(share, error)


@dataclass(frozen=True, slots=True)
class _Handing:
    """Hands a step's progress on to all who wait for it."""

    deciding: _Deciding
    key: str

    def started(self, label: str, where: str = "") -> None: ...

    def progress(self, label: str, done: int, total: int) -> None:
        for share in self.deciding.wanting(self.key):
            share.around.watch.progress(share.steps[self.key][0].label, done, total)

    def finished(self, step: AnyStep, entry: Entry, *, fresh: bool) -> None: ...
