"""What the list of runs shows, in 80 columns, on a terminal and elsewhere; names that are not on it."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from lwq.store.ledger import AtWork, Ledger, StepNote
from lwq.store.living import Living
from tests.cli.test_main import lwq
from tests.store.test_ledger import DEAD, asking

ME = Living.me()
LONG = "a-release-of-some-model-with-a-name-of-many-words-1.5B"


def noted(ledger: Ledger, order: int, step: str, left_seconds: float | None) -> None:
    note = StepNote(
        step=step, step_since=time.time() - 60, step_done=118, step_total=235, n_done=103, n_steps=135,
        left_seconds=left_seconds,
    )  # fmt: skip
    ledger.note(order, note)


@pytest.fixture
def ledger(guarded: Path) -> Ledger:
    """One of each state: done, failed, interrupted, running, queued, and queued for nobody."""
    ledger = Ledger(guarded)
    (done,) = ledger.post([asking("done")], ME, running=True)
    ledger.finish(done, "done")
    (failed,) = ledger.post([asking(f"f{LONG}")], ME, running=True)
    noted(ledger, failed, "quantize:Q4_K_M_WITH_A_LONG_NAME", 99.0)
    ledger.finish(failed, "failed", error="quantize: the disk is full\nmore of it", hint="free some of it, " * 9)
    (broken,) = ledger.post([asking("broken")], DEAD, running=True)
    noted(ledger, broken, "imatrix", 99.0)
    ledger.post([asking("nobody's")], DEAD)
    (runs,) = ledger.post([asking(f"r{LONG}")], ME, running=True)
    noted(ledger, runs, "evaluate:Q4_K_M_WITH_A_LONG_NAME:evaluation", 3 * 3600.0 + 110.0)
    ledger.post([replace(asking("next"), left_seconds=7 * 3600.0)], ME)
    return ledger


def test_status_tells_each_state_in_80_columns(ledger: Ledger, tmp_path: Path) -> None:
    said = lwq("status", cwd=tmp_path)
    assert said.code == 0
    lines = said.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split()[:3] == ["recipe", "state", "since"]
    assert [line.split()[1] for line in lines[1:7]] == ["done", "failed", "interrupted", "queued", "running", "queued"]
    assert lines[5].startswith("ra-releas")
    assert "118/235" in lines[5]
    assert re.search(r"  (3 h 00|2 h 5\d) min$", lines[5])
    assert lines[6].endswith("7 h 00 min")
    assert re.search(r"^in all about (10 h 00|9 h 5\d) min left$", said.out, re.M)
    assert f"f{LONG}: quantize: the disk is full hint: free some of it, free" in " ".join(said.out.split())
    assert "more of it" not in said.out
    assert f"`lwq resume` goes on with f{LONG}, broken, nobody's" in " ".join(said.out.split())


def test_status_tells_what_runs_where_in_80_columns(guarded: Path, tmp_path: Path) -> None:
    ledger, now = Ledger(guarded), time.time()
    (order,) = ledger.post([asking(LONG)], ME, running=True)
    begun = AtWork(step=f"evaluate:{LONG}:evaluation", where="a-node-of-many-letters:8786", since=now)
    halfway = AtWork(step="search:Q4", where="worker 2", since=now - 60, done=5, total=10, left_seconds=3720.0)
    note = StepNote(step="x", step_since=now, n_done=1, n_steps=9, left_seconds=None, at_work=(begun, halfway))
    ledger.note(order, note)
    lines = lwq("status", cwd=tmp_path).out.splitlines()
    assert max(map(len, lines)) <= 80
    shown = [line.split() for line in lines[lines.index("") + 1 :]]
    assert shown[0][:3] == ["at", "work", "where"]
    assert shown[2][:3] == ["search:Q4", "worker", "2"]
    assert re.fullmatch(r"1 h 0[01] min", " ".join(shown[2][-4:]))
    assert "5/10" in shown[2]


def test_status_as_json_has_all(ledger: Ledger, tmp_path: Path) -> None:
    found = {order["name"]: order for order in json.loads(lwq("status", "--json", cwd=tmp_path).out)}
    running = found[f"r{LONG}"]
    assert (running["state"], running["is_attended"], running["pid"]) == ("running", True, ME.pid)
    assert (running["n_done"], running["n_steps"], running["step_done"], running["step_total"]) == (103, 135, 118, 235)
    assert 3 * 3600 - 600 < running["left_seconds"] <= 3 * 3600 + 50
    assert running["started"].endswith("Z")
    assert running["finished"] is None
    assert found["broken"]["state"] == "interrupted"
    assert (found["nobody's"]["state"], found["nobody's"]["is_attended"]) == ("queued", False)
    assert found[f"f{LONG}"]["error"] == "quantize: the disk is full\nmore of it"


def test_status_without_anything_says_so(tmp_path: Path) -> None:
    assert lwq("status", cwd=tmp_path).out == "nothing is running, queued or done lately\n"
    assert json.loads(lwq("status", "--json", cwd=tmp_path).out) == []
    assert lwq("stop", cwd=tmp_path).out == "nothing is running or queued\n"
    assert lwq("resume", cwd=tmp_path).out == "nothing to go on with\n"
    assert json.loads(lwq("resume", "--json", cwd=tmp_path).out) == {"runs": [], "index": []}


def test_what_was_done_long_ago_is_shown_when_asked_for(guarded: Path, tmp_path: Path) -> None:
    ledger = Ledger(guarded)
    (order,) = ledger.post([asking("old")], ME, running=True)
    ledger.finish(order, "done")
    with ledger._open() as database:
        database.execute("UPDATE orders SET finished = finished - 90000, seal = ''")
    assert "nothing is running" in lwq("status", cwd=tmp_path).out
    assert lwq("status", "--all", cwd=tmp_path).out.splitlines()[1].startswith("old ")


def test_watch_shows_it_anew_on_a_terminal_until_nothing_runs(guarded: Path, tmp_path: Path) -> None:
    ledger = Ledger(guarded)
    (order,) = ledger.post([asking("mine")], ME, running=True)
    ours, theirs = pty.openpty()
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TERM": "xterm"}
    command = [sys.executable, "-m", "lwq", "status", "--watch"]
    watch = subprocess.Popen(command, cwd=tmp_path, env=environ, stdout=theirs, stderr=theirs, stdin=theirs)
    os.close(theirs)
    shown = b""
    while shown.count(b"running") < 2:
        shown += os.read(ours, 4096)
    assert watch.poll() is None
    ledger.finish(order, "done")
    with suppress(OSError):  # what reading a terminal gives whose other end is closed
        while piece := os.read(ours, 4096):
            shown += piece
    os.close(ours)
    assert watch.wait(60) == 0
    assert b"done" in shown
    assert shown.count(b"\x1b[2J") >= 3  # cleared before each


@pytest.mark.parametrize("command", ["stop", "resume"])
def test_names_that_are_not_on_the_list_are_refused_with_near_ones(
    ledger: Ledger, tmp_path: Path, command: str
) -> None:
    said = lwq(command, "brokn", cwd=tmp_path)
    assert said.code == 2
    assert "'brokn' is not on the list of runs" in said.err
    assert "perhaps you meant 'broken'" in said.err


def test_resume_of_what_is_not_open_says_what_it_is(ledger: Ledger, tmp_path: Path) -> None:
    assert lwq("resume", "done", "next", cwd=tmp_path).out == "nothing to go on with: done is done, next is queued\n"


def test_resume_of_what_is_gone_fails_and_says_how_to_leave_it(guarded: Path, tmp_path: Path) -> None:
    ledger = Ledger(guarded)
    given = {"verbosity": 0, "llama_dir": None, "threads": 1, "device": "cpu", "folder": "reports/x", "model": None}
    here, gone = (
        replace(asking(name, **given), cwd=str(folder)) for name, folder in (("here", tmp_path), ("gone", "/no"))
    )
    ledger.post([here, gone], DEAD)
    said = lwq("resume", cwd=tmp_path)
    assert said.code == 1
    assert "lwq: here: here.toml: no such recipe" in said.err
    assert "lwq: gone: /no: cannot go to the working directory: no such file or folder" in said.err
    assert "of 2 recipes 2 failed (here, gone)" in said.err
    assert lwq("stop", "--forget", "gone", cwd=tmp_path).out == "off the list: gone\n"
    assert [order.name for order in ledger.orders()] == ["here"]


def test_damaged_list_is_one_clear_error(guarded: Path, tmp_path: Path) -> None:
    (guarded / "orders.sqlite").write_bytes(b"no list at all\n" * 300)
    for command in ("status", "stop", "resume"):
        said = lwq(command, cwd=tmp_path)
        assert said.code == 1
        assert "orders.sqlite: the list of runs cannot be used" in said.err
        assert "`lwq cache verify --repair` moves it away" in said.err
