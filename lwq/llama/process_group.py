"""The life and the end of a child and its descendants: who they are, whether they work, how they stop.

A child leads a session of its own. Descendants are found by that session, not by process group:
ninja gives each compiler a group of its own.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lwq.errors import Interrupted

_LOOK_SECONDS: Final = 5.0
_PEAK: Final = re.compile(r"^VmHWM:\s*(\d+) kB", re.MULTILINE)
_WORDS: Final = {
    signal.SIGKILL: "out of memory?",
    signal.SIGSEGV: "SIGSEGV: it crashed",
    signal.SIGABRT: "SIGABRT: it gave up on an internal check",
    signal.SIGILL: "SIGILL: built for another CPU?",
    signal.SIGBUS: "SIGBUS: a file shrank while it was mapped, or the disk is full?",
}
_THREAD: Final = threading.local()


@contextmanager
def stoppable(is_asked: Callable[[], bool]) -> Iterator[None]:
    """Programs that this thread runs meanwhile are stopped, as by ^C, as soon as ``is_asked`` says so."""
    _THREAD.is_asked = is_asked
    try:
        yield
    finally:
        del _THREAD.is_asked


def heed() -> None:
    """Raises Interrupted where this thread was asked to stop: signals reach a process's first thread only."""
    if (is_asked := getattr(_THREAD, "is_asked", None)) and is_asked():
        raise Interrupted("stopped", hint="finished steps are kept; the same command goes on from there")


def members(leader: int) -> tuple[int, ...]:
    """Process ids of the session that ``leader`` began, those that outlived it included."""
    import psutil

    return tuple(pid for pid in psutil.pids() if pid > 0 and _session(pid) == leader)


def peak_bytes(pid: int) -> int:
    """The most memory (resident bytes) that a running process has had so far, or 0 where that cannot be read.

    Where there is no /proc, what it has now. Not the ``ru_maxrss`` of ``wait4``: on Linux that counts the time
    before exec too, when the child was a copy of this process.
    """
    import psutil

    with suppress(OSError, psutil.Error):
        if sys.platform == "linux":
            match = _PEAK.search(Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))
            return int(match[1]) << 10 if match else 0
        return int(psutil.Process(pid).memory_info().rss)
    return 0


def signal_group(leader: int, number: signal.Signals) -> None:
    """Sends a signal as a terminal does: to the leader's process group."""
    try:
        os.killpg(leader, number)
    except (ProcessLookupError, PermissionError):  # gone; on macOS also: only zombies left
        return


def signal_members(leader: int, number: signal.Signals) -> None:
    """Sends a signal to every process of the leader's session."""
    for pid in members(leader):
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue


def ending(returncode: int) -> str:
    """How a program ended, in words."""
    if returncode >= 0:
        return f"exit status {returncode}"
    try:
        words = _WORDS.get(signal.Signals(-returncode)) or signal.Signals(-returncode).name
    except ValueError:
        words = "a real-time signal"
    return f"killed by signal {-returncode} ({words})"


@dataclass(slots=True)
class StallWatch:
    """Knows since when a child's session has neither printed nor used CPU."""

    leader: int
    stall_seconds: float
    alive_at: float = field(default_factory=time.monotonic)
    looked_at: float = field(default_factory=time.monotonic)
    cpu: tuple[tuple[int, float], ...] = ()

    def heard(self) -> None:
        """Notes that the child printed something."""
        self.alive_at = time.monotonic()

    def is_hung(self) -> bool:
        """Whether ``stall_seconds`` went by without output or CPU use; looks only now and then."""
        now = time.monotonic()
        if now - self.looked_at < min(_LOOK_SECONDS, self.stall_seconds / 4):
            return False
        self.looked_at = now
        cpu = _cpu_use(self.leader)
        if cpu != self.cpu:
            self.cpu, self.alive_at = cpu, now
        return now - self.alive_at > self.stall_seconds


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return -1


def _cpu_use(leader: int) -> tuple[tuple[int, float], ...]:
    """(process id, CPU seconds) of the session; any change of it is a sign of life."""
    import psutil

    use = []
    for pid in members(leader):
        try:
            times = psutil.Process(pid).cpu_times()
        except psutil.Error:
            continue
        use.append((pid, times.user + times.system))
    return tuple(use)
