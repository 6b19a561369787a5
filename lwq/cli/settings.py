"""The global options, settled once, and what they find."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lwq.cache import Cache
    from lwq.pipeline import Machine
    from lwq.toolchain import Toolchain


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What ``lwq`` was called with before the command's name."""

    verbosity: int
    llama_dir: str | None
    threads: int | None

    def toolchain(self) -> Toolchain:
        """The llama.cpp to use; starts no process for our own build."""
        from lwq.toolchain import find

        return find(Path(self.llama_dir) if self.llama_dir else None)

    def machine(self) -> Machine:
        """The toolchain with this machine's threads and processor."""
        from lwq.machine import cpu_name
        from lwq.pipeline import Machine

        return Machine(toolchain=self.toolchain(), n_threads=self.n_threads(), cpu=cpu_name())

    def n_threads(self) -> int:
        """Threads for the tools: as asked, else one for each physical core that this process may use."""
        if self.threads:
            return self.threads
        import psutil

        from lwq.machine import n_cpus

        return max(1, min(n_cpus(), psutil.cpu_count(logical=False) or n_cpus()))

    def cache(self) -> Cache:
        """Finished steps of this user."""
        from lwq.cache import Cache
        from lwq.toolchain import home

        return Cache(home())
