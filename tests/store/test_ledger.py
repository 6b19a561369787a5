"""The list of runs: whole whenever it is read, one at a time runs, what a dead process had begun is interrupted."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lwq.errors import FileError
from lwq.store.ledger import Asking, Ledger, Order, StepNote
from lwq.store.living import Living

ME = Living.me()
DEAD = Living(pid=ME.pid, born="of another time")


def asking(name: str, **arguments: object) -> Asking:
    return Asking(name=name, folder=f"/reports/{name}", recipe=f"{name}.toml", cwd="/", arguments=arguments)


def states(ledger: Ledger) -> dict[str, str]:
    return {order.name: order.state for order in ledger.orders()}


def by_name(ledger: Ledger) -> dict[str, Order]:
    return {order.name: order for order in ledger.orders()}


def test_what_is_posted_is_read_with_all_that_it_needs(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "home")
    assert ledger.orders() == ()
    ledger.post([asking("a", threads=2, model=None)], ME)
    (order,) = ledger.orders()
    assert (order.name, order.folder, order.recipe, order.cwd) == ("a", "/reports/a", "a.toml", "/")
    assert order.arguments == {"threads": 2, "model": None}
    assert (order.state, order.is_attended, order.process) == ("queued", True, ME)
    assert abs(order.queued - time.time()) < 60
    with sqlite3.connect(ledger.path) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_orders_run_one_at_a_time_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    (a,) = ledger.post([asking("a")], Living.of(child.pid))
    (b,) = ledger.post([asking("b")], ME)
    taken, before = ledger.take(b)
    assert not taken
    assert before
    assert before.name == "a"
    assert ledger.take(a) == (True, None)
    assert ledger.take(a) == (False, None)  # it is queued no more
    taken, before = ledger.take(b)
    assert not taken
    assert before
    assert before.state == "running"
    assert not ledger.finish(a, "done")
    assert ledger.take(b) == (True, None)
    assert states(ledger) == {"a": "done", "b": "running"}
    child.communicate(b"\n")


def test_what_a_dead_process_had_is_interrupted_or_queued_for_nobody_and_holds_up_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.post([asking("ran")], DEAD, running=True)
    ledger.post([asking("waited")], DEAD)
    (mine,) = ledger.post([asking("mine")], ME)
    found = by_name(ledger)
    assert (found["ran"].state, found["waited"].state) == ("interrupted", "queued")
    assert found["ran"].is_open
    assert found["waited"].is_open
    assert not found["mine"].is_open
    assert ledger.take(mine) == (True, None)


def test_what_its_own_process_could_not_note_as_ended_holds_up_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    a, b = ledger.post([asking("a"), asking("b")], ME)
    assert ledger.take(a) == (True, None)
    assert ledger.take(b) == (True, None)


def test_what_is_open_is_queued_again_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    (failed,) = ledger.post([asking("failed")], ME, running=True)
    ledger.finish(failed, "failed", error="why", hint="how")
    (done,) = ledger.post([asking("done")], ME, running=True)
    ledger.finish(done, "done")
    (broken,) = ledger.post([asking("broken")], DEAD, running=True)
    assert by_name(ledger)["failed"].error == "why"
    again = ledger.queue_again([failed, done, broken], ME)
    assert [order.name for order in again] == ["failed", "broken"]
    assert ledger.queue_again([failed, done, broken], ME) == ()
    assert ledger.take(failed) == (True, None)
    assert by_name(ledger)["failed"].error == ""


def test_a_later_run_of_the_same_report_takes_the_place_of_what_is_over(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    (first,) = ledger.post([asking("a")], ME, running=True)
    ledger.post([asking("a")], ME)
    assert len(ledger.orders()) == 2  # the first is not over
    ledger.finish(first, "failed")
    ledger.post([asking("a"), asking("b")], ME)
    assert [order.state for order in ledger.orders() if order.name == "a"] == ["queued", "queued"]


def test_whoever_ends_an_order_hears_that_it_was_asked_to_stop(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    a, b = ledger.post([asking("a"), asking("b")], ME)
    ledger.take_out(b)
    assert ledger.ask_to_stop(b) is None
    ledger.take(a)
    ledger.take_out(a)  # too late
    assert states(ledger) == {"a": "running", "b": "stopped"}
    assert ledger.ask_to_stop(a) == ME
    assert ledger.finish(a, "stopped")
    assert not ledger.finish(a, "failed")  # it is over
    assert states(ledger)["a"] == "stopped"
    ledger.forget([a])
    assert states(ledger) == {"b": "stopped"}


def test_notes_of_steps_are_kept_and_a_ledger_that_cannot_be_written_ends_no_run(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    (a,) = ledger.post([asking("a")], ME, running=True)
    note = StepNote(step="imatrix", step_since=5.0, step_done=2, step_total=9, n_done=3, n_steps=8, left_seconds=60.0)
    ledger.note(a, note)
    (order,) = ledger.orders()
    assert (order.step, order.step_done, order.step_total, order.n_done, order.left_seconds) == ("imatrix", 2, 9, 3, 60)
    ledger.path.write_bytes(b"something else " * 400)
    ledger.note(a, note)
    with pytest.raises(FileError, match=r"orders\.sqlite: the list of runs cannot be used") as caught:
        ledger.orders()
    assert "move it away" in caught.value.hint


@pytest.mark.parametrize("stored", ["{", None, b"\xff\xfe"])
def test_an_order_that_is_not_as_it_was_written_is_told(stored: object, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.post([asking("a")], ME)
    with sqlite3.connect(ledger.path) as database:
        database.execute("PRAGMA writable_schema = ON")
        database.execute("UPDATE sqlite_schema SET sql = replace(sql, 'arguments TEXT NOT NULL', 'arguments TEXT')")
    with sqlite3.connect(ledger.path) as database:
        database.execute("UPDATE orders SET arguments = CAST(? AS TEXT)", (stored,))
    with pytest.raises(FileError, match="cannot be used") as caught:
        ledger.orders()
    assert "move it away" in caught.value.hint


def test_a_ledger_of_another_version_is_left_alone(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.post([asking("a")], ME)
    with sqlite3.connect(ledger.path) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(FileError, match="another version of lwq"):
        ledger.orders()


def test_many_that_begin_it_at_once_lose_nothing(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda n: Ledger(tmp_path).post([asking(f"r{n}")], ME)[0], range(24)))
    assert len(set(ids)) == 24
    assert {order.name for order in Ledger(tmp_path).orders()} == {f"r{n}" for n in range(24)}


WRITER = """
    import sys
    from pathlib import Path
    from lwq.store.ledger import Ledger, StepNote
    from lwq.store.living import Living
    from tests.store.test_ledger import asking
    ledger = Ledger(Path(sys.argv[1]))
    (order,) = ledger.post([asking("a")], Living.me(), running=True)
    for n in range(1_000_000):
        ledger.note(order, StepNote(step=f"s{n}", step_since=1.0, n_done=n, n_steps=n, left_seconds=float(n)))
        print(n, flush=True)
"""


def test_a_writer_that_is_killed_at_any_moment_leaves_it_whole(tmp_path: Path) -> None:
    """Each of five is killed after another number of notes, in the middle of the next."""
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path)]
    for n_notes in (1, 5, 20, 33, 50):
        writer = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)
        assert writer.stdout
        for _ in range(n_notes):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        (order,) = Ledger(tmp_path).orders()
        assert order.state == "interrupted"
        assert order.n_done >= n_notes - 1
        assert (order.step, order.left_seconds) == (f"s{order.n_done}", order.n_done)
