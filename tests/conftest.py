"""Guards and fixtures: no test touches the user's cache, the network, or a program nobody registered."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from lwq.llama.devices import RPC
from lwq.llama.toolchain import REMOTE, RPC_SERVER, Toolchain, find, find_for, home
from lwq.plan import execution
from lwq.plan.child import here
from lwq.values.compiled import current

settings.register_profile("lwq", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("lwq")  # how busy a machine is fails no test
REAL_HOME = home()
COMPILED = current()
REGISTERED = (
    "git", "cmake", "ninja", "make", "cc", "c++", "gcc", "g++", "sh", "bash", "cp", "nvidia-smi", "node",
    "unshare", "setpriv", "localedef",
)  # fmt: skip


class Guard:
    """Refuses connections off this machine and programs that are not registered, while on."""

    def __init__(self) -> None:
        self.on = False
        self.folders: list[Path] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "subprocess.Popen":
            self.check_program(str(arguments[0] or arguments[1][0]))
        elif event == "socket.connect" and isinstance(arguments[1], tuple):
            host = str(arguments[1][0])
            if host not in ("127.0.0.1", "::1", "localhost"):
                raise PermissionError(f"a test reached for the network: {host}")

    def check_program(self, program: str) -> None:
        path = Path(program)
        known = path.name in REGISTERED or path.name.startswith("python") or program == sys.executable
        if not known and not any(path.is_relative_to(folder) for folder in self.folders):
            raise PermissionError(f"a test started a program that is not registered: {program}")


GUARD = Guard()
sys.addaudithook(GUARD)
_SERVERS = {"rpc": 1, "rpc2": 2}
"""``--device`` → RPC servers that are started for it."""


@pytest.fixture(autouse=True)
def guarded(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A home of its own for each test, and the guard."""
    own = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("LWQ_HOME", str(own))
    for name in [n for n in os.environ if n.startswith(("LWQ_", "LLAMA_ARG_", "HF_")) and n != "LWQ_HOME"]:
        monkeypatch.delenv(name)
    GUARD.folders = [tmp_path_factory.getbasetemp(), REAL_HOME / "toolchains"]
    GUARD.on = True
    yield own
    GUARD.on = False


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--device",
        default="",
        help="where models lie, as `lwq --device`; rpc: on a server of our own (`make test-device`), whose memory"
        " is not this process's; rpc2: on two; the CPU where nothing is said",
    )


@pytest.fixture(scope="session")
def toolchain(request: pytest.FixtureRequest) -> Iterator[Toolchain]:
    """The real, built llama.cpp (`make test` builds it first), on the CPU or on the device that was asked for."""
    asked = str(request.config.getoption("--device"))
    if asked not in _SERVERS:
        yield _of_the_user(asked or "cpu")
        return
    program = _of_the_user("", backend=REMOTE).program(RPC_SERVER)
    with ExitStack() as stack:
        ports = [stack.enter_context(_serving(program)) for _ in range(_SERVERS[asked])]
        yield _of_the_user(RPC + ",".join(f"127.0.0.1:{port}" for port in ports))


@contextmanager
def _serving(program: Path) -> Iterator[int]:
    """The port of an RPC server of one thread."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(program), "-H", "127.0.0.1", "-p", str(port), "-t", "1"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port)
        yield port
    finally:
        server.kill()
        server.wait()


def _of_the_user(device: str, *, backend: str = "") -> Toolchain:
    with pytest.MonkeyPatch.context() as environ:
        environ.setenv("LWQ_HOME", str(REAL_HOME))
        environ.delenv("LWQ_LLAMA_DIR", raising=False)
        return find_for(device) if device else find(backend=backend)


def _wait_for(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)


@pytest.fixture
def tools_home(guarded: Path, toolchain: Toolchain, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This test's home, which has the real toolchain and compiled loops; tiny models run fastest on one thread."""
    monkeypatch.setenv("LWQ_THREADS", "1")
    (guarded / "toolchains").symlink_to(REAL_HOME / "toolchains")
    COMPILED.mkdir(parents=True, exist_ok=True)
    (guarded / "compiled").mkdir()
    (guarded / "compiled" / COMPILED.name).symlink_to(COMPILED)
    return guarded


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps are carried out in the test's own process, where what the test puts in place of something holds."""
    monkeypatch.setattr(execution, "carry_out", lambda step, ctx: here(step.module, step.inputs, ctx))
