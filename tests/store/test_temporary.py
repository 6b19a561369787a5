"""Folders for a while: what keeps one from being made or removed is told, or ends nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lwq.errors import FileError
from lwq.store.temporary import temporary_folder


def test_it_is_there_for_a_while(tmp_path: Path) -> None:
    with temporary_folder(tmp_path, prefix=".some-") as folder:
        assert folder.parent == tmp_path
        assert folder.name.startswith(".some-")
        (folder / "file").touch()
    assert not folder.exists()


def test_one_that_cannot_be_made_is_told_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="TMPDIR") as caught, temporary_folder(tmp_path / "no" / "where"):
        raise AssertionError("it was made")
    assert caught.value.hint


def test_one_that_vanished_or_stays_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with temporary_folder(tmp_path) as folder:
        shutil.rmtree(folder)
    with temporary_folder(tmp_path) as folder:
        (folder / "held").mkdir()
        monkeypatch.setattr("os.rmdir", lambda *a, **k: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    assert folder.exists()


def test_what_killed_processes_left_beside_it_is_removed(tmp_path: Path) -> None:
    with temporary_folder(tmp_path, prefix=".some-") as first:
        start, mine, _ = first.name.rsplit("-", 2)
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        left = tmp_path / f"{start}-{dead.pid}-abc"
        others = (
            tmp_path / f".other-{dead.pid}-abc",
            tmp_path / f".some-00000000-{dead.pid}-abc",
            tmp_path / f"{start}-x-abc",
            tmp_path / f"{start}-{mine}-abc",
        )
        for folder in (left, *others):
            (folder / "within").mkdir(parents=True)
        with temporary_folder(tmp_path, prefix=".some-"):
            assert not left.exists()
            assert all(folder.exists() for folder in (first, *others))


STORM = """
import os, signal, sys, threading, time
import subprocess
import sys
from pathlib import Path
from lwq.store.temporary import temporary_folder

def stop(*_):
    raise KeyboardInterrupt

def storm():
    while True:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.0005)

signal.signal(signal.SIGTERM, stop)
with temporary_folder(Path(sys.argv[1])) as folder:
    for i in range(3000):
        (folder / str(i)).touch()
    threading.Thread(target=storm, daemon=True).start()
    time.sleep(60)
"""


def test_a_storm_of_signals_leaves_no_folder(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", STORM, str(tmp_path)], check=False, capture_output=True)
    assert ended.returncode != 0
    assert b"KeyboardInterrupt" in ended.stderr
    assert not list(tmp_path.iterdir())
