"""Workers of this machine are started while lwq goes on alone; where they cannot be, that is one error."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lwq.errors import ClusterError
from lwq.plan.crews import Starting, crew_of
from lwq.plan.dispatch import Dispatcher
from lwq.plan.execution import execute
from tests.idle_steps import MACHINE, Where, around, idle
from tests.plan.test_dispatch import Threads


@pytest.fixture
def go() -> threading.Event:
    return threading.Event()


@pytest.fixture
def crew(go: threading.Event) -> Iterator[Dispatcher]:
    """Its workers are there as soon as they may."""

    def start() -> Any:
        assert go.wait(60)
        return Threads()

    made = Dispatcher(Starting(start), shares_here=True)
    yield made
    go.set()
    made.close()


def test_what_nothing_can_run_beside_does_not_wait_for_workers(
    tmp_path: Path, crew: Dispatcher, go: threading.Event
) -> None:
    first, watch = idle("first"), Where()
    execute((first, idle("second", first)), around(tmp_path, crew, watch=watch))
    assert set(watch.places.values()) == {""}
    assert crew.n_places() == 1
    with ThreadPoolExecutor(1) as pool:
        steps, later = (idle("a", seconds=0.3), idle("b", seconds=0.3)), Where()
        done = pool.submit(execute, steps, around(tmp_path, crew, watch=later))
        assert not later.places
        go.set()
        assert len(done.result(timeout=60)) == 2
    assert set(later.places.values()) == {"w0", "w1"}


def test_workers_that_cannot_be_started_are_told_to_who_needs_them(tmp_path: Path) -> None:
    def start() -> Any:
        raise ClusterError("no workers can be started on this machine: PermissionError")

    crew = Dispatcher(Starting(start), shares_here=True)
    with pytest.raises(ClusterError, match="no workers can be started"):
        execute((idle("a", seconds=5.0), idle("b", seconds=5.0)), around(tmp_path, crew))
    crew.close()


def test_a_system_that_gives_no_ports_is_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")

    def refused(**_: Any) -> None:
        raise RuntimeError("Cluster failed to start") from OSError(24, "Too many open files")

    monkeypatch.setattr(distributed, "LocalCluster", refused)
    with (
        crew_of(MACHINE, "cpu", n_workers=2) as crew,
        pytest.raises(ClusterError, match="OSError: .Errno 24. Too many open files") as caught,
    ):
        execute((idle("a", seconds=5.0), idle("b", seconds=5.0)), around(tmp_path, crew))
    assert "--workers" in caught.value.hint
