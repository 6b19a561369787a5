"""Steps of several callers side by side, at places that come, go and fail."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lwq.errors import ClusterError, Interrupted, ModelError, ToolError
from lwq.llama.process_group import stoppable
from lwq.plan.dispatch import Dispatcher
from lwq.plan.execution import execute, work_of
from lwq.plan.lineup import WorkPlace
from lwq.plan.workers import Assignment, Joined, Outcome
from tests.idle_steps import Where, around, idle


@dataclass
class Threads:
    """Places that are threads of this process, and lose or refuse what they are told to."""

    n: int = 2
    n_failures: int = 2
    loses: list[str] = field(default_factory=list)
    """Labels of steps whose worker dies, once for each mention."""
    killed: list[str] = field(default_factory=list)
    began: list[tuple[str, str]] = field(default_factory=list)
    stopped: dict[str, threading.Event] = field(default_factory=dict)
    none_left: ClusterError | None = None

    cannot: list[str] = field(default_factory=list)
    """Labels of steps that cannot even be begun; "begin": nothing can."""

    def begin(self) -> None:
        if "begin" in self.cannot:
            raise RuntimeError("there is no beginning")

    def look(self, wanted: frozenset[str]) -> tuple[list[Joined], list[str]]:
        places = [WorkPlace(name=f"w{i}", host="here") for i in range(self.n)]
        self.n = 0
        return [Joined(place=place, room={}) for place in places], []

    def start(self, given: Assignment, tell: Callable[[Outcome], None]) -> None:
        assert given.place
        label = given.step.label
        if label in self.cannot:
            raise RuntimeError(f"{label} has no beginning")
        self.began.append((label, given.place.name))
        asked = self.stopped[given.step.key] = threading.Event()
        if label in self.loses:
            self.loses.remove(label)
            tell(Outcome())
        elif label in self.killed:
            self.killed.remove(label)
            tell(Outcome(error=ToolError("killed"), was_killed=True))
        else:
            threading.Thread(target=self._run, args=(given, tell, asked), daemon=True).start()

    def _run(self, given: Assignment, tell: Callable[[Outcome], None], asked: threading.Event) -> None:
        try:
            with stoppable(asked.is_set):
                work = work_of(given.step, given.entries, given.around)
                entry, fresh = given.around.cache.build(given.step.module.NAME, given.step.key_value, work)
            tell(Outcome(entry=entry, fresh=fresh))
        except Exception as error:
            tell(Outcome(error=error))

    def stop(self, place: str, key: str) -> None:
        if asked := self.stopped.get(key):
            asked.set()

    def lack(self) -> ClusterError | None:
        return self.none_left

    def close(self, *, leave: bool) -> None: ...


@pytest.fixture
def workers() -> Threads:
    return Threads()


@pytest.fixture
def crew(workers: Threads) -> Iterator[Dispatcher]:
    made = Dispatcher(workers)
    yield made
    made.close()


def test_a_crew_makes_what_is_made_one_after_another(tmp_path: Path, crew: Dispatcher) -> None:
    first = idle("first")
    branches = [idle(f"b{i}", first) for i in range(4)]
    steps = (first, *branches, idle("last", *branches))
    alone = execute(steps, around(tmp_path / "alone", None))
    watch = Where()
    beside = execute(steps, around(tmp_path / "beside", crew, watch=watch))
    assert {k: (e.result, e.outputs.keys()) for k, e in alone.items()} == {
        k: (e.result, e.outputs.keys()) for k, e in beside.items()
    }
    assert list(beside) == [step.key for step in steps]
    assert watch.fresh[0] == "idle:first"
    assert watch.fresh[-1] == "idle:last"
    assert set(watch.places.values()) == {"w0", "w1"}
    again = Where()
    execute(steps, around(tmp_path / "beside", crew, watch=again))
    assert again.fresh == []
    assert again.kept == [step.label for step in steps]


def test_independent_steps_overlap(tmp_path: Path, crew: Dispatcher) -> None:
    steps, watch = tuple(idle(f"s{i}", seconds=1.0) for i in range(2)), Where()
    execute(steps, around(tmp_path, crew, watch=watch))
    assert [what for what, _ in watch.events] == ["started", "started", "finished", "finished"]


def test_a_failed_step_is_told_and_what_else_ran_for_it_is_stopped(tmp_path: Path, crew: Dispatcher) -> None:
    steps = (idle("long", seconds=600.0), idle("bad", fails="it is broken"))
    with pytest.raises(ModelError, match="idle:bad: it is broken") as caught:
        execute(steps, around(tmp_path, crew))
    assert caught.value.hint == "mend it"
    assert execute((idle("other"),), around(tmp_path, crew))


def test_two_callers_share_a_step_and_one_that_fails_leaves_it_to_the_other(tmp_path: Path, crew: Dispatcher) -> None:
    shared = idle("shared", seconds=0.8, log=str(tmp_path / "log"))
    faults = list[BaseException]()

    def fail() -> None:
        try:
            execute((shared, idle("bad", seconds=0.2, fails="it is broken")), around(tmp_path, crew))
        except ModelError as error:
            faults.append(error)

    thread = threading.Thread(target=fail)
    thread.start()
    time.sleep(0.1)
    watch = Where()
    assert len(execute((shared, idle("end", shared)), around(tmp_path, crew, watch=watch))) == 2
    thread.join()
    assert len(faults) == 1
    assert watch.fresh == ["idle:shared", "idle:end"]
    assert (tmp_path / "log").read_text(encoding="utf-8") == "shared\n"


def test_a_step_that_loses_its_worker_goes_elsewhere(tmp_path: Path, crew: Dispatcher, workers: Threads) -> None:
    workers.loses = ["idle:a", "idle:a"]
    assert execute((idle("a"),), around(tmp_path, crew))
    assert [label for label, _ in workers.began] == ["idle:a"] * 3


def test_a_step_that_every_worker_is_lost_by_is_told(tmp_path: Path, crew: Dispatcher, workers: Threads) -> None:
    workers.loses = ["idle:a"] * 9
    with pytest.raises(ClusterError, match="idle:a: 3 workers were lost while they carried it out") as caught:
        execute((idle("a"), idle("b", idle("a"))), around(tmp_path, crew))
    assert "memory" in caught.value.hint


def test_a_killed_process_is_tried_once_more_alone(tmp_path: Path, crew: Dispatcher, workers: Threads) -> None:
    workers.killed = ["idle:a"]
    assert execute((idle("a"), idle("b", seconds=0.5)), around(tmp_path, crew))
    workers.killed = ["idle:c", "idle:c"]
    with pytest.raises(ToolError, match="killed"):
        execute((idle("c"),), around(tmp_path, crew))


def test_without_any_worker_it_says_why(tmp_path: Path) -> None:
    workers = Threads(n=0, none_left=ClusterError("no worker of the scheduler can be used", hint="start one"))
    crew = Dispatcher(workers)
    with pytest.raises(ClusterError, match="no worker of the scheduler"):
        execute((idle("a"),), around(tmp_path, crew))
    crew.close()


def test_an_interrupt_ends_what_runs(tmp_path: Path, crew: Dispatcher) -> None:
    asked = around(tmp_path, crew)
    threading.Timer(0.5, lambda: crew.interrupt(asked)).start()
    with pytest.raises(Interrupted):
        execute((idle("long", seconds=600.0),), asked)
    assert execute((idle("next"),), around(tmp_path, crew))


@pytest.mark.parametrize("leaves", [False, True])
def test_what_workers_have_begun_is_stopped_or_left_to_them_as_was_asked(leaves: bool, tmp_path: Path) -> None:
    workers = Threads()
    crew = Dispatcher(workers, leaves=leaves)
    asked, step = around(tmp_path, crew), idle("long", seconds=2.0)
    threading.Timer(0.5, lambda: crew.interrupt(asked)).start()
    with pytest.raises(Interrupted):
        execute((step,), asked)
    crew.close()
    assert workers.stopped[step.key].is_set() is not leaves


def test_a_step_that_cannot_be_begun_is_an_error_of_those_who_want_it(
    tmp_path: Path, crew: Dispatcher, workers: Threads
) -> None:
    workers.cannot, faults = ["idle:bad"], list[Exception]()

    def fail() -> None:
        try:
            execute((idle("bad"),), around(tmp_path, crew))
        except RuntimeError as error:
            faults.append(error)

    thread = threading.Thread(target=fail)
    thread.start()
    assert execute((idle("good", seconds=0.5), idle("better", idle("good", seconds=0.5))), around(tmp_path, crew))
    thread.join()
    assert [str(fault) for fault in faults] == ["idle:bad has no beginning"]


def test_where_nothing_can_be_begun_the_caller_is_told_and_may_ask_again(
    tmp_path: Path, crew: Dispatcher, workers: Threads
) -> None:
    workers.cannot = ["begin"]
    with pytest.raises(RuntimeError, match="there is no beginning"):
        execute((idle("a"),), around(tmp_path, crew))
    workers.cannot = []
    assert execute((idle("a"),), around(tmp_path, crew))
