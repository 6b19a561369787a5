"""On what llama.cpp computes: the CPU alone, GPUs of this machine, or devices of an RPC server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What models lie on; the CPU alone where it has no names."""

    names: tuple[str, ...] = ()
    """As llama.cpp calls them (``CUDA0``)."""
    label: str = ""
    """What people call it (``NVIDIA H100 80GB HBM3``)."""
    n_bytes: int = 0
    """Memory of all of them."""
    free_bytes: int = 0
    """What was free of it when it was looked for: decides whether a run starts, never a result."""
    server: str = ""
    """``host:port`` of the RPC server that has them."""

    @property
    def is_cpu(self) -> bool:
        return not self.names


CPU: Final = Device()
