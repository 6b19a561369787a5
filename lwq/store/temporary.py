"""Folders for a while: gone afterwards, and one that cannot be made or removed is told in words."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lwq.errors import Interrupted
from lwq.store.files import os_errors
from lwq.store.signals import signals_held


@contextmanager
def temporary_folder(parent: Path | None = None, *, prefix: str = "lwq-") -> Iterator[Path]:
    """A new folder, in the system's for temporary files where no other is named; that it cannot be removed ends no run.

    Raises:
        FileError, SpaceError: it cannot be made.
    """
    place = parent or Path(os.environ.get("TMPDIR", "/tmp"))
    with os_errors("make a temporary folder (TMPDIR names where)", place):
        made = tempfile.TemporaryDirectory(dir=parent, prefix=prefix, ignore_cleanup_errors=True)
    try:
        yield Path(made.name)
    finally:
        _remove(made)


def _remove(made: tempfile.TemporaryDirectory[str]) -> None:
    """Also where more signals come: the first is on its way up already."""
    while True:
        try:
            with signals_held():
                made.cleanup()
                return
        except (Interrupted, KeyboardInterrupt):
            continue
