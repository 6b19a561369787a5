"""The global options, settled once, and what they find."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lwq.llama.toolchain import Toolchain
    from lwq.plan.plan import Machine
    from lwq.store.cache import Cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What ``lwq`` was called with before the command's name."""

    verbosity: int
    llama_dir: str | None
    threads: int | None
    device: str

    def toolchain(self) -> Toolchain:
        """The llama.cpp to use, on the device that was asked for."""
        from lwq.llama.toolchain import find_for

        _open_home()
        return find_for(self.device, Path(self.llama_dir) if self.llama_dir else None)

    def machine(self) -> Machine:
        """The toolchain with this machine's threads and processor."""
        from lwq.llama.machine import cpu_name
        from lwq.plan.plan import Machine

        return Machine(toolchain=self.toolchain(), n_threads=self.n_threads(), cpu=cpu_name())

    def n_threads(self) -> int:
        """Threads for the tools: as asked, else one for each physical core that this process may use."""
        if self.threads:
            return self.threads
        import psutil

        from lwq.llama.machine import n_cpus

        return max(1, min(n_cpus(), psutil.cpu_count(logical=False) or n_cpus()))

    def cache(self) -> Cache:
        """Finished steps of this user; what a command needs of them it needs to its end."""
        import click

        from lwq.store.cache import Cache

        cache, context = Cache(_open_home()), click.get_current_context(silent=True)
        if context:
            context.call_on_close(cache.lease.end)
        return cache


def _open_home() -> Path:
    """The cache's folder, there or not; raises FileError for one that this user may not look into."""
    import os

    from lwq.errors import FileError
    from lwq.llama.toolchain import home
    from lwq.store.files import os_errors

    folder = home()
    with os_errors("look into the cache", folder):
        if folder.exists() and not (folder.is_dir() and os.access(folder, os.R_OK | os.X_OK)):
            why = "this user may not look into it" if folder.is_dir() else "is no folder"
            raise FileError(f"{folder}: the cache cannot be used: {why}", hint="LWQ_HOME names another folder")
    return folder
