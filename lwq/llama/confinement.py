"""What a child may do: how long it may be silent, what of the network it reaches, how much memory it may ask for.

On every system no core dump: one would be as large as the model, in the cache; and a pasted command makes it. On Linux
besides: no program that it starts gains privileges, it ends when lwq ends, and it has a network of its own, with a
loopback and nothing else, unless it needs the other. Where the kernel refuses that, it runs without.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import shutil
import signal
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lwq.llama.limits import memory_limits
from lwq.store.signals import STOPPING

DEFAULT_STALL_SECONDS: Final = 900.0

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWNET: Final = 0x40000000
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 1
_RESERVED: Final = 2
"""A program may reserve more than it ever touches; nothing that fits asks for twice the memory that there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a child is started with."""

    stall_seconds: float = DEFAULT_STALL_SECONDS
    """Without output and CPU use it is killed after so long."""
    network: bool = False
    """It reaches what lwq reaches: for downloads, and devices of other machines."""
    memory_bytes: int | None = None
    """Of its own (RLIMIT_DATA): what it allocates, not the files that it maps."""


def computing(*, on_cpu: bool, elsewhere: bool) -> Limits:
    """What a process may do that computes with llama.cpp: it reads files that somebody made."""
    return Limits(network=elsewhere, memory_bytes=most_memory_bytes() if on_cpu else None)


def most_memory_bytes() -> int:
    """More than any step that can succeed here asks for: twice what this machine or the control group has.

    For what computes on the CPU; a GPU's driver reserves as it likes. It stops a file that makes a program
    allocate without end, before the system looks for something to kill.
    """
    return _RESERVED * min(limit.n_bytes for limit in memory_limits() if limit.mapped == "dropped")


def child_setup(limits: Limits) -> Callable[[], None]:
    """A function for the child, between fork and exec: it hears signals again, and is confined.

    SIGTERM at our end, not SIGKILL: ninja and make then stop their compilers and remove half-written outputs.
    """
    c: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
    parent, is_root, ids = os.getpid(), os.geteuid() == 0, (os.geteuid(), os.getegid())
    keeps_privileges = _drivers_to_load()

    def set_up() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        _bound(resource.RLIMIT_CORE, 0)
        if c is None:
            return
        if limits.memory_bytes is not None:
            _bound(resource.RLIMIT_DATA, limits.memory_bytes)
        if not limits.network:
            _leave_network(c, is_root, ids)
        if not keeps_privileges:
            c.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        c.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:  # it died before the call above
            os._exit(1)

    return set_up


def _drivers_to_load() -> bool:
    """Whether NVIDIA's driver is yet to be loaded: its first user does that, by a program that is root's (setuid)."""
    return not os.path.exists("/dev/nvidia-uvm") and shutil.which("nvidia-modprobe") is not None


def _bound(kind: int, n: int) -> None:
    """Lowers a soft limit; the user's own may be lower."""
    soft, hard = resource.getrlimit(kind)
    if soft == resource.RLIM_INFINITY or soft > n:
        with suppress(OSError, ValueError):
            resource.setrlimit(kind, (n if hard == resource.RLIM_INFINITY else min(n, hard), hard))


def _leave_network(c: Any, is_root: bool, ids: tuple[int, int]) -> None:
    """A network namespace of its own, with a loopback.

    Who is not root gets it inside a user namespace, in which he is who he was. Root does not: it would lose
    the right to files of others.
    """
    if c.unshare(_CLONE_NEWNET) != 0:
        if is_root or c.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
            return
        with suppress(OSError):  # without a map he has no name in there, and the same rights
            for file, text in (
                ("setgroups", "deny"),
                ("uid_map", f"{ids[0]} {ids[0]} 1"),
                ("gid_map", f"{ids[1]} {ids[1]} 1"),
            ):
                Path("/proc/self", file).write_text(text, encoding="ascii")
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
