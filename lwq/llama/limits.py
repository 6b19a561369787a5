"""What memory this process may have: the machine's, its control group's, its resource limits'."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

_GROUPS: Final = Path("/sys/fs/cgroup")
_NO_LIMIT: Final = 1 << 60
"""Control groups of the first version say so with a number near 2⁶³."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLimit:
    """Memory that somebody sets a bound to."""

    n_bytes: int
    whose: str
    """``this machine has``, ``RLIMIT_DATA allows``."""
    mapped: Literal["dropped", "counted", "free"] = "dropped"
    """Pages of mapped files count but are dropped for others, count as long as the file is mapped, or do not count."""
    used: int = 0
    """Of it, in use now; of the machine's, what cannot be had now."""

    @property
    def free(self) -> int:
        return max(0, self.n_bytes - self.used)


def memory_limits() -> tuple[MemoryLimit, ...]:
    """All bounds that hold for this process and those that it starts."""
    import psutil

    memory = psutil.virtual_memory()
    machine = MemoryLimit(n_bytes=memory.total, whose="this machine has", used=memory.total - memory.available)
    return (machine, *_of_groups(Path("/proc/self/cgroup")), *_of_resources())


def _of_resources() -> Iterator[MemoryLimit]:
    """RLIMIT_DATA bounds what a process alone has, touched or not; RLIMIT_AS its mapped files too."""
    import psutil

    now = psutil.Process().memory_info()
    data, _ = resource.getrlimit(resource.RLIMIT_DATA)
    space, _ = resource.getrlimit(resource.RLIMIT_AS)
    if data != resource.RLIM_INFINITY:
        yield MemoryLimit(n_bytes=data, whose="RLIMIT_DATA allows", mapped="free", used=getattr(now, "data", 0))
    if space != resource.RLIM_INFINITY:
        yield MemoryLimit(n_bytes=space, whose="RLIMIT_AS allows", mapped="counted", used=now.vms)


def _of_groups(mine: Path, root: Path = _GROUPS) -> Iterator[MemoryLimit]:
    """Bounds of the control groups that this process is in, of both versions, from its own to the outermost."""
    try:
        lines = mine.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield from _bounds(root, path, "memory.max", "memory.stat", "anon")
        elif "memory" in controllers.split(","):
            yield from _bounds(root / "memory", path, "memory.limit_in_bytes", "memory.stat", "total_rss")


def _bounds(root: Path, path: str, limit: str, stat: str, used: str) -> Iterator[MemoryLimit]:
    """Of a group and those around it; what they cache of files does not count, since they drop it when they need to.

    Inside a container the path is often not there: then the root is its own group.
    """
    folder = root / path.strip("/")
    for group in (folder, *folder.parents):
        if group.is_relative_to(root) and (n_bytes := _number(group / limit)) is not None and n_bytes < _NO_LIMIT:
            yield MemoryLimit(n_bytes=n_bytes, whose="its control group allows", used=_in_stat(group / stat, used))


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):  # ``max`` too
        return None


def _in_stat(path: Path, name: str) -> int:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.split()[:1] == [name]), 0)
