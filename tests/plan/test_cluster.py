"""Workers of a scheduler as a client of dask tells of them: refused, silent, none."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from lwq.plan import cluster
from lwq.plan.attempt import ANSWER_SECONDS
from lwq.plan.cluster import Cluster
from lwq.plan.greeting import greeting
from lwq.plan.worker import Said
from tests.idle_steps import MACHINE, TOOLCHAIN

pytest.importorskip("distributed")


class DaskClient:
    """Knows one worker, which says what ``answer`` returns."""

    status = "running"

    def __init__(self, answer: Callable[[], Any]) -> None:
        self.answer, self.n_asked = answer, 0
        self.scheduler = SimpleNamespace(address="tcp://s", identity=None)

    def subscribe_topic(self, topic: str, handler: Any) -> None: ...

    def sync(self, function: Any, **_: Any) -> Any:
        return {"workers": {"tcp://w": {"name": "0"}}}

    def run(self, function: Any, *_: Any, workers: list[str], callback_timeout: float | None) -> dict[str, Said]:
        self.n_asked += 1
        return {"tcp://w": Said(value=self.answer())}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(cluster, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def silent() -> Any:
    raise TimeoutError


def test_a_worker_that_does_not_answer_is_not_seen_for_a_while_and_told(clock: list[float]) -> None:
    client = DaskClient(silent)
    made = Cluster(client, MACHINE, "cpu")
    assert made.look(frozenset()) == ([], [])
    made.look(frozenset())
    assert client.n_asked == 1
    clock[0] += ANSWER_SECONDS
    made.look(frozenset())
    assert client.n_asked == 2
    assert made.lack() is None
    clock[0] += ANSWER_SECONDS
    assert "worker w did not answer within 30 s" in str(made.lack())


def test_a_member_that_does_not_answer_has_left(clock: list[float]) -> None:
    client = DaskClient(lambda: greeting("cpu", TOOLCHAIN))
    made = Cluster(client, MACHINE, "cpu")
    ((one,), left) = made.look(frozenset())
    assert left == []
    client.answer = silent
    with pytest.raises(TimeoutError):
        made.ask("tcp://w", print)
    with pytest.raises(ConnectionError):
        made.ask("tcp://w", print)
    assert made.look(frozenset()) == ([], [one.place.name])
    client.answer = lambda: greeting("cpu", TOOLCHAIN)
    clock[0] += ANSWER_SECONDS
    assert made.look(frozenset())[0]


def test_no_worker_of_this_machine_is_told_with_its_reasons_a_minute_after_work_began(clock: list[float]) -> None:
    other = Said(value=greeting("cpu", TOOLCHAIN)).value
    client = DaskClient(lambda: SimpleNamespace(version="0.0.1", host=other.host))
    made = Cluster(client, MACHINE, "cpu", own=object(), cpus=((0,),))
    made.look(frozenset())
    clock[0] += 600
    made.begin()
    assert made.lack() is None
    clock[0] += 60
    fault = made.lack()
    assert "no worker of this machine is left" in str(fault)
    assert "worker w has lwq 0.0.1" in str(fault)
