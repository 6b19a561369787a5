"""Finished pieces of long measurements, kept as they come: a killed run loses the piece it was at.

A piece is a pure function of the file's name (what was measured, with what) and its own key, so steps may share them
and the order in which they came does not matter.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lwq.store.files import lock, os_errors


class Pieces:
    """JSON values by key in a file of lines that only grows; a half-written last line is ignored."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.by_key: dict[str, Any] = {}
        if path.exists():
            for line in path.read_bytes().split(b"\n"):
                try:
                    key, value = json.loads(line)
                except (ValueError, TypeError):
                    continue
                self.by_key[key] = value

    def get(self, key: str, measure: Callable[[], Any]) -> Any:
        """The piece of that key, measured and kept if it is new."""
        return self.by_key[key] if key in self.by_key else self.again(key, measure)

    def again(self, key: str, measure: Callable[[], Any]) -> Any:
        """The piece of that key, measured whatever was kept of it: the last line of a key counts."""
        self.by_key[key] = value = json.loads(json.dumps(measure(), allow_nan=False))
        self._append(key, value)
        return value

    def _append(self, key: str, value: Any) -> None:
        line = json.dumps([key, value], separators=(",", ":")).encode()
        with os_errors("keep a finished measurement", self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with lock(self.path.with_suffix(".lock")), self.path.open("ab") as file:
                file.write(b"\n" + line + b"\n")  # starts anew after a line that a killed run left half-written
                file.flush()
                os.fsync(file.fileno())
