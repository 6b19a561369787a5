"""The cache: complete or absent, never half; keys that can be read and explained."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from lwq.errors import ToolError
from lwq.store.cache import HASHES, Cache, canonical, key_of

VALUE = {"step": "toy", "version": 1, "tool": {}, "inputs": {"b": 1, "a": "é"}}
FACTS = {"result": {"x": 1}, "commands": [], "seconds": 1.0, "tool_seconds": 0.5, "finished": "t", "work": 0.0}


def write(folder: Path) -> dict[str, Any]:
    (folder / "out.bin").write_bytes(b"result")
    return FACTS


def test_key_is_the_hash_of_a_text_a_person_can_read() -> None:
    assert canonical(VALUE) == '{"inputs":{"a":"é","b":1},"step":"toy","tool":{},"version":1}'
    # sha256 of the line above, `printf %s … | sha256sum`
    assert key_of(VALUE) == "bd72a542a099e702bfdf7e7ce68240198ad483b6efca2463c44d64c9054f6324"


def test_entry_is_found_again_and_work_is_done_once(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    entry, fresh = cache.build("toy", VALUE, write)
    again, fresh_again = cache.build("toy", VALUE, lambda folder: pytest.fail("worked twice"))
    assert (fresh, fresh_again) == (True, False)
    assert entry == again
    assert entry.path("out.bin").read_bytes() == b"result"
    assert entry.result == {"x": 1}


def test_failed_work_leaves_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def fail(folder: Path) -> dict[str, Any]:
        (folder / "out.bin").write_bytes(b"half")
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        cache.build("toy", VALUE, fail)
    assert cache.lookup("toy", key_of(VALUE)) is None
    assert [p for p in cache.steps.iterdir() if p.is_dir()] == []


def test_folder_of_a_failed_program_stays_for_a_look_until_the_step_is_done(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    (tmp_path / "input.gguf").write_bytes(bytes(3 << 20))

    def fail(folder: Path) -> dict[str, Any]:
        (folder / "input.gguf").symlink_to(tmp_path / "input.gguf")
        (folder / "items.txt").write_text("few", encoding="utf-8")
        (folder / "half.gguf").write_bytes(bytes(3 << 20))
        raise ToolError("killed")

    with pytest.raises(ToolError):
        cache.build("toy", VALUE, fail)
    (left,) = (p for p in cache.steps.iterdir() if p.is_dir())
    assert sorted(p.name for p in left.iterdir()) == ["input.gguf", "items.txt"]
    assert cache.lookup("toy", key_of(VALUE)) is None
    cache.build("toy", VALUE, lambda folder: FACTS)
    assert not left.exists()


def _die_midway(root: Path) -> None:
    def half(folder: Path) -> dict[str, Any]:
        (folder / "out.bin").write_bytes(b"half")
        time.sleep(60)
        return FACTS

    Cache(root).build("toy", VALUE, half)


def test_killed_work_leaves_no_complete_entry_and_is_done_anew(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_die_midway, args=(tmp_path,))
    process.start()
    deadline = time.monotonic() + 30
    while not list((tmp_path / "steps").glob(".toy-*/out.bin")) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    cache = Cache(tmp_path)
    assert cache.lookup("toy", key_of(VALUE)) is None
    entry, fresh = cache.build("toy", VALUE, write)
    assert fresh
    assert entry.path("out.bin").read_bytes() == b"result"
    assert len([p for p in cache.steps.iterdir() if p.is_dir()]) == 1


@pytest.mark.parametrize("harm", ["truncate", "remove", "marker", "other key"])
def test_damaged_entry_is_not_taken_for_whole(tmp_path: Path, harm: str) -> None:
    cache = Cache(tmp_path)
    entry, _ = cache.build("toy", VALUE, write)
    marker = entry.folder / "step.json"
    for path in (entry.path("out.bin"), marker):
        path.chmod(0o644)
    if harm == "truncate":
        entry.path("out.bin").write_bytes(b"res")
    elif harm == "remove":
        entry.path("out.bin").unlink()
    elif harm == "marker":
        marker.write_text(marker.read_text()[:-20])
    else:
        marker.write_text(json.dumps({**json.loads(marker.read_text()), "key": "0" * 64}))
    assert cache.lookup("toy", key_of(VALUE)) is None
    _, fresh = cache.build("toy", VALUE, write)
    assert fresh


def test_outputs_are_read_only_and_input_links_are_dropped(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    given = tmp_path / "given.txt"
    given.write_text("given")

    def work(folder: Path) -> dict[str, Any]:
        (folder / "given.txt").symlink_to(given)
        return write(folder)

    entry, _ = cache.build("toy", VALUE, work)
    assert sorted(p.name for p in entry.folder.iterdir()) == ["out.bin", "step.json"]
    assert entry.path("out.bin").stat().st_mode & 0o222 == 0
    assert given.read_text() == "given"


def test_a_key_holds_no_number_that_json_lacks() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        key_of({"inputs": float("nan")})


def test_a_released_output_is_made_again_only_for_whoever_needs_it_whole(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    entry, _ = cache.build("toy", VALUE, write)
    assert (entry.n_bytes, entry.peak_bytes, entry.released) == (6, 0, ())
    for _ in range(2):  # what is gone already may be released
        cache.release(entry, ["out.bin"])
    again, fresh = cache.build("toy", VALUE, lambda folder: pytest.fail("made what nobody needs"))
    assert (fresh, again.released, again.n_bytes) == (False, ("out.bin",), 0)
    assert not again.path("out.bin").exists()
    whole, fresh = cache.build("toy", VALUE, write, whole=True)
    assert (fresh, whole.released, whole.path("out.bin").read_bytes()) == (True, (), b"result")
    assert cache.build("toy", VALUE, lambda folder: pytest.fail("made twice"), whole=True) == (whole, False)


def test_facts_of_an_entry_are_read_as_they_were_given(tmp_path: Path) -> None:
    facts = {**FACTS, "commands": [["a", "b"]], "peak_bytes": 7, "seconds": 2.0, "work": 3.0}
    cache = Cache(tmp_path)
    cache.build("toy", VALUE, lambda folder: facts)
    (entry,) = cache.entries()
    assert (entry.step, entry.key, entry.key_value) == ("toy", key_of(VALUE), VALUE)
    assert (entry.commands, entry.peak_bytes, entry.finished) == ((("a", "b"),), 7, "t")
    assert (entry.seconds, entry.tool_seconds, entry.work) == (2.0, 0.5, 3.0)


def test_hashes_of_outputs_that_were_touched_are_remembered_in_the_caches_root(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    entry, _ = cache.build("toy", VALUE, write)
    os.utime(entry.path("out.bin"), (1, 1))
    assert cache.lookup("toy", key_of(VALUE)) is not None
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [HASHES]


def test_notes_of_a_recipe_are_read_back_and_damaged_ones_are_none(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.remembered("tiny") == {}
    cache.remember("tiny", {"base": VALUE})
    assert cache.remembered("tiny") == {"base": VALUE}
    assert cache.remembered("other") == {}
    for damaged in ("[]", "{", '{"base": 1}'):
        (tmp_path / "ledger" / "tiny.json").write_text(damaged)
        assert cache.remembered("tiny") == {}


def test_a_cache_has_its_three_folders(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert [p.relative_to(tmp_path).as_posix() for p in (cache.steps, cache.ledger, cache.pieces)] == [
        "steps", "ledger", "pieces",
    ]  # fmt: skip
