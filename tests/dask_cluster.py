"""A dask scheduler and workers as processes of this machine, each worker with a home of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
APART = """
import lwq, lwq.plan.travel as travel
travel._shared = lambda cache, file: None
"""
OTHER_VERSION = APART + "lwq.__version__ = '0.0.1'\n"
DAMAGING = (
    APART
    + """
left = [1]
travel.as_it_is = getattr(travel, "as_it_is", travel.receive)  # it may be loaded twice
def damaged(root, ticket, sha256, offset, piece):
    if piece and left[0]:
        left[0] -= 1
        open("damaged", "w").close()
        piece = piece[:-1] + bytes([piece[-1] ^ 1])
    travel.as_it_is(root, ticket, sha256, offset, piece)
travel.receive = damaged
"""
)
"""What a worker loads before it begins: nothing is seen of the client's disk; one file arrives with another byte."""


@dataclass
class DaskCluster:
    """The processes of one test."""

    folder: Path
    home: Path
    """Whose toolchain and compiled loops workers have too."""
    port: int
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def start_scheduler(self) -> None:
        self._start("scheduler", "dask_scheduler", "--host", "127.0.0.1", "--port", str(self.port), cwd=self.folder)

    def start_worker(self, name: str, preload: str = APART) -> Path:
        """The worker's ``LWQ_HOME``."""
        own = self.folder / name
        home = own / "lwq"
        home.mkdir(parents=True, exist_ok=True)
        for link in ("toolchains", "compiled"):
            if not (home / link).exists():
                (home / link).symlink_to((self.home / link).resolve())
        (own / "preload.py").write_text(preload, encoding="utf-8")
        options = (self.address, "--host", "127.0.0.1", "--nthreads", "1", "--name", name, "--no-dashboard")
        more = ("--local-directory", str(own), "--preload", str(own / "preload.py"))
        self._start(name, "dask_worker", *options, *more, cwd=own, LWQ_HOME=str(home), HOME=str(own))
        return home

    def worker_process(self, name: str) -> psutil.Process:
        """The process that carries steps out, below the one that starts it anew when it dies."""
        nanny = psutil.Process(self.running[name].pid)
        while True:
            for child in nanny.children():
                with suppress(psutil.Error):
                    if any("spawn_main" in word for word in child.cmdline()):
                        return child
            time.sleep(0.05)

    def stop(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        """Ends a process and all that it started."""
        process = self.running.pop(name)
        with suppress(psutil.Error):
            below = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(how)
            for child in below:
                with suppress(psutil.Error):
                    child.kill()
        process.wait()

    def _start(self, name: str, module: str, *arguments: str, cwd: Path, **environ: str) -> None:
        cwd.mkdir(parents=True, exist_ok=True)
        paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{module}", *arguments],
                cwd=cwd,
                env={**os.environ, "PYTHONPATH": paths, **environ},
                stdout=log,
                stderr=log,
            )


@contextmanager
def dask_cluster(folder: Path, home: Path, *workers: str) -> Iterator[DaskCluster]:
    """A scheduler and workers of these names."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    cluster = DaskCluster(folder=folder, home=home, port=port)
    folder.mkdir()
    cluster.start_scheduler()
    try:
        for name in workers:
            cluster.start_worker(name)
        yield cluster
    finally:
        for name in list(cluster.running):
            cluster.stop(name)
