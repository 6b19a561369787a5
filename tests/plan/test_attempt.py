"""A step on its way to a worker: what goes wrong before it is there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from lwq.errors import ClusterError, FileError
from lwq.plan.attempt import Attempt, Member
from lwq.plan.greeting import Greeting
from lwq.plan.lineup import WorkPlace
from lwq.plan.workers import Assignment, Outcome
from lwq.steps.step import Given
from tests.idle_steps import MACHINE, around, idle


class Task:
    is_cancelled = False

    def add_done_callback(self, function: Any) -> None: ...

    def cancel(self) -> None:
        self.is_cancelled = True


@dataclass
class Reached:
    """A cluster of which nothing answers."""

    client: Any = None
    machine: Any = MACHINE
    device: str = "cpu"
    own: Any = None
    pool: Any = field(default_factory=lambda: ThreadPoolExecutor(1))
    tasks: list[Task] = field(default_factory=list)
    attempt: Any = None

    def submit(self, *_: Any, **__: Any) -> Task:
        self.tasks.append(Task())
        self.attempt.is_off = True  # another thread ends it just now
        return self.tasks[-1]

    def ask(self, *_: Any, **__: Any) -> Any:
        raise ConnectionError

    def threads(self, member: Member) -> int:
        return 1

    def over(self, attempt: Attempt) -> None: ...


def attempt_of(step: Any, given: dict[str, tuple[Path, ...]], tmp_path: Path, told: list[Outcome]) -> Attempt:
    place = WorkPlace(name="w", host="h")
    greeting = Greeting(host="h", home="/h", version="", code="", cpu="", toolchain="")
    member = Member(address="tcp://w", place=place, greeting=greeting, is_shared=False, n_threads=1)
    asked = Assignment(step=step, place=place, entries={}, around=around(tmp_path, None, given=given), whole=False)
    reached = Reached()
    reached.client = reached
    reached.attempt = Attempt(reached, asked, member, told.append)
    made: Attempt = reached.attempt
    return made


@pytest.mark.parametrize("is_known", [True, False])
def test_a_given_file_that_vanished_is_an_error_of_its_step(is_known: bool, tmp_path: Path) -> None:
    told = list[Outcome]()
    step = replace(idle("reads"), inputs=(Given(sha256="f" * 64, name="text.txt"),))
    attempt_of(step, {"f" * 64: (tmp_path / "gone",)} if is_known else {}, tmp_path, told).submit()
    (outcome,) = told
    assert isinstance(outcome.error, FileError if is_known else ClusterError)
    assert ("gone" if is_known else "reads: cannot be handed out: KeyError") in str(outcome.error)


def test_what_is_ended_while_it_is_handed_out_is_cancelled(tmp_path: Path) -> None:
    told = list[Outcome]()
    attempt = attempt_of(idle("a"), {}, tmp_path, told)
    attempt.submit()
    assert attempt.future.is_cancelled
    assert told == []
