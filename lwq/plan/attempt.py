"""A step's way to a worker and back, for whoever knows how to reach workers."""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

from lwq.errors import ClusterError, Interrupted, LwqError
from lwq.plan import errand, travel
from lwq.plan.errand import Answer, Errand, Untold
from lwq.plan.greeting import Greeting
from lwq.plan.lineup import WorkPlace
from lwq.plan.parcels import fetched, sent
from lwq.plan.plan import Machine
from lwq.plan.travel import settle
from lwq.plan.worker import aside, carry
from lwq.plan.workers import Assignment, Outcome

ANSWER_SECONDS: Final = 30
_PIECE_SECONDS: Final = 300.0
"""That a piece of a file may take on its way."""
_SETTLE_SECONDS: Final = 7200.0
"""That a worker may take to read whole files again that it was sent."""
Tell = Callable[[Outcome], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A worker that may be used."""

    address: str
    place: WorkPlace
    greeting: Greeting
    is_shared: bool
    """Its cache is the client's."""
    n_threads: int


class Reach(Protocol):
    """What reaches workers."""

    client: Any
    """dask's."""
    machine: Machine
    device: str
    own: Any
    """Not None: workers of this machine."""
    pool: ThreadPoolExecutor
    """Of what moves files."""

    def ask(self, address: str, function: Callable[..., Any], *arguments: Any, seconds: float = ANSWER_SECONDS) -> Any:
        """What a worker answers within so long; raises OSError where it does not, or is not there any more."""

    def threads(self, member: Member) -> int:
        """Threads of a worker's tools."""

    def over(self, attempt: Attempt) -> None:
        """An attempt told its end."""


@dataclass(slots=True, eq=False)
class Attempt:
    """A step that a worker was given: handed out, what it lacks sent and it handed out again, what it made fetched."""

    cluster: Reach
    given: Assignment
    member: Member
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
        try:
            pickled = pickle.dumps(self._errand())
        except Exception as error:  # a given file that vanished meanwhile: an error of this step alone
            told = ClusterError(f"{step.label}: cannot be handed out: {type(error).__name__}: {error}")
            self.tell(Outcome(error=error if isinstance(error, LwqError) else told))
            return
        self.future = self.cluster.client.submit(
            carry,
            pickled,
            key=f"lwq-{step.module.NAME}-{step.key[:12]}-{uuid.uuid4().hex[:8]}",
            workers=[self.member.address],
            pure=False,
        )
        self.future.add_done_callback(self._done)
        if self.is_off:  # since the question above
            self.future.cancel()

    def stop(self) -> None:
        """Ends it there, with its tools."""
        self.forget()
        with suppress(Exception):  # a worker that is gone has stopped
            self.cluster.ask(self.member.address, aside, errand.stop, self.given.step.key)

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
            answer: Answer = future.result(timeout=ANSWER_SECONDS)
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
        seconds = _SETTLE_SECONDS if function is settle else _PIECE_SECONDS
        return self.cluster.ask(self.member.address, aside, function, *arguments, seconds=seconds)


def named(address: str) -> str:
    """A worker as a user knows it."""
    return f"worker {address.partition('://')[2]}"
