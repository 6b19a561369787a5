"""Workers of dask.distributed: of this machine, or of any scheduler. Nothing else of lwq knows dask.

Steps are handed out one to a worker, as tasks that are bound to it; questions and pieces of files go beside them.
"""

from __future__ import annotations

import pickle
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from lwq.errors import ClusterError, Interrupted
from lwq.plan import errand, travel
from lwq.plan.errand import Answer, Errand, Untold
from lwq.plan.greeting import Greeting, greeting, refusal
from lwq.plan.lineup import WorkPlace
from lwq.plan.parcels import fetched, sent
from lwq.plan.plan import Machine
from lwq.plan.worker import TOPIC, Said, aside, carry, greet
from lwq.plan.workers import Assignment, Joined, Outcome

_ANSWER_SECONDS: Final = 30
_STOP_SECONDS: Final = 5
_WAIT_SECONDS: Final = 60.0
_N_TRANSFERS: Final = 8
Tell = Callable[[Outcome], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """A worker that may be used."""

    address: str
    place: WorkPlace
    greeting: Greeting
    is_shared: bool
    """Its cache is the client's."""
    n_threads: int


class Cluster:
    """``Workers`` that a dask scheduler has."""

    def __init__(self, client: Any, machine: Machine, device: str, own: Any = None, cpus: tuple[Any, ...] = ()) -> None:
        """``own``: the LocalCluster, where it is ours to end; ``cpus``: of each of its workers."""
        from dask import config

        self.client, self.machine, self.device = client, machine, device
        self.own, self.cpus = own, cpus
        self.n_failures = int(config.get("distributed.scheduler.allowed-failures"))
        self.ours = greeting(device, machine.toolchain)
        self.refused: dict[str, str] = {}
        """Address → why a worker is not used."""
        self.on_note: Callable[[str], None] = lambda text: None
        self._members: dict[str, _Member] = {}
        self._attempts: dict[str, _Attempt] = {}
        """By key of the step."""
        self.pool = ThreadPoolExecutor(_N_TRANSFERS, thread_name_prefix="lwq-transfer")
        self._seen = time.monotonic()
        client.subscribe_topic(TOPIC, self._heard)

    def look(self, wanted: frozenset[str]) -> tuple[list[Joined], list[str]]:
        if self.client.status == "closed":
            raise self._gone()
        try:
            found = self.client.sync(self.client.scheduler.identity, n_workers=-1, callback_timeout=_ANSWER_SECONDS)
        except OSError:
            found = {"workers": {}}
        workers = found["workers"]
        left = [member for address, member in self._members.items() if address not in workers]
        for member in left:
            del self._members[member.address]
            self._forget_at(member.address)
        new = [a for a, facts in workers.items() if a not in self._members and a not in self.refused]
        joined = [one for one in self.pool.map(lambda a: self._join(a, workers[a], wanted), new) if one]
        if self._members:
            self._seen = time.monotonic()
        return joined, [member.place.name for member in left]

    def start(self, given: Assignment, tell: Tell) -> None:
        member = next(m for m in list(self._members.values()) if m.place is given.place)
        attempt = self._attempts[given.step.key] = _Attempt(self, given, member, tell)
        attempt.submit()

    def stop(self, place: str, key: str) -> None:
        if attempt := self._attempts.pop(key, None):
            attempt.stop()

    def lack(self) -> ClusterError | None:
        if time.monotonic() - self._seen < _WAIT_SECONDS:
            return None
        told = "".join(f"\n  {named(address)} {why}" for address, why in self.refused.items())
        if self.own:
            return ClusterError("no worker of this machine is left", hint="the same command goes on")
        where = self.client.scheduler.address
        hint = f"start one, `dask worker {where}` (docs/cluster.md); the same command goes on"
        return ClusterError(f"no worker of the scheduler {where} can be used{told}", hint=hint)

    def close(self, *, leave: bool = False) -> None:
        from distributed import fire_and_forget

        if leave:
            for attempt in self._attempts.values():
                fire_and_forget(attempt.future)
        self.pool.shutdown(wait=False, cancel_futures=True)
        with suppress(Exception):
            self.client.close(timeout=_STOP_SECONDS)
        if self.own:
            with suppress(Exception):
                self.own.close(timeout=_STOP_SECONDS)

    def _gone(self) -> ClusterError:
        hint = "start it again; finished steps are kept, and the same command goes on"
        return ClusterError(f"the scheduler {self.client.scheduler.address} does not answer any more", hint=hint)

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
        self._members[address] = _Member(
            address=address, place=place, greeting=theirs, is_shared=is_shared, n_threads=n_threads
        )
        return Joined(place=place, room=theirs.room, holds=has)

    def threads(self, member: _Member) -> int:
        """Threads of a worker's tools: its share of its machine."""
        if self.own:
            return member.n_threads
        beside = sum(other.place.host == member.place.host for other in list(self._members.values()))
        return max(1, member.n_threads // beside)

    def ask(self, address: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a worker answers beside its tasks; raises OSError where it is not there any more."""
        said = self.client.run(function, *arguments, workers=[address]).get(address)
        if not isinstance(said, Said):
            raise ConnectionError(address)
        if said.error:
            said.error.message = f"{named(address)}: {said.error.message}"
            raise said.error
        return said.value

    def over(self, attempt: _Attempt) -> None:
        """An attempt that told its end is forgotten, unless there is another by now."""
        if self._attempts.get(attempt.given.step.key) is attempt:
            del self._attempts[attempt.given.step.key]

    def _forget_at(self, address: str) -> None:
        for key in [key for key, attempt in list(self._attempts.items()) if attempt.member.address == address]:
            self._attempts.pop(key).forget()

    def _heard(self, event: Any) -> None:
        key, done, total = event[1]["what"]
        if attempt := self._attempts.get(key):
            attempt.given.around.watch.progress(attempt.given.step.label, done, total)


@dataclass(slots=True, eq=False)
class _Attempt:
    """A step that a worker was given: handed out, what it lacks sent and it handed out again, what it made fetched."""

    cluster: Cluster
    given: Assignment
    member: _Member
    on_end: Tell
    future: Any = None
    is_off: bool = False

    def tell(self, outcome: Outcome) -> None:
        self.cluster.over(self)
        self.on_end(outcome)

    def submit(self) -> None:
        if self.is_off:
            return
        step = self.given.step
        self.future = self.cluster.client.submit(
            carry,
            pickle.dumps(self._errand()),
            key=f"lwq-{step.module.NAME}-{step.key[:12]}-{uuid.uuid4().hex[:8]}",
            workers=[self.member.address],
            pure=False,
        )
        self.future.add_done_callback(self._done)

    def stop(self) -> None:
        """Ends it there, with its tools."""
        self.forget()
        with suppress(Exception):  # a worker that is gone has stopped
            self._ask(errand.stop, self.given.step.key)

    def forget(self) -> None:
        self.is_off = True
        if self.future is not None:
            self.future.cancel()

    def _errand(self) -> Errand:
        step, around, own = self.given.step, self.given.around, self.cluster.own
        return Errand(
            module=step.module.__name__,
            title=step.title,
            inputs=step.inputs,
            key_value=step.key_value,
            key=step.key,
            wanted=travel.wanted_by(step, self.given.entries, around.given, around.cache.root),
            work=around.work.get(step.key, 0.0),
            whole=self.given.whole or not self.member.is_shared,
            device=self.cluster.device,
            toolchain=self.cluster.machine.toolchain if own else None,
            n_threads=self.cluster.threads(self.member),
            told_threads=around.machine.n_threads,
            is_shared=self.member.is_shared,
        )

    def _done(self, future: Any) -> None:
        """What the task came to; runs in a thread of dask."""
        if self.is_off:
            return
        try:
            if future.status in ("cancelled", "lost"):
                self.tell(Outcome(is_counted=False))
                return
            answer = self._answer(future)
        except OSError:
            self.tell(Outcome(is_counted=False))
        except Exception as error:
            told = f"{self.given.step.label}: {named(self.member.address)}: {type(error).__name__}: {error}"
            self.tell(Outcome(error=ClusterError(told)))
        else:
            self._answered(answer)

    def _answer(self, future: Any) -> Answer:
        """What the worker says; of a cache that is shared nothing is asked for where all went well."""
        if self.member.is_shared and future.status == "finished":
            return Answer(fresh=True)
        try:
            answer: Answer = future.result(timeout=_ANSWER_SECONDS)
        except Untold as told:
            return told.answer
        return answer

    def _answered(self, answer: Answer) -> None:
        if isinstance(answer.error, Interrupted):
            self.tell(Outcome())
        elif answer.error:
            self.tell(Outcome(error=answer.error, was_killed=answer.was_killed))
        elif answer.lacking or not self.member.is_shared:
            self.cluster.pool.submit(self._move, answer)
        else:
            entry = self.given.around.cache.lookup(self.given.step.module.NAME, self.given.step.key)
            self.tell(Outcome(entry=entry, fresh=answer.fresh))

    def _move(self, answer: Answer) -> None:
        """Sends what the worker lacks, or fetches what it made."""
        home = self.member.greeting.home
        try:
            if answer.lacking:
                sent(answer.lacking, home, self._ask)
                self.submit()
            else:
                entry = fetched(self.given, answer, home, self._ask)
                self.tell(Outcome(entry=entry, fresh=answer.fresh))
        except OSError:
            self.tell(Outcome())
        except Exception as error:
            self.tell(Outcome(error=error))

    def _ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return self.cluster.ask(self.member.address, aside, function, *arguments)


def named(address: str) -> str:
    """A worker as a user knows it."""
    return f"worker {address.partition('://')[2]}"
