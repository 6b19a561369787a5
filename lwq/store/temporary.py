"""Folders for a while: gone afterwards, and one that cannot be made or removed is told in words."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lwq.errors import Interrupted
from lwq.store.files import begun_with, is_running, os_errors
from lwq.store.signals import signals_held


@contextmanager
def temporary_folder(parent: Path | None = None, *, prefix: str = "lwq-") -> Iterator[Path]:
    """A new folder, in the system's for temporary files where no other is named; that it cannot be removed ends no run.

    Within a named parent, what killed processes of this machine left under the same prefix is removed first: the
    system sweeps its own folder only.

    Raises:
        FileError, SpaceError: it cannot be made.
    """
    place = parent or Path(os.environ.get("TMPDIR", "/tmp"))
    with os_errors("make a temporary folder (TMPDIR names where)", place):
        if parent:
            _sweep(parent, prefix)
        name = f"{prefix}{_machine()}-{os.getpid()}-"
        made = tempfile.TemporaryDirectory(dir=parent, prefix=name, ignore_cleanup_errors=True)
    try:
        yield Path(made.name)
    finally:
        _remove(made)


def _machine() -> str:
    """Which machine this is, to those that share a file system with it."""
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _sweep(parent: Path, prefix: str) -> None:
    start = f"{prefix}{_machine()}-"
    for left in begun_with(parent, start):
        whose = left.name.removeprefix(start).partition("-")[0]
        if whose.isdecimal() and not is_running(int(whose)):
            shutil.rmtree(left, ignore_errors=True)


def _remove(made: tempfile.TemporaryDirectory[str]) -> None:
    """Also where more signals come: the first is on its way up already."""
    while True:
        try:
            with signals_held():
                made.cleanup()
                return
        except (Interrupted, KeyboardInterrupt):
            continue
