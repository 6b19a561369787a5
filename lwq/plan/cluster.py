"""Workers of dask.distributed: of this machine, or of any scheduler. Nothing else of lwq knows dask.

Steps are handed out one to a worker, as tasks that are bound to it; questions and pieces of files go beside them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final

from lwq.errors import ClusterError
from lwq.plan import errand
from lwq.plan.attempt import ANSWER_SECONDS, Attempt, Member, Tell, named
from lwq.plan.greeting import Greeting, greeting, refusal
from lwq.plan.lineup import WorkPlace
from lwq.plan.plan import Machine
from lwq.plan.worker import TOPIC, Said, aside, greet
from lwq.plan.workers import Assignment, Joined

_STOP_SECONDS: Final = 5
_WAIT_SECONDS: Final = 60.0
_N_TRANSFERS: Final = 8
_N_JOINS: Final = 8


class Cluster:
    """``Workers`` that a dask scheduler has."""

    def __init__(
        self,
        client: Any,
        machine: Machine,
        device: str,
        on_note: Callable[[str], None] = lambda text: None,
        *,
        own: Any = None,
        cpus: tuple[Any, ...] = (),
    ) -> None:
        """``own``: the LocalCluster, where it is ours to end; ``cpus``: of each of its workers."""
        from dask import config

        self.client, self.machine, self.device = client, machine, device
        self.own, self.cpus = own, cpus
        self.n_failures = int(config.get("distributed.scheduler.allowed-failures"))
        self.ours = greeting(device, machine.toolchain)
        self.refused: dict[str, str] = {}
        """Address → why a worker is not used."""
        self.on_note = on_note
        self._members: dict[str, Member] = {}
        self._attempts: dict[str, Attempt] = {}
        """By key of the step."""
        self.pool = ThreadPoolExecutor(_N_TRANSFERS, thread_name_prefix="lwq-transfer")
        self._joins = ThreadPoolExecutor(_N_JOINS, thread_name_prefix="lwq-join")
        self._hears = ThreadPoolExecutor(1, thread_name_prefix="lwq-progress")
        """Notes progress, which may wait for a disk, beside what dask hears by."""
        self._hung: dict[str, float] = {}
        """Address → until when a worker that did not answer is not asked again."""
        self._seen = time.monotonic()
        client.subscribe_topic(TOPIC, self._heard)

    def begin(self) -> None:
        self._seen = time.monotonic()

    def look(self, wanted: frozenset[str]) -> tuple[list[Joined], list[str]]:
        if self.client.status == "closed":
            raise _gone(self.client.scheduler.address)
        try:
            found = self.client.sync(self.client.scheduler.identity, n_workers=-1, callback_timeout=ANSWER_SECONDS)
        except OSError:
            found = {"workers": {}}
        now = time.monotonic()
        self._hung = {address: until for address, until in list(self._hung.items()) if until > now}
        workers = {address: facts for address, facts in found["workers"].items() if address not in self._hung}
        left = [member for address, member in self._members.items() if address not in workers]
        for member in left:
            del self._members[member.address]
            self._forget_at(member.address)
        new = [a for a, facts in workers.items() if a not in self._members and a not in self.refused]
        joined = [one for one in self._joins.map(lambda a: self._join(a, workers[a], wanted), new) if one]
        if self._members:
            self._seen = time.monotonic()
        return joined, [member.place.name for member in left]

    def start(self, given: Assignment, tell: Tell) -> None:
        member = next(m for m in list(self._members.values()) if m.place is given.place)
        attempt = self._attempts[given.step.key] = Attempt(self, given, member, tell)
        attempt.submit()

    def stop(self, place: str, key: str) -> None:
        if attempt := self._attempts.pop(key, None):
            attempt.stop()

    def lack(self) -> ClusterError | None:
        if time.monotonic() - self._seen < _WAIT_SECONDS:
            return None
        silent = dict.fromkeys(self._hung, f"did not answer within {ANSWER_SECONDS} s")
        told = "".join(f"\n  {named(address)} {why}" for address, why in (self.refused | silent).items())
        return _none_left("" if self.own else self.client.scheduler.address, told)

    def close(self, *, leave: bool = False) -> None:
        from distributed import fire_and_forget

        if leave:
            for attempt in self._attempts.values():
                fire_and_forget(attempt.future)
        for pool in (self.pool, self._joins, self._hears):
            pool.shutdown(wait=False, cancel_futures=True)
        with suppress(Exception):
            self.client.close(timeout=_STOP_SECONDS)
        if self.own:
            with suppress(Exception):
                self.own.close(timeout=_STOP_SECONDS)

    def _join(self, address: str, facts: Any, wanted: frozenset[str]) -> Joined | None:
        """A worker that greets us as one who computes the same; of others it is told why not."""
        number = int(facts["name"]) % len(self.cpus) if self.cpus else 0
        try:
            own = (self.machine.toolchain, self.cpus[number]) if self.own else (None, None)
            theirs = self.ask(address, greet, self.device, *own)
            has = self.ask(address, aside, errand.held, wanted) if not self.own and wanted else frozenset()
        except OSError:
            return None  # it is asked again with the next look, if it is still there
        except Exception as error:
            self.refused[address] = f"cannot be used: {type(error).__name__}: {error}"
            self.on_note(f"note: {named(address)} {self.refused[address]}")
            return None
        if why := refusal(self.ours, theirs):
            self.refused[address] = why
            self.on_note(f"note: {named(address)} is not used: it {why}")
            return None
        return self._member(address, facts, theirs, has)

    def _member(self, address: str, facts: Any, theirs: Greeting, has: frozenset[str]) -> Joined:
        name = f"worker {int(facts['name']) + 1}" if self.own else named(address).removeprefix("worker ")
        is_here = theirs.host == self.ours.host
        place = WorkPlace(name=name, host=theirs.host, is_here=is_here)
        is_shared = is_here and theirs.home == self.ours.home
        n_threads = max(1, min(self.machine.n_threads, theirs.n_cpus)) if self.own else theirs.n_cpus
        self._members[address] = Member(
            address=address, place=place, greeting=theirs, is_shared=is_shared, n_threads=n_threads
        )
        return Joined(place=place, room=theirs.room, holds=has)

    def threads(self, member: Member) -> int:
        """Threads of a worker's tools: its share of its machine."""
        if self.own:
            return member.n_threads
        beside = sum(other.place.host == member.place.host for other in list(self._members.values()))
        return max(1, member.n_threads // beside)

    def ask(self, address: str, function: Callable[..., Any], *arguments: Any, seconds: float = ANSWER_SECONDS) -> Any:
        """What a worker answers beside its tasks; who does not within so long is for a while as if it had left.

        Raises:
            OSError: it is not there any more, or does not answer.
        """
        if address in self._hung:
            raise ConnectionError(address)
        try:
            said = self.client.run(function, *arguments, workers=[address], callback_timeout=seconds).get(address)
        except TimeoutError:
            self._hung[address] = time.monotonic() + ANSWER_SECONDS
            raise
        if not isinstance(said, Said):
            raise ConnectionError(address)
        if said.error:
            said.error.message = f"{named(address)}: {said.error.message}"
            raise said.error
        return said.value

    def over(self, attempt: Attempt) -> None:
        """An attempt that told its end is forgotten, unless there is another by now."""
        if self._attempts.get(attempt.given.step.key) is attempt:
            del self._attempts[attempt.given.step.key]

    def _forget_at(self, address: str) -> None:
        for key in [key for key, attempt in list(self._attempts.items()) if attempt.member.address == address]:
            self._attempts.pop(key).forget()

    def _heard(self, event: Any) -> None:
        key, done, total = event[1]["what"]
        if attempt := self._attempts.get(key):
            with suppress(RuntimeError):  # closed meanwhile
                self._hears.submit(attempt.given.around.watch.progress, attempt.given.step.label, done, total)


def _gone(scheduler: str) -> ClusterError:
    hint = "start it again; finished steps are kept, and the same command goes on"
    return ClusterError(f"the scheduler {scheduler} does not answer any more", hint=hint)


def _none_left(scheduler: str, told: str) -> ClusterError:
    """``told``: why each that there is is not used; no scheduler: workers of this machine."""
    if not scheduler:
        return ClusterError(f"no worker of this machine is left{told}", hint="the same command goes on")
    hint = f"start one, `dask worker {scheduler}` (docs/cluster.md); the same command goes on"
    return ClusterError(f"no worker of the scheduler {scheduler} can be used{told}", hint=hint)
