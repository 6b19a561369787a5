"""Hashes of files that were hashed before: one sqlite file, in which nothing is that could not be found out again."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

_TIMEOUT_SECONDS: Final = 30.0
_TABLE: Final = "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, stat TEXT, sha256 TEXT, seal TEXT)"
_DAMAGED: Final = (1, 11, 26)
"""SQLITE_ERROR (a table with other columns), SQLITE_CORRUPT, SQLITE_NOTADB."""


def fingerprint(stat: os.stat_result) -> str:
    """By which it is seen that a file is not the one that was hashed."""
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ino}"


def recall(memo: Path, path: Path, stat: os.stat_result) -> str | None:
    """The hash of a file that is as it was when it was hashed."""
    rows = _in_memo(memo, "SELECT sha256, seal FROM files WHERE path = ? AND stat = ?", str(path), fingerprint(stat))
    return rows[0][0] if rows and rows[0][1] == _seal(path, stat, rows[0][0]) else None


def remember(memo: Path, path: Path, stat: os.stat_result, digest: str) -> None:
    """Notes a hash, if that can be done."""
    row = (str(path), fingerprint(stat), digest, _seal(path, stat, digest))
    _in_memo(memo, "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", *row)


def _seal(path: Path, stat: os.stat_result, digest: object) -> str:
    """By which a row that the disk changed is known."""
    return hashlib.sha256(f"{path}\0{fingerprint(stat)}\0{digest}".encode(errors="surrogateescape")).hexdigest()


def _in_memo(memo: Path, statement: str, *values: str) -> tuple[tuple[Any, ...], ...]:
    """The rows; a memo that cannot be used is no reason to fail, only to hash again."""
    import sqlite3

    try:
        memo.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(memo, timeout=_TIMEOUT_SECONDS)
        try:
            with database:
                database.execute(_TABLE)
                return tuple(database.execute(statement, values))
        finally:
            database.close()
    except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_BUSY) & 0xFF
        is_damaged = code in _DAMAGED or isinstance(error, UnicodeDecodeError)
        for path in (memo, memo.with_name(f"{memo.name}-journal")) if is_damaged else ():  # it is ours: begin anew
            with suppress(OSError):
                path.unlink(missing_ok=True)
        return ()
