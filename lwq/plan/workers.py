"""Who carries steps out, as the dispatcher sees it: places that come and go, and this process itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lwq.errors import ClusterError
from lwq.llama.process_group import stoppable
from lwq.plan.execution import Surroundings
from lwq.plan.graph import Needs
from lwq.plan.lineup import WorkPlace
from lwq.plan.plan import AnyStep
from lwq.store.cache import Entry

Work = Callable[[Path], Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A step that is to be carried out at a place."""

    step: AnyStep
    place: WorkPlace | None
    """None: in the client's process."""
    entries: Mapping[str, Entry]
    """What is finished, by key."""
    around: Surroundings
    whole: bool
    """An entry that lacks released outputs does not do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of an assignment: an entry in the client's cache, an error, or neither, where its worker is gone."""

    entry: Entry | None = None
    fresh: bool = True
    error: BaseException | None = None
    is_counted: bool = True
    """The step may be what the worker was lost by."""
    was_killed: bool = False
    """The error is that the system killed a process, as it does when memory runs out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """A place that can be used now."""

    place: WorkPlace
    room: Needs
    holds: frozenset[str] = frozenset()


class Workers(Protocol):
    """Who carries steps out. All but ``start``'s functions is called by one thread."""

    @property
    def n_failures(self) -> int:
        """How often a step may lose its worker."""

    def begin(self) -> None:
        """There is something to do, after there was nothing: from now on ``lack`` waits for workers."""

    def look(self, wanted: frozenset[str]) -> tuple[list[Joined], list[str]]:
        """Places that joined since the last look, and names of those that left; raises ClusterError.

        Args:
            wanted: keys of steps that are still to do: places say which of them they have.
        """

    def start(self, given: Assignment, tell: Callable[[Outcome], None]) -> None:
        """Begins a step, and tells once what came of it, from any thread; its progress goes to the watch."""

    def stop(self, place: str, key: str) -> None:
        """Ends a step that runs, with its tools."""

    def lack(self) -> ClusterError | None:
        """Why nothing can be carried out, where no place is left and none came for long enough."""

    def close(self, *, leave: bool) -> None:
        """Lets the workers go; with ``leave`` they finish what they have begun."""


class ThisProcess:
    """Carries out steps that are quick, or that measure speeds, each in a thread of this process."""

    def __init__(self) -> None:
        self._asked: dict[str, threading.Event] = {}

    def start(self, given: Assignment, work: Work, tell: Callable[[Outcome], None]) -> None:
        """Begins a step, whose folder ``work`` fills."""
        step, asked = given.step, threading.Event()
        self._asked[step.key] = asked

        def run() -> None:
            try:
                with stoppable(asked.is_set):
                    cache = given.around.cache
                    entry, fresh = cache.build(step.module.NAME, step.key_value, work, whole=given.whole)
                tell(Outcome(entry=entry, fresh=fresh))
            except BaseException as error:
                tell(Outcome(error=error))

        threading.Thread(target=run, name=f"lwq-{step.module.NAME}", daemon=True).start()

    def stop(self, key: str) -> None:
        """Ends the tools of a step that runs here."""
        if asked := self._asked.get(key):
            asked.set()
