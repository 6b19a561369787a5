"""What nobody needs goes, once told; what a run at work needs stays, whatever the moment."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from lwq.errors import FileError, ToolError
from lwq.store import leases
from lwq.store.cache import Cache, key_of
from lwq.store.garbage import garbage, remove
from tests.store.test_cache import FACTS, VALUE, write

SPAWN = multiprocessing.get_context("spawn")


def names(cache: Cache) -> list[str]:
    with garbage(cache) as found:
        return [path.name for path in found.paths]


def collect(cache: Cache) -> None:
    with garbage(cache) as found:
        for path in found.paths:
            remove(cache, path)


def wait_for(path: Path) -> None:
    end = time.monotonic() + 30
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert path.exists()


def test_garbage_is_what_no_recipe_last_used(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    kept, _ = cache.build("toy", VALUE, write)
    dropped, _ = cache.build("toy", {**VALUE, "version": 2}, write)
    cache.remember("r", {"toy": VALUE})
    assert names(cache) == [dropped.folder.name]
    collect(cache)
    assert list(cache.entries()) == [kept]
    assert names(cache) == []


def test_pieces_of_measurements_stay_while_a_recipe_needs_their_step(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.pieces.mkdir()
    needed, stale, values = (
        cache.pieces / name for name in (f"{key_of(VALUE)[:24]}.jsonl", "0123.jsonl", "0123.values")
    )
    for file in (needed, stale, stale.with_suffix(".lock"), needed.with_suffix(".lock"), cache.pieces / "9.lock"):
        file.write_text("")
    values.mkdir()
    cache.remember("r", {"toy": VALUE})
    assert names(cache) == ["0123.jsonl", "0123.values", "9.lock"]
    collect(cache)
    assert sorted(p.name for p in cache.pieces.iterdir()) == sorted([needed.name, needed.with_suffix(".lock").name])


def test_what_a_failed_step_left_is_told_once(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def fail(folder: Path) -> dict[str, Any]:
        raise ToolError("killed")

    with pytest.raises(ToolError):
        cache.build("toy", VALUE, fail)
    (left,) = (p for p in cache.steps.iterdir() if p.is_dir())
    assert names(cache) == [left.name]
    collect(cache)
    assert not left.exists()


def test_only_what_is_in_the_cache_is_removed(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    with pytest.raises(FileError, match="is not in the cache"):
        remove(Cache(tmp_path / "cache"), mine)
    assert mine.is_dir()


def _work(root: Path, *, leased: bool) -> None:
    """A run that needs a finished entry, and whose step waits until ``go`` is there."""
    cache = Cache(root)
    if leased:
        cache.hold([("toy", key_of(value)) for value in (VALUE, {**VALUE, "version": 2})])

    def slowly(folder: Path) -> dict[str, Any]:
        (folder / "half.bin").write_bytes(b"half")
        (root / "begun").touch()
        while not (root / "go").exists():
            time.sleep(0.01)
        (folder / "half.bin").rename(folder / "out.bin")
        return FACTS

    cache.build("toy", VALUE, slowly)


@pytest.mark.parametrize("leased", [True, False])
def test_the_folder_of_a_running_step_stays(tmp_path: Path, leased: bool) -> None:
    """Without a lease too: an earlier lwq at work beside this one holds the lock of its step only."""
    cache = Cache(tmp_path)
    earlier, _ = cache.build("toy", {**VALUE, "version": 2}, write)
    process = SPAWN.Process(daemon=True, target=_work, args=(tmp_path,), kwargs={"leased": leased})
    process.start()
    wait_for(tmp_path / "begun")
    collect(cache)
    (tmp_path / "go").touch()
    process.join(30)
    assert process.exitcode == 0
    entry = cache.lookup("toy", key_of(VALUE))
    assert entry
    assert entry.path("out.bin").read_bytes() == b"half"
    assert earlier.folder.exists() is leased


def test_what_a_killed_run_held_is_garbage_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    process = SPAWN.Process(daemon=True, target=_work, args=(tmp_path,), kwargs={"leased": True})
    process.start()
    wait_for(tmp_path / "begun")
    with garbage(cache) as found:
        assert (found.paths, found.is_quiet) == ((), False)
    assert process.pid
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert len(names(cache)) == 1
    collect(cache)
    assert not [p for p in cache.steps.iterdir() if p.is_dir()]
    assert [p.name for p in (tmp_path / "at-work").iterdir()] == ["removal.lock"]


def _collect_at_random(root: Path, seed: int) -> None:
    chance = random.Random(seed)
    while not (root / "stop").exists():
        collect(Cache(root))
        time.sleep(chance.random() * 0.05)


@pytest.mark.parametrize("seed", range(3))
def test_a_run_loses_nothing_beside_a_collector_at_any_moment(tmp_path: Path, seed: int) -> None:
    """Twenty short runs each; a run's last step reads what its first made, though no recipe remembers either."""
    process = SPAWN.Process(daemon=True, target=_collect_at_random, args=(tmp_path, seed))
    process.start()
    chance = random.Random(seed)
    try:
        for number in range(20):
            cache = Cache(tmp_path)
            values = [{**VALUE, "version": number, "inputs": {"place": place}} for place in range(3)]
            cache.hold(("toy", key_of(value)) for value in values)

            def work(folder: Path) -> dict[str, Any]:
                (folder / "half").write_bytes(b"result")
                time.sleep(chance.random() * 0.03)
                (folder / "half").rename(folder / "out.bin")
                return FACTS

            made = [cache.build("toy", value, work)[0] for value in values]
            assert [entry.path("out.bin").read_bytes() for entry in made] == [b"result"] * 3
            cache.lease.end()
    finally:
        (tmp_path / "stop").touch()
        process.join(30)
    assert process.exitcode == 0
    collect(Cache(tmp_path))
    assert names(Cache(tmp_path)) == []


@pytest.mark.parametrize("left", [".lock", ".json .lock", ".tmp .lock", ".tmp .json .lock", ".json"])
def test_what_killed_runs_left_of_their_lease_goes(left: str, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.hold([("quantize", "0" * 64)])
    (tmp_path / "at-work" / "notes.txt").write_text("somebody's")
    before = sorted(path.name for path in (tmp_path / "at-work").iterdir())
    for end in left.split():
        name = ".123-7.json.123-8.tmp" if end == ".tmp" else f"123-7{end}"
        (tmp_path / "at-work" / name).write_text("[]" if end == ".json" else "")
    assert names(cache) == []
    assert sorted(path.name for path in (tmp_path / "at-work").iterdir()) == before


def test_a_lease_that_ends_while_it_is_read_holds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path)
    cache.hold([("quantize", "0" * 64)])

    def gone(path: Path) -> Any:
        path.unlink()
        raise FileError("no such file")

    monkeypatch.setattr(leases, "read_json", gone)
    with garbage(cache) as found:
        assert found.is_quiet
    damaged = Cache(tmp_path)
    damaged.hold([("quantize", "1" * 64)])
    monkeypatch.undo()
    damaged.lease.path.write_text("not JSON")
    with pytest.raises(FileError, match="is not JSON"), garbage(cache):
        pass
