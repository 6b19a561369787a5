"""On what llama.cpp computes: the CPU alone, GPUs of this machine, or devices of an RPC server."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lwq.errors import ToolchainError, ToolError, UsageError
from lwq.llama.confinement import Limits
from lwq.llama.process import run_tool
from lwq.llama.transcripts import Listed, parse_devices

RPC: Final = "rpc://"
FORMS: Final = "auto, cpu, gpu, gpu:N or rpc://HOST:PORT[,HOST:PORT…]"
_SERVER: Final = "HOST:PORT"
_ADDRESS: Final = r"[^:/,\s]+:\d+"
_FORM: Final = re.compile(rf"auto|cpu|gpu(:\d+)?|rpc://{_ADDRESS}(,{_ADDRESS})*")
_NONE: Final = "none"
_SPARE_BYTES: Final = 2 << 30
"""Of a device's memory, for what llama.cpp needs beside weights."""
_LIST_STALL_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What models lie on; the CPU where it has no memory of its own."""

    names: tuple[str, ...] = ()
    """As llama.cpp calls them (``CUDA0``); ``none`` for the CPU alone of a build that has others."""
    label: str = "CPU"
    """What people call it (``NVIDIA H100 80GB HBM3``)."""
    sizes: tuple[int, ...] = ()
    """Bytes of memory of each."""
    free_bytes: int = 0
    """What was free of it when it was looked for: decides whether a run starts, never a result."""
    servers: tuple[str, ...] = ()
    """``host:port`` of each RPC server that has them."""

    @property
    def is_cpu(self) -> bool:
        return not self.sizes

    @property
    def n_bytes(self) -> int:
        """Memory of all of them."""
        return sum(self.sizes)

    @property
    def addresses(self) -> dict[str, str]:
        """What stands in recorded commands for the addresses of RPC servers → these."""
        return {",".join([_SERVER] * len(self.servers)): ",".join(self.servers)} if self.servers else {}

    @property
    def facts(self) -> dict[str, object]:
        """What of it can change a result: its kind and its size, since that decides how many layers lie on it."""
        return {"device": self.label, "device_bytes": list(self.sizes)} if self.names else {}

    def n_layers(self, model_bytes: int, n_layer: int, *, beside: float = 0.0, spare: int = _SPARE_BYTES) -> int:
        """How many layers of a model lie on it, the last ones; one more than the model has with the output.

        By its size, not by what is free of it now, which must not decide a result.

        Args:
            beside: what is kept beside the weights, as a share of them.
        """
        if self.is_cpu:
            return 0
        each = model_bytes * (1 + beside) / (n_layer + 1)
        return max(0, min(n_layer + 1, int((self.n_bytes - spare) / each)))

    def arguments(self, n_layers: int, *, of_bench: bool = False) -> tuple[str, ...]:
        """The options by which a program computes on it with so many layers; none for a build of the CPU alone."""
        if not self.names:
            return ()
        between = "/" if of_bench else ","
        servers = ("--rpc", *self.addresses) if self.servers else ()
        chosen = (*servers, "-dev", between.join(self.names))
        if self.is_cpu:
            return chosen
        shares = ("-ts", between.join(str(n >> 20) for n in self.sizes)) if len(self.sizes) > 1 else ()
        return (*chosen, "-ngl", str(n_layers), *shares, *(() if of_bench else ("-fit", "off")))


CPU: Final = Device()


def check_form(asked: str) -> None:
    """Raises UsageError for what names no device."""
    if not _FORM.fullmatch(asked):
        raise UsageError(f"--device {asked}: is no device", hint=f"it is one of {FORMS}")


def find_device(program: Path, asked: str, backend: str) -> Device:
    """The device that is asked for, as that program (one that lists devices) of a build sees it.

    Args:
        asked: ``auto`` is the GPUs where the build sees some, else the CPU.
        backend: of the build; one for the CPU alone is not asked.

    Raises:
        ToolchainError: the build has no such device, or the server does not answer.
    """
    if backend == "cpu" and not asked.startswith((RPC, "gpu")):
        return CPU
    if asked == "cpu" and backend != "given":  # without asking a driver that may not be at work
        return Device(names=(_NONE,))
    servers = tuple(asked.removeprefix(RPC).split(",")) if asked.startswith(RPC) else ()
    found = () if backend == "cpu" else _listed(program, servers)
    if asked == "cpu" or (asked == "auto" and not found):
        return Device(names=(_NONE,)) if backend != "given" or found else CPU
    if not found:
        raise ToolchainError(
            f"--device {asked}: this build of llama.cpp ({backend}) sees no such device",
            hint="`lwq toolchain build --backend cuda` (or vulkan, metal, rpc), or --device cpu",
        )
    _, _, number = asked.partition(":") if not servers else ("", "", "")
    if number and int(number) >= len(found):
        seen = ", ".join(f"gpu:{i} {d.label}" for i, d in enumerate(found))
        raise ToolchainError(f"--device {asked}: there is no such GPU", hint=f"seen: {seen}")
    chosen = (found[int(number)],) if number else found
    labels = dict.fromkeys("RPC" if servers else d.label for d in chosen)
    count = f"{len(chosen)} × " if len(chosen) > 1 and len(labels) == 1 else ""
    return Device(
        names=tuple(d.name for d in chosen),
        label=count + " + ".join(labels),
        sizes=tuple(d.n_bytes for d in chosen),
        free_bytes=sum(d.free_bytes for d in chosen),
        servers=servers,
    )


def _listed(program: Path, servers: tuple[str, ...]) -> tuple[Listed, ...]:
    remote = ("--rpc", ",".join(servers)) if servers else ()
    limits = Limits(stall_seconds=_LIST_STALL_SECONDS, network=bool(servers))
    try:
        done = run_tool(
            (str(program), *remote, "--list-devices"), cwd=Path("/"), limits=limits, check=False,
            env={"GGML_NO_BACKTRACE": "1"},
        )  # fmt: skip
    except ToolError as error:
        raise ToolchainError(error.message, hint="is the driver at work? --device cpu goes without") from None
    if done.returncode and servers:
        where = RPC + ",".join(servers)
        one = "no RPC server of llama.cpp answers there" if len(servers) == 1 else "not at each answers an RPC server"
        raise ToolchainError(
            f"--device {where}: {one}, or not one of the pinned commit",
            hint="start it there: `lwq toolchain serve --host HOST --port PORT`",
        )
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise ToolchainError("\n".join((f"{program}: cannot list devices:", *last)), hint="--device cpu goes without")
    return tuple(device for device in parse_devices(done.stdout) if bool(servers) == device.name.startswith("RPC"))
