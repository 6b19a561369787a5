"""Orders are carried out in turn: one that fails or is stopped leaves the others, ^C leaves them queued."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lwq.errors import Interrupted, LwqError, ToolError
from lwq.plan.queue import StoppedOrder, noted, stop, work_off
from lwq.store.ledger import Ledger, Order
from lwq.store.living import Living
from tests.store.test_ledger import asking, states

ME = Living.me()


@dataclass
class Client:
    """Remembers what it was told."""

    waited: list[str] = field(default_factory=list)
    ends: dict[str, LwqError | None] = field(default_factory=dict)

    def waits(self, other: Order) -> None:
        self.waited.append(other.name)

    def ended(self, order: Order, fault: LwqError | None) -> None:
        self.ends[order.name] = fault


@pytest.fixture(autouse=True)
def _interrupts() -> Iterator[None]:
    """Signals are what they are in the command."""

    def interrupted(*_: object) -> None:
        raise Interrupted("interrupted")

    before = signal.signal(signal.SIGINT, interrupted)
    yield
    signal.signal(signal.SIGINT, before)


def queued(folder: Path, *names: str) -> tuple[Ledger, list[Order]]:
    ledger = Ledger(folder)
    ledger.post([asking(name) for name in names], ME)
    return ledger, list(ledger.orders())


def doing(**what: Callable[[], object]) -> Callable[[Order], None]:
    """Carries out an order by what is named after it; nothing where nothing is."""

    def carry(order: Order) -> None:
        what.get(order.name, lambda: None)()

    return carry


def fails() -> None:
    raise ToolError("llama-quantize: exit status 1", hint="paste it")


def test_one_that_fails_is_noted_with_its_error_and_stops_no_other(tmp_path: Path) -> None:
    ledger, orders = queued(tmp_path, "a", "b", "c")
    client = Client()
    work_off(ledger, orders, doing(b=fails), client)
    assert states(ledger) == {"a": "done", "b": "failed", "c": "done"}
    failed = ledger.orders()[1]
    assert (failed.error, failed.hint) == ("llama-quantize: exit status 1", "paste it")
    assert client.ends["a"] is None
    assert client.ends["c"] is None
    assert isinstance(client.ends["b"], ToolError)


def test_one_that_is_stopped_stops_no_other(tmp_path: Path) -> None:
    ledger, orders = queued(tmp_path, "a", "b", "c")
    client = Client()
    left: list[tuple[Order, ...]] = []
    user = threading.Thread(target=lambda: left.append(stop(ledger, [orders[2], orders[0]], seconds=20)))

    def long_work() -> None:
        user.start()
        time.sleep(20)

    work_off(ledger, orders, doing(a=long_work), client)
    user.join()
    assert left == [()]
    assert states(ledger) == {"a": "stopped", "b": "done", "c": "stopped"}
    assert isinstance(client.ends["a"], StoppedOrder)
    assert isinstance(client.ends["c"], StoppedOrder)
    assert client.ends["b"] is None


def test_interrupted_by_the_user_what_has_not_begun_stays_queued(tmp_path: Path) -> None:
    ledger, orders = queued(tmp_path, "a", "b", "c")
    with pytest.raises(Interrupted) as caught:
        work_off(ledger, orders, doing(b=lambda: signal.raise_signal(signal.SIGINT)), Client())
    assert not isinstance(caught.value, StoppedOrder)
    assert states(ledger) == {"a": "done", "b": "stopped", "c": "queued"}


def test_asked_to_stop_when_it_is_done_already_the_signal_ends_no_other(tmp_path: Path) -> None:
    ledger, orders = queued(tmp_path, "a", "b")

    def asked_late() -> None:
        ledger.ask_to_stop(orders[0].id)
        threading.Timer(0.5, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)).start()

    work_off(ledger, orders, doing(a=asked_late), Client())
    assert states(ledger) == {"a": "done", "b": "done"}


def test_orders_of_another_client_come_first_where_they_came_first(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    other_client = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    ledger.post([asking("theirs")], Living.of(other_client.pid))
    ledger.post([asking("mine")], ME)
    theirs, mine = ledger.orders()
    client = Client()
    ended: list[str] = []

    def theirs_runs_and_ends() -> None:
        time.sleep(0.3)
        ledger.take(theirs.id)
        time.sleep(0.7)
        ended.append("theirs")
        ledger.finish(theirs.id, "done")

    other = threading.Thread(target=theirs_runs_and_ends)
    other.start()
    work_off(ledger, [mine], doing(mine=lambda: ended.append("mine")), client)
    other.join()
    other_client.communicate(b"\n")
    assert ended == ["theirs", "mine"]
    assert client.waited == ["theirs"]


def test_a_ledger_that_cannot_be_written_any_more_hides_no_fault(tmp_path: Path) -> None:
    ledger, (order,) = queued(tmp_path, "a")
    ledger.take(order.id)

    def cut_and_fail() -> None:
        ledger.path.write_bytes(b"cut " * 2000)
        fails()

    with pytest.raises(ToolError), noted(ledger, order.id):
        cut_and_fail()


def test_an_unexpected_fault_is_noted_and_raised(tmp_path: Path) -> None:
    ledger, (order,) = queued(tmp_path, "a")
    ledger.take(order.id)
    with pytest.raises(ZeroDivisionError), noted(ledger, order.id):
        _ = 1 / 0
    (failed,) = ledger.orders()
    assert (failed.state, failed.error) == ("failed", "unexpected ZeroDivisionError: division by zero")
