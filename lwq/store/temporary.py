"""Folders for a while: gone afterwards, and one that cannot be made or removed is told in words."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lwq.store.files import os_errors


@contextmanager
def temporary_folder(parent: Path | None = None, *, prefix: str = "lwq-") -> Iterator[Path]:
    """A new folder, in the system's for temporary files where no other is named; that it cannot be removed ends no run.

    Raises:
        FileError, SpaceError: it cannot be made.
    """
    with os_errors("make a temporary folder (TMPDIR names where)", parent or Path(os.environ.get("TMPDIR", "/tmp"))):
        made = tempfile.TemporaryDirectory(dir=parent, prefix=prefix, ignore_cleanup_errors=True)
    with made as name:
        yield Path(name)
