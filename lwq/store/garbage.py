"""What of the cache may go: what no recipe's last run used, no run at work needs, and killed runs left."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lwq.errors import FileError
from lwq.store.cache import Cache, key_of
from lwq.store.files import lock_if_free, os_errors
from lwq.store.leases import needed


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """What may go now."""

    folders: tuple[Path, ...]
    """Entries, and what killed runs left of some."""
    pieces: tuple[Path, ...]
    """Of measurements."""
    is_quiet: bool
    """Whether no run is at work."""

    @property
    def paths(self) -> tuple[Path, ...]:
        return self.folders + self.pieces


@contextmanager
def garbage(cache: Cache) -> Iterator[Garbage]:
    """What may go of a cache; no run begins to need any of it meanwhile."""
    with needed(cache.root) as at_work:
        busy, used = at_work or frozenset[str](), _used(cache)
        folders = [p for p in sorted(cache.steps.glob("*")) if p.is_dir() and not p.is_symlink()]
        gone = (p for p in folders if (_entry_of(p) not in busy if p.name[0] == "." else p.name not in used | busy))
        keys = {name.rpartition("-")[2] for name in used | busy}
        files = (p for p in sorted(cache.pieces.glob("*.*")) if p.name.split(".")[0] not in keys)
        pieces = tuple(p for p in files if p.suffix != ".lock" or not _owners(p))
        yield Garbage(folders=tuple(gone), pieces=pieces, is_quiet=at_work is None)


def remove(cache: Cache, path: Path) -> bool:
    """Whether an entry, a leftover or a piece of this cache was removed: not one that is being made this moment."""
    if path.parent == cache.steps:
        entry = _entry_of(path) if path.name[0] == "." else path.name
        with lock_if_free(cache.steps / f".{entry}.lock") as is_free, os_errors("remove a cache entry", path):
            if is_free:
                shutil.rmtree(path)
        return is_free
    if path.parent != cache.pieces:
        raise FileError(f"{path}: is not in the cache {cache.root}")
    with os_errors("remove a piece of a measurement", path):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
            path.with_suffix(".lock").unlink(missing_ok=True)
    return True


def _used(cache: Cache) -> frozenset[str]:
    """Names of the entries of all recipes' last runs."""
    names = set()
    for value in (v for path in cache.ledger.glob("*.json") for v in cache.remembered(path.stem).values()):
        with suppress(ValueError):  # not a key that any lwq wrote
            names.add(cache.folder(str(value.get("step")), key_of(value)).name)
    return frozenset(names)


def _entry_of(leftover: Path) -> str:
    """``.STEP-KEY.random`` → ``STEP-KEY``."""
    return leftover.name[1:].rpartition(".")[0]


def _owners(lock: Path) -> list[Path]:
    """The pieces that a lock is for."""
    return [p for p in lock.parent.glob(f"{lock.stem}.*") if p != lock]
