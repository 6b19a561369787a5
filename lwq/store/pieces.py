"""Finished pieces of long measurements, kept as they come: a killed run loses the piece it was at.

A line is a key, a value and the checksum of both; what was written before there were checksums has none.

A piece is a pure function of the file's name (what was measured, with what) and its own key, so steps may share them
and the order in which they came does not matter.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lwq.store.files import lock, os_errors


class Pieces:
    """JSON values by key in a file of lines that only grows; half-written and changed lines are ignored."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.by_key: dict[str, Any] = {}
        if path.exists():
            for line in path.read_bytes().split(b"\n"):
                if found := _read(line):
                    self.by_key[found[0]] = found[1]

    def get(self, key: str, measure: Callable[[], Any]) -> Any:
        """The piece of that key, measured and kept if it is new."""
        return self.by_key[key] if key in self.by_key else self.again(key, measure)

    def again(self, key: str, measure: Callable[[], Any]) -> Any:
        """The piece of that key, measured whatever was kept of it: the last line of a key counts."""
        self.by_key[key] = value = json.loads(json.dumps(measure(), allow_nan=False))
        self._append(key, value)
        return value

    def _append(self, key: str, value: Any) -> None:
        line = _line(key, value)
        with os_errors("keep a finished measurement", self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with lock(self.path.with_suffix(".lock")), self.path.open("ab") as file:
                file.write(b"\n" + line + b"\n")  # starts anew after a line that a killed run left half-written
                file.flush()
                os.fsync(file.fileno())


def sound_lines(path: Path) -> tuple[list[bytes], int]:
    """The lines of a file of pieces that can be used, and how many others there are."""
    lines = [line for line in path.read_bytes().split(b"\n") if line]
    sound = [line for line in lines if _read(line)]
    return sound, len(lines) - len(sound)


def is_sound_archive(path: Path) -> bool:
    """Whether a file of arrays is what was written, by the checksums in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError):
        return False


def _line(key: str, value: Any) -> bytes:
    return json.dumps([key, value, _checksum(key, value)], separators=(",", ":")).encode()


def _checksum(key: str, value: Any) -> str:
    return f"{zlib.crc32(json.dumps([key, value], separators=(',', ':')).encode()):08x}"


def _read(line: bytes) -> tuple[str, Any] | None:
    """Key and value of a line, None of one that is not as it was written."""
    try:
        key, value, *checksum = json.loads(line)
    except (ValueError, TypeError, RecursionError):
        return None
    is_sound = isinstance(key, str) and checksum in ([], [_checksum(key, value)])
    return (key, value) if is_sound else None
