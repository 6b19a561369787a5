"""Devices lent by llama.cpp's RPC server: on an address of this machine only, and again after it ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from lwq.errors import ToolchainError, UsageError
from lwq.llama.devices import RPC
from lwq.llama.server import check_address
from lwq.llama.toolchain import COMMIT, REMOTE, RPC_SERVER, Toolchain, find, find_for, find_server
from tests.conftest import REAL_HOME
from tests.llama.test_toolchain import install_own


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host", "-H"])
def test_address_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(UsageError, match="cannot listen there"):
        check_address(host, 50052)


def test_port_that_is_taken_is_refused_and_a_free_one_is_not() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"127.0.0.1:{port}: cannot listen there"):
            check_address("127.0.0.1", port)
    check_address("127.0.0.1", 0)


def test_server_is_of_a_build_for_gpus_where_there_is_one_that_has_it() -> None:
    with pytest.raises(ToolchainError, match="is built for rpc"):
        find_server()
    remote = install_own(f"{COMMIT[:12]}-rpc-12345678")
    assert find_server().bin_dir == remote.parent / "bin"
    of_gpus = install_own(f"{COMMIT[:12]}-cuda-12345678")
    assert find_server().bin_dir == remote.parent / "bin"
    (of_gpus.parent / "bin" / RPC_SERVER).touch()
    assert find_server().bin_dir == of_gpus.parent / "bin"


@pytest.fixture
def served(toolchain: Toolchain) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """(port, ``lwq toolchain serve``)."""
    if toolchain.device.is_cpu:
        pytest.skip("the build with the server is made by `make test-device`")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = (sys.executable, "-m", "lwq", "toolchain", "serve", "--port", str(port))
    environ = {**os.environ, "LWQ_HOME": str(REAL_HOME)}
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as lwq:
        yield port, lwq
        lwq.kill()


@pytest.mark.tools
def test_server_that_ends_is_started_again_until_it_is_interrupted(
    served: tuple[int, subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, lwq = served
    monkeypatch.setenv("LWQ_HOME", str(REAL_HOME))
    assert find(backend=REMOTE).program(RPC_SERVER).is_file()
    for _ in range(2):
        server = listening(lwq.pid, port)
        assert find_for(f"{RPC}127.0.0.1:{port}").device.names == ("RPC0",)
        server.kill()
        server.wait()
    last = listening(lwq.pid, port)
    lwq.send_signal(signal.SIGINT)
    _, said = lwq.communicate(timeout=30)
    assert lwq.returncode == 130
    assert not last.is_running()
    assert "asks nobody who they are" in " ".join(said.split())
    assert said.count("started again") == 2


def listening(pid: int, port: int) -> psutil.Process:
    """The server that a process started, once it listens."""
    for _ in range(400):
        children = psutil.Process(pid).children()
        with socket.socket() as probe:
            if children and probe.connect_ex(("127.0.0.1", port)) == 0:
                return children[0]
        time.sleep(0.05)
    raise AssertionError("no server listens")
