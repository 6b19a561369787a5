"""A step at a worker: what of it may be asked to stop."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from lwq.errors import Interrupted
from lwq.llama.process_group import heed
from lwq.plan import errand
from lwq.plan.errand import Answer, carry, stop


class Wanted:
    key = "k"


def test_a_step_that_was_stopped_starts_again_and_the_first_ends_none_but_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LWQ_HOME", str(tmp_path))
    ends, begun = [threading.Event(), threading.Event()], [threading.Event(), threading.Event()]
    answers, turns = dict[int, Answer](), iter(range(2))

    def work(wanted: Any, progress: Any) -> Answer:
        turn = next(turns)
        begun[turn].set()
        assert ends[turn].wait(10)
        heed()
        return Answer(stored="done")

    def attempt(n: int) -> threading.Thread:
        wanted: Any = Wanted()
        thread = threading.Thread(target=lambda: answers.update({n: carry(wanted, lambda done, total: None)}))
        thread.start()
        assert begun[n].wait(10)
        return thread

    monkeypatch.setattr(errand, "_carry", work)
    first = attempt(0)
    stop("k")
    second = attempt(1)
    ends[0].set()
    first.join()
    assert isinstance(answers[0].error, Interrupted)
    assert errand.held(frozenset({"k"})) == {"k"}
    ends[1].set()
    second.join()
    assert answers[1].stored == "done"
    stop("k")
