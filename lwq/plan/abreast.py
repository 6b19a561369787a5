"""Orders carried out abreast by one crew: each has a thread, and all but the waiting for steps is done in turn."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final, Protocol

from lwq.errors import Interrupted, LwqError
from lwq.llama.process_group import stoppable
from lwq.plan.dispatch import Dispatcher
from lwq.plan.execution import Crew, Surroundings
from lwq.plan.plan import AnyStep
from lwq.plan.queue import Client, StoppedOrder, is_our_turn, noted
from lwq.store.cache import Entry
from lwq.store.ledger import Ledger, Order

_LOOK_SECONDS: Final = 0.5
_END_SECONDS: Final = 15.0


class CrewCarrier(Protocol):
    """Carries out an order by a crew; raises as a ``Carrier`` does."""

    def __call__(self, order: Order, crew: Crew) -> None: ...


class _InTurn:
    """A crew that lets the other orders go on while one waits for its steps."""

    def __init__(self, crew: Dispatcher, turn: threading.Lock, all_crews: Mapping[int, _InTurn]) -> None:
        self.crew, self.turn, self.all_crews = crew, turn, all_crews
        self.keys = frozenset[str]()
        """Of the steps that it waits for."""
        self.around: Surroundings | None = None
        self.stopped = threading.Event()

    def execute(self, steps: tuple[AnyStep, ...], around: Surroundings) -> dict[str, Entry]:
        if self.stopped.is_set():
            raise Interrupted("stopped")
        self.around, self.keys = around, frozenset(step.key for step in steps)
        self.turn.release()
        try:
            return self.crew.execute(steps, around)
        finally:
            self.turn.acquire()
            self.keys = frozenset()

    def is_wanted(self, key: str) -> bool:
        """Whether another order waits for steps of which this is one; it is asked in turn, so none begins meanwhile."""
        return any(key in crew.keys for crew in self.all_crews.values())

    def interrupt(self) -> None:
        """Ends its steps, or what it does instead of them as soon as that runs a program or comes to steps."""
        self.stopped.set()
        if self.around:
            self.crew.interrupt(self.around)


def work_off_abreast(
    ledger: Ledger, orders: Sequence[Order], carry: CrewCarrier, client: Client, crew: Dispatcher
) -> None:
    """Carries out orders; the next begins as soon as a place has nothing to do, and one that fails stops no other.

    Raises:
        Interrupted: by the user; what has not begun stays queued.
    """
    abreast = _Abreast(ledger, sorted(orders, key=lambda order: order.id), carry, client, crew)
    while True:
        try:
            if not abreast.go_on():
                return
        except Interrupted:
            if not abreast.stop_what_was_asked():
                abreast.end()
                raise


class _Abreast:
    """Orders that wait, and those that have a thread."""

    def __init__(
        self, ledger: Ledger, orders: list[Order], carry: CrewCarrier, client: Client, crew: Dispatcher
    ) -> None:
        self.ledger, self.waiting, self.carry, self.client, self.crew = ledger, orders, carry, client, crew
        self.turn = threading.Lock()
        self.threads: dict[int, threading.Thread] = {}
        self.crews: dict[int, _InTurn] = {}
        self.ends: queue.SimpleQueue[tuple[Order, BaseException | None]] = queue.SimpleQueue()

    def go_on(self) -> bool:
        """Begins the next order, or tells how one ended; False where none is left."""
        if not self.waiting and not self.threads:
            return False
        if self.waiting and not self.turn.locked() and (not self.threads or self.crew.has_room()):
            order = self.waiting.pop(0)
            self.crews[order.id] = _InTurn(self.crew, self.turn, self.crews)
            thread = threading.Thread(target=self._run, args=(order,), name=f"lwq-{order.name}", daemon=True)
            self.threads[order.id] = thread
            thread.start()
        try:
            order, fault = self.ends.get(timeout=_LOOK_SECONDS)
        except queue.Empty:
            return True
        del self.threads[order.id]
        if fault is not None and not isinstance(fault, LwqError):
            raise fault
        with self.turn:  # no other run draws or prints meanwhile
            self.client.ended(order, fault)
        return True

    def stop_what_was_asked(self) -> bool:
        """Whether somebody asked for some more orders to be stopped, which is done; else the user meant all."""
        at_work = [order for order in self.ledger.orders() if order.id in self.threads and order.stop_asked]
        asked = [crew for order in at_work if not (crew := self.crews[order.id]).stopped.is_set()]
        for crew in asked:
            crew.interrupt()
        return bool(asked)

    def end(self) -> None:
        """Ends what runs, and waits until that is noted."""
        for crew in self.crews.values():
            crew.interrupt()
        until = time.monotonic() + _END_SECONDS
        for thread in self.threads.values():
            thread.join(max(0.0, until - time.monotonic()))

    def _run(self, order: Order) -> None:
        fault: BaseException | None = None
        crew, begin = self.crews[order.id], partial(is_our_turn, self.ledger, order.id, self.client)
        try:
            with noted(self.ledger, order.id, begin) as is_taken, stoppable(crew.stopped.is_set):
                if is_taken:
                    with self.turn:
                        self.carry(order, crew)
                else:
                    fault = StoppedOrder("stopped before it began")
        except BaseException as error:
            fault = error
        self.ends.put((order, fault))
