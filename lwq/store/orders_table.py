"""The table of orders: how it is made, how a row is known to be as it was written, what sqlite refuses in words."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from lwq.errors import FileError, SpaceError
from lwq.store.files import lock

SCHEMA: Final = 2
_WAL_PAGES: Final = 16
_DAMAGED: Final = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_TABLE: Final = """
CREATE TABLE IF NOT EXISTS orders (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, folder TEXT NOT NULL, recipe TEXT NOT NULL,
    cwd TEXT NOT NULL, arguments TEXT NOT NULL, state TEXT NOT NULL, pid INTEGER NOT NULL, born TEXT NOT NULL,
    queued REAL NOT NULL, started REAL, finished REAL, step TEXT NOT NULL DEFAULT '', step_since REAL,
    step_done INTEGER NOT NULL DEFAULT 0, step_total INTEGER NOT NULL DEFAULT 0,
    n_done INTEGER NOT NULL DEFAULT 0, n_steps INTEGER NOT NULL DEFAULT 0, left_seconds REAL,
    error TEXT NOT NULL DEFAULT '', hint TEXT NOT NULL DEFAULT '', stop_asked INTEGER NOT NULL DEFAULT 0,
    at_work TEXT NOT NULL DEFAULT '[]', seal TEXT NOT NULL DEFAULT '')
"""
_SINCE_SCHEMA_1: Final = ("at_work TEXT NOT NULL DEFAULT '[]'", "seal TEXT NOT NULL DEFAULT ''")


def prepare(database: sqlite3.Connection, path: Path) -> None:
    """Makes the table where it is not there, or as it is now where an earlier lwq made it.

    Raises:
        FileError: a later lwq made it.
    """
    database.execute("PRAGMA synchronous = NORMAL")
    database.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
    if not _version(database):
        with lock(path.with_suffix(".lock")):  # two that begin it at once are not made to wait by sqlite
            if not _version(database):
                database.execute("PRAGMA journal_mode = WAL")
                database.execute(_TABLE)
                database.execute(f"PRAGMA user_version = {SCHEMA}")
    if _version(database) == 1:
        with lock(path.with_suffix(".lock")), database:
            database.execute("BEGIN IMMEDIATE")
            if _version(database) == 1:
                for column in _SINCE_SCHEMA_1:
                    database.execute(f"ALTER TABLE orders ADD COLUMN {column}")
                database.execute(f"PRAGMA user_version = {SCHEMA}")
    if _version(database) != SCHEMA:
        hint = "use that version, or move the file away: nothing but the list of runs is in it"
        raise FileError(f"{path}: was written by another version of lwq", hint=hint)


def _version(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def seal_of(values: Mapping[str, Any]) -> str:
    """The hash of a row, which stands beside it."""
    return hashlib.sha256(repr(sorted(values.items())).encode()).hexdigest()


def in_words(path: Path, error: sqlite3.Error | UnicodeDecodeError) -> FileError | SpaceError:
    """What sqlite says, as an error to show; what it says of a damaged table may be no UTF-8."""
    code = sqlite3.SQLITE_CORRUPT if isinstance(error, UnicodeDecodeError) else getattr(error, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_FULL:
        return SpaceError(f"{path}: no room left to note what runs", hint="free some, or set LWQ_HOME to a larger disk")
    hint = "check the disk and who owns the file"
    if isinstance(code, int) and code & 0xFF in _DAMAGED:
        hint = "`lwq cache verify --repair` moves it away: nothing but the list of runs is in it; finished steps stay"
    return FileError(f"{path}: the list of runs cannot be used: {error}", hint=hint)
