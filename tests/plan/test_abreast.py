"""Orders abreast: they share a crew and its steps; one that fails or is stopped leaves the others."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from lwq.errors import Interrupted, ModelError
from lwq.plan.abreast import work_off_abreast
from lwq.plan.dispatch import Dispatcher
from lwq.plan.execution import Crew, execute
from lwq.plan.plan import AnyStep
from lwq.plan.queue import stop
from lwq.store.ledger import Order
from tests.idle_steps import Where, around, idle
from tests.plan.test_dispatch import Threads
from tests.plan.test_queue import Client, _interrupts, queued
from tests.store.test_ledger import states

__all__ = ["_interrupts"]


@pytest.fixture
def crew() -> Iterator[Dispatcher]:
    made = Dispatcher(Threads())
    yield made
    made.close()


def carrying(
    root: Path, work: Mapping[str, tuple[AnyStep, ...]], watches: Mapping[str, Where]
) -> Callable[[Order, Crew], None]:
    def carry(order: Order, crew: Crew) -> None:
        execute(work[order.name], around(root, crew, watch=watches[order.name]))

    return carry


def test_orders_run_beside_each_other_and_one_that_fails_stops_none(tmp_path: Path, crew: Dispatcher) -> None:
    ledger, orders = queued(tmp_path, "a", "b", "c")
    shared = idle("shared", seconds=0.5, log=str(tmp_path / "log"))
    work = {"a": (shared, idle("a", shared)), "b": (idle("b", fails="broken"),), "c": (shared, idle("c", shared))}
    client, watches = Client(), {name: Where() for name in work}
    work_off_abreast(ledger, orders, carrying(tmp_path, work, watches), client, crew)
    assert states(ledger) == {"a": "done", "b": "failed", "c": "done"}
    assert isinstance(client.ends["b"], ModelError)
    assert (client.ends["a"], client.ends["c"]) == (None, None)
    assert (tmp_path / "log").read_text(encoding="utf-8") == "shared\n"
    assert watches["c"].fresh[-1] == "idle:c"


def test_two_orders_of_one_step_each_overlap(tmp_path: Path, crew: Dispatcher) -> None:
    ledger, orders = queued(tmp_path, "a", "b")
    watch = Where()
    work = {name: (idle(name, seconds=3.0),) for name in "ab"}
    work_off_abreast(ledger, orders, carrying(tmp_path, work, {"a": watch, "b": watch}), Client(), crew)
    assert [what for what, _ in watch.events] == ["started", "started", "finished", "finished"]
    assert set(watch.places.values()) == {"w0", "w1"}


def test_what_nobody_foresaw_is_raised(tmp_path: Path, crew: Dispatcher) -> None:
    ledger, orders = queued(tmp_path, "a")

    def carry(order: Order, crew: Crew) -> None:
        raise ZeroDivisionError("of nothing")

    with pytest.raises(ZeroDivisionError):
        work_off_abreast(ledger, orders, carry, Client(), crew)
    assert ledger.orders()[0].state == "failed"


def test_one_order_is_stopped_and_the_other_goes_on(tmp_path: Path, crew: Dispatcher) -> None:
    ledger, orders = queued(tmp_path, "long", "short")
    work = {"long": (idle("long", seconds=600.0),), "short": (idle("short", seconds=4.0),)}
    client, watches = Client(), {name: Where() for name in work}

    def stop_it() -> None:
        while not watches["short"].events:
            time.sleep(0.05)
        stop(ledger, [orders[0]], seconds=20.0)

    thread = threading.Thread(target=stop_it)
    thread.start()
    work_off_abreast(ledger, orders, carrying(tmp_path, work, watches), client, crew)
    thread.join()
    assert states(ledger) == {"long": "stopped", "short": "done"}
    assert client.ends["short"] is None


def test_the_users_interrupt_ends_all_and_what_has_not_begun_stays_queued(tmp_path: Path, crew: Dispatcher) -> None:
    names = ("a", "b", "c")
    ledger, orders = queued(tmp_path, *names)
    work = {name: (idle(name, seconds=600.0),) for name in names}
    watches = {name: Where() for name in names}

    def interrupt() -> None:
        while not (watches["a"].events and watches["b"].events):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(Interrupted):
        work_off_abreast(ledger, orders, carrying(tmp_path, work, watches), Client(), crew)
    thread.join()
    assert states(ledger) == {"a": "stopped", "b": "stopped", "c": "queued"}
    assert not watches["c"].events
