"""The log of a crash says what happened, and no access token."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from lwq.cli.crash import in_words, write_crash_log
from lwq.errors import FileError, SpaceError

TOKEN = "hf_abcdefghijklmnopqrstuvwxyz0123456789"


def test_the_log_holds_the_traceback_and_no_token(guarded: Path) -> None:
    try:
        raise ValueError(f"Illegal header value b'Bearer {TOKEN}\\n'")
    except ValueError as caught:
        error = write_crash_log(caught, ["publish", "--to", f"someone/{TOKEN}"])
    (log,) = (guarded / "log").iterdir()
    text = log.read_text(encoding="utf-8")
    assert "Illegal header value" in text
    assert "test_crash.py" in text
    assert "someone/hf_…" in text
    assert TOKEN not in text + error.message + error.hint


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EROFS, errno.EMFILE, errno.EAGAIN, errno.ENOMEM])
def test_what_the_system_refuses_is_no_fault_of_lwq(guarded: Path, number: int) -> None:
    told = in_words(OSError(number, "refused", "/a/file"), ["run"])
    assert isinstance(told, FileError)
    assert "/a/file" in told.message
    assert told.hint
    assert not (guarded / "log").exists()


def test_memory_that_is_not_there_is_told_as_that(guarded: Path) -> None:
    told = in_words(MemoryError(), ["run"])
    assert isinstance(told, SpaceError)
    assert "lwq plan" in told.hint
    assert not (guarded / "log").exists()
    assert in_words(OSError(errno.ENOENT, "gone"), ["run"]).hint.startswith("a fault of lwq")


def test_what_vanishes_from_the_cache_is_told_as_that(guarded: Path) -> None:
    told = in_words(FileNotFoundError(errno.ENOENT, "No such file", str(guarded / "toolchains" / "x.so")), ["run"])
    assert isinstance(told, FileError)
    assert "x.so: vanished while lwq worked" in told.message
    assert told.hint
    assert not (guarded / "log").exists()
