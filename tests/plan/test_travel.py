"""Files from one cache to another by content: found, sent in pieces, checked, put where a step looks for them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lwq.errors import ClusterError
from lwq.plan import parcels, travel
from lwq.plan.errand import Answer
from lwq.plan.execution import execute
from lwq.plan.parcels import fetched, sent
from lwq.plan.travel import WantedFiles, entry_here, given_here, lacking_of, wanted_by
from lwq.plan.workers import Assignment
from lwq.steps.step import Given
from lwq.store.cache import Cache
from tests.idle_steps import around, idle


@pytest.fixture(autouse=True)
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """No disk is shared, and pieces are small."""
    monkeypatch.setattr(travel, "_shared", lambda cache, file: None)
    monkeypatch.setattr(travel, "PIECE_BYTES", 7)
    monkeypatch.setattr(parcels, "PIECE_BYTES", 7)


def ask(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


def made(root: Path) -> tuple[Any, Any, dict[str, Any]]:
    first = idle("first")
    entries = execute((first,), around(root, None))
    return first, idle("second", first), entries


def test_an_entry_that_is_lacking_is_sent_and_is_then_as_the_client_has_it(tmp_path: Path) -> None:
    first, second, entries = made(tmp_path / "ours")
    (wanted,) = wanted_by(second, entries, {}, tmp_path / "ours")
    theirs = Cache(tmp_path / "theirs")
    assert entry_here(theirs, wanted) is None
    sent([lacking_of(theirs, wanted)], str(theirs.root), ask)
    entry = entry_here(theirs, wanted)
    assert entry
    assert (entry.key, entry.result, entry.released) == (first.key, entries[first.key].result, ())
    assert entry.path("first.txt").read_bytes() == entries[first.key].path("first.txt").read_bytes()
    assert lacking_of(theirs, wanted).files == ()
    assert not list((theirs.root / "arriving").iterdir())


def test_only_files_that_are_read_travel_and_the_others_follow_when_they_are(tmp_path: Path) -> None:
    _, second, entries = made(tmp_path / "ours")
    (wanted,) = wanted_by(second, entries, {}, tmp_path / "ours")
    theirs, nothing = Cache(tmp_path / "theirs"), replace(wanted, files=())
    sent([nothing], str(theirs.root), ask)
    entry = entry_here(theirs, nothing)
    assert entry
    assert entry.released == ("first.txt",)
    assert entry_here(theirs, wanted) is None
    sent([lacking_of(theirs, wanted)], str(theirs.root), ask)
    assert entry_here(theirs, wanted)


def test_what_arrives_changed_is_asked_for_again_and_told_in_the_end(tmp_path: Path) -> None:
    _, second, entries = made(tmp_path / "ours")
    (wanted,) = wanted_by(second, entries, {}, tmp_path / "ours")
    theirs, n_damaged = Cache(tmp_path / "theirs"), [1]

    def damaging(function: Callable[..., Any], *arguments: Any) -> Any:
        if function is travel.receive and n_damaged[0]:
            n_damaged[0] -= 1
            *others, piece = arguments
            arguments = (*others, piece[:-1] + b"\0")
        return function(*arguments)

    sent([wanted], str(theirs.root), damaging)
    assert entry_here(theirs, wanted)
    n_damaged[0], other = 99, Cache(tmp_path / "other")
    with pytest.raises(ClusterError, match="first.txt: did not arrive as sent, 3 times"):
        sent([wanted], str(other.root), damaging)
    assert not list(other.steps.glob("*")) if other.steps.exists() else True


@pytest.mark.parametrize("n_damaged", [0, 1, 99])
def test_what_a_worker_made_is_fetched_and_checked(n_damaged: int, tmp_path: Path) -> None:
    step = idle("made")
    theirs = execute((step,), around(tmp_path / "theirs", None))[step.key]
    answer = Answer(stored=(theirs.folder / "step.json").read_text(encoding="utf-8"), fresh=True)
    given = Assignment(step=step, place=None, entries={}, around=around(tmp_path / "ours", None), whole=False)
    left = [n_damaged]

    def damaging(function: Callable[..., Any], *arguments: Any) -> Any:
        piece = function(*arguments)
        if piece and left[0]:
            left[0] -= 1
            return piece[:-1] + b"\0"
        return piece

    if n_damaged == 99:
        with pytest.raises(ClusterError, match="made.txt: did not arrive as it was made, 3 times"):
            fetched(given, answer, str(tmp_path / "theirs"), damaging)
        assert given.around.cache.lookup("idle", step.key) is None
        assert not [p for p in given.around.cache.steps.iterdir() if p.is_dir()]
        return
    ours = fetched(given, answer, str(tmp_path / "theirs"), damaging)
    assert (ours.key, ours.result, ours.commands) == (theirs.key, theirs.result, theirs.commands)
    assert {n: f["sha256"] for n, f in ours.outputs.items()} == {n: f["sha256"] for n, f in theirs.outputs.items()}
    assert given.around.cache.lookup("idle", step.key) == ours


@pytest.mark.parametrize("name", ["/tmp/x", "../x", "a/../../x", ".", "", "nul\0", "made.txt/../../../x"])
def test_a_worker_cannot_name_files_elsewhere(name: str, tmp_path: Path) -> None:
    step = idle("made")
    theirs = execute((step,), around(tmp_path / "theirs", None))[step.key]
    stored = json.loads((theirs.folder / "step.json").read_text(encoding="utf-8"))
    stored["outputs"] = {name: stored["outputs"]["made.txt"]}
    given = Assignment(step=step, place=None, entries={}, around=around(tmp_path / "ours", None), whole=False)
    with pytest.raises(ClusterError, match="a worker names a file that lies outside of its step's folder"):
        fetched(given, Answer(stored=json.dumps(stored)), str(tmp_path / "theirs"), ask)
    assert not (tmp_path / "x").exists()


def test_a_worker_cannot_name_files_below_a_link(tmp_path: Path) -> None:
    """Which a step may keep: to what the user gave."""
    step, folder = idle("made"), tmp_path / "given"
    folder.mkdir()
    theirs = execute((step,), around(tmp_path / "theirs", None))[step.key]
    stored = json.loads((theirs.folder / "step.json").read_text(encoding="utf-8"))
    facts = stored["outputs"]["made.txt"]
    stored["outputs"] = {"link": facts | {"sha256": "f" * 64}, "link/x": facts}
    stored["result"] = {"keep_links": ["link"]}
    ours = around(tmp_path / "ours", None, given={"f" * 64: (folder,)})
    given = Assignment(step=step, place=None, entries={}, around=ours, whole=False)
    with pytest.raises(ClusterError, match="outside of its step's folder: 'link/x'"):
        fetched(given, Answer(stored=json.dumps(stored)), str(tmp_path / "theirs"), ask)
    assert not list(folder.iterdir())


def test_given_files_and_folders_travel_too(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "inner").mkdir(parents=True)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    (folder / "inner" / "empty").write_bytes(b"")
    text = tmp_path / "text.txt"
    text.write_text("a text of some length", encoding="utf-8")
    digest = hashlib.sha256(text.read_bytes()).hexdigest()
    paths = {digest: (text,), "f" * 64: (folder,)}
    step = idle("reads")
    asked = replace(step, inputs=(Given(sha256=digest, name="text.txt"), Given(sha256="f" * 64, name="model")))
    theirs = Cache(tmp_path / "theirs")
    wanted: tuple[WantedFiles, ...] = wanted_by(asked, {}, paths, tmp_path / "ours")
    assert [given_here(theirs, one) for one in wanted] == [None, None]
    sent(wanted, str(theirs.root), ask)
    (file,), (copied,) = (given_here(theirs, one) or () for one in wanted)
    assert file.read_bytes() == text.read_bytes()
    assert sorted(p.relative_to(copied).as_posix() for p in copied.rglob("*")) == [
        "config.json",
        "inner",
        "inner/empty",
    ]
    file.chmod(0o644)
    file.write_text("another of the length", encoding="utf-8")
    assert given_here(theirs, wanted[0]) is None


def test_a_shared_disk_is_used_where_its_file_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    _, second, entries = made(tmp_path / "ours")
    (wanted,) = wanted_by(second, entries, {}, tmp_path / "ours")
    assert entry_here(Cache(tmp_path / "theirs"), wanted)
    path = Path(wanted.files[0].path)
    path.chmod(0o644)
    path.write_bytes(b"x" * path.stat().st_size)
    assert entry_here(Cache(tmp_path / "others"), wanted) is None
