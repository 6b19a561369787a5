"""llama.cpp's RPC server of this machine's devices, started again whenever it ends."""

from __future__ import annotations

import math
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

from lwq.errors import UsageError
from lwq.llama.confinement import Limits
from lwq.llama.process import OnOutput, failure, run_tool
from lwq.llama.programs import own_libraries
from lwq.llama.toolchain import RPC_SERVER, Toolchain

NO_GUARD: Final = (
    "it asks nobody who they are and encrypts nothing: whoever reaches this address can use it, read what is sent to it"
    " and make it fail. For networks that you trust alone."
)
_LEAST_SECONDS: Final = 2.0
"""A server that ends sooner, and not well, would end again."""


def serve(
    toolchain: Toolchain, host: str, port: int, n_threads: int, on_output: OnOutput, on_again: Callable[[str], None]
) -> None:
    """Serves on that address alone until it is interrupted.

    The server of the pinned commit ends when a client breaks off while it answers; it is started again then.

    Args:
        n_threads: of the CPU's device.
        on_again: is told why, each time.

    Raises:
        UsageError: the address is not of this machine, or taken.
        ToolError: the server ends as soon as it is started.
    """
    check_address(host, port)
    program = toolchain.program(RPC_SERVER)
    argv = (str(program), "-H", host, "-p", str(port), "-t", str(n_threads))
    limits = Limits(stall_seconds=math.inf, network=True)
    while True:
        done = run_tool(
            argv, cwd=Path("/"), env=own_libraries(toolchain), on_output=on_output, limits=limits, check=False
        )
        if done.returncode > 0 and done.seconds < _LEAST_SECONDS:
            raise failure(done, Path("/"))
        on_again(f"{RPC_SERVER} ended with {done.returncode}")


def check_address(host: str, port: int) -> None:
    """Raises UsageError for an address on which nothing can listen here."""
    try:
        kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"{host}:{port}: cannot listen there: {reason}",
            hint="an address of this machine (`hostname -I` lists them) and a port that is free",
        ) from None
