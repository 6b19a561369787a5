"""Which process is meant, and whether it still lives: a number alone is given to another process later."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
_STARTED: Final = 19
"""The field of /proc/PID/stat, counted behind the program's name, that says when a process began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Living:
    """A process by its number and its beginning."""

    pid: int
    born: str

    @classmethod
    def me(cls) -> Living:
        """This process."""
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> Living:
        """The process that has this number now."""
        return cls(pid=pid, born=_born(pid))

    def is_alive(self) -> bool:
        """Whether it still runs; not of one that has ended and waits to be asked how."""
        return bool(self.born) and _born(self.pid) == self.born


def _born(pid: int) -> str:
    """When a process began, in words that no later one of its number has; empty where there is none.

    On Linux in ticks since the machine started, which no clock that is set moves.
    """
    import psutil

    with suppress(psutil.NoSuchProcess, psutil.AccessDenied, OSError):
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return ""
        if sys.platform == "linux":
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            return f"{fields[_STARTED]} {_BOOT.read_text(encoding='utf-8').strip()}"
        return f"{process.create_time():.2f}"
    return ""
