"""Which entries of a cache are needed by runs at work, so that nobody removes them.

A lease is a list of names beside a lock that its process holds: it ends with that process, whatever ends that. Who
removes something holds a lock that a lease waits for when it is made, and looks at all leases under it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from lwq.errors import FileError
from lwq.store.files import begun_with, lock, lock_if_free, os_errors, read_json, write_json

_FOLDER = "at-work"


class Lease:
    """What one run needs; it ends with this object at the latest."""

    def __init__(self, root: Path) -> None:
        self.folder = root / _FOLDER
        self.path = self.folder / f"{os.getpid()}-{time.monotonic_ns()}.json"
        self.names: frozenset[str] = frozenset()
        self._held = ExitStack()
        self._is_held = False
        self._owner = os.getpid()

    def hold(self, names: Iterable[str]) -> None:
        """Needs these entries too, from now on; nothing is noted in a cache that this user can only read."""
        root = self.folder.parent
        if root.exists() and not os.access(root, os.W_OK):
            return
        more = self.names.union(names)
        with os_errors("note what is at work", self.path), lock(_of_removal(self.folder)):
            if not self._is_held:
                self._held.enter_context(lock(self.path.with_suffix(".lock")))
                self._is_held = True
            write_json(self.path, sorted(more))
        self.names = more

    def end(self) -> None:
        """Needs nothing any more."""
        if self._is_held and self._owner == os.getpid():
            self._is_held = False
            with suppress(FileError):
                _forget(self.path)
            self._held.close()

    __del__ = end


@contextmanager
def needed(root: Path) -> Iterator[frozenset[str] | None]:
    """The names of entries that runs at work need, None where none is at work; no run begins meanwhile."""
    folder = root / _FOLDER
    with lock(_of_removal(folder)):
        names: set[str] = set()
        n_alive = 0
        for path in sorted({found.with_suffix(".json") for found in folder.glob("*-*") if found.suffix != ".tmp"}):
            with lock_if_free(path.with_suffix(".lock")) as is_free:
                if is_free:
                    _forget(path)
                elif (held := _names(path)) is not None:
                    n_alive += 1
                    names |= held
        yield frozenset(names) if n_alive else None


def _names(path: Path) -> set[str] | None:
    """What a lease names; None where it ended this moment."""
    try:
        return set(read_json(path))
    except FileError:
        if path.exists():
            raise
        return None


def _of_removal(folder: Path) -> Path:
    return folder / "removal.lock"


def _forget(path: Path) -> None:
    with os_errors("remove what a run that ended left", path):
        for left in (path, *begun_with(path.parent, f".{path.name}."), path.with_suffix(".lock")):
            left.unlink(missing_ok=True)
