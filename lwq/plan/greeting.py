"""What a worker is, and whether it may carry out steps of a client: only where the same bytes come out."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lwq
from lwq.errors import LwqError
from lwq.llama.limits import memory_limits
from lwq.llama.machine import n_cpus
from lwq.llama.toolchain import Toolchain, cpu_digest, find_for, home


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """Who a process that carries out steps is."""

    host: str
    home: str
    version: str
    code: str
    """Short hash of lwq's own source."""
    cpu: str
    """Short hash of the processor's features: a build for it computes otherwise on others."""
    toolchain: str
    """What of its llama.cpp is in keys, as JSON; empty where it has none."""
    fault: str = ""
    """Why it has none."""
    n_cpus: int = 1
    room: Mapping[str, int] = field(default_factory=dict)
    """Memory that is free for steps, and the device's."""


def greeting(device: str, toolchain: Toolchain | None = None) -> Greeting:
    """This process; its llama.cpp is looked for on the device unless one is handed in."""
    fault = ""
    try:
        toolchain = toolchain or find_for(device)
    except LwqError as error:
        fault = error.message
    return Greeting(
        host=host(),
        home=str(home().resolve()),
        version=lwq.__version__,
        code=_code(),
        cpu=cpu_digest(),
        toolchain=json.dumps(toolchain.identity, sort_keys=True) if toolchain else "",
        fault=fault,
        n_cpus=n_cpus(),
        room=room_of(toolchain),
    )


def room_of(toolchain: Toolchain | None) -> dict[str, int]:
    """Bytes that steps of this machine may need together."""
    room = {"memory": min(limit.free for limit in memory_limits())}
    if toolchain and not toolchain.device.is_cpu and toolchain.device.n_bytes:
        room["device"] = toolchain.device.n_bytes
    return room


def refusal(ours: Greeting, theirs: Greeting) -> str:
    """Why a worker cannot be used by this client; empty where it can."""
    if theirs.version != ours.version:
        return f"has lwq {theirs.version}, and this is {ours.version}"
    if theirs.code != ours.code:
        return f"has another state of lwq {ours.version} (source {theirs.code}, here {ours.code})"
    if theirs.fault:
        return f"has no llama.cpp to use: {theirs.fault}"
    if theirs.toolchain != ours.toolchain:
        return f"has another llama.cpp: {_difference(json.loads(ours.toolchain), json.loads(theirs.toolchain))}"
    if theirs.cpu != ours.cpu:
        return f"has another processor (features {theirs.cpu}, here {ours.cpu}), on which other digits come out"
    return ""


def _difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    names = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    return ", ".join(f"{name} {_told(theirs.get(name))} (here {_told(ours.get(name))})" for name in names)


def _told(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def host() -> str:
    """This machine, told apart from others of its name."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    with suppress(OSError):
        return f"{socket.gethostname()} {boot.read_text(encoding='utf-8').strip()}"
    return socket.gethostname()


def _code() -> str:
    root = Path(lwq.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def settle_in(cpus: tuple[int, ...]) -> None:
    """Keeps a worker of this machine to its processors, and lets the terminal's ^C be its client's to hear."""
    signal.signal(signal.SIGINT, _unheard)  # ignored, it would be ignored by tools too
    if cpus and hasattr(os, "sched_setaffinity"):
        for thread in Path("/proc/self/task").iterdir():
            with suppress(OSError):
                os.sched_setaffinity(int(thread.name), cpus)


def _unheard(signum: int, frame: object) -> None: ...
