"""Children gain no privileges, dump no core, allocate within bounds and reach no network that they do not need."""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lwq.llama.confinement import Limits, child_setup, most_memory_bytes
from lwq.llama.devices import Device
from lwq.llama.limits import memory_limits
from lwq.llama.process import run_tool
from lwq.llama.toolchain import Toolchain

ROOT = Path(__file__).parents[2]
LINUX = sys.platform == "linux"
NOBODY = ("--reuid=65534", "--regid=65534", "--clear-groups")
CALL = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])), 5).close(); print('connected')"
LOOK = """import json, os, resource, socket, sys
own = socket.create_server(("127.0.0.1", 0))
socket.create_connection(own.getsockname(), 5).close()
print(json.dumps({"ids": [os.getuid(), os.getgid()], "core": resource.getrlimit(resource.RLIMIT_CORE),
 "status": open("/proc/self/status").read() if sys.platform == "linux" else "",
 "interfaces": [name for _, name in socket.if_nameindex()]}))
"""
BASH = shutil.which("bash") or "/bin/bash"
AS_NOBODY = """import sys
sys.path[:0] = [sys.argv[1]]
import encodings.ascii, fcntl, os, psutil
from pathlib import Path
from lwq.llama.process import run_tool
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
print(run_tool((sys.argv[2], "-c", sys.argv[3]), cwd=Path.cwd(), check=False).stdout)
"""
"""What is imported is imported as root: the checkout and this Python may be root's alone."""


@pytest.fixture
def port() -> Iterator[int]:
    """A server of this machine that answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def can_leave(as_root: bool) -> bool:
    """Whether this kernel gives a child a network of its own (as `unshare` of util-linux finds)."""
    unshare, setpriv = shutil.which("unshare"), shutil.which("setpriv")
    if not LINUX or not unshare or (not as_root and os.geteuid() == 0 and not setpriv):
        return False
    who = () if as_root or os.geteuid() else (str(setpriv), *NOBODY)
    how = "-n" if as_root else "-Un"
    return subprocess.run((*who, unshare, how, "true"), capture_output=True, check=False).returncode == 0


def told(done_stdout: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(done_stdout)
    return value


def test_a_child_reaches_no_server_of_this_machine_unless_it_needs_to(tmp_path: Path, port: int) -> None:
    call = (sys.executable, "-c", CALL, str(port))
    with_network = run_tool(call, cwd=tmp_path, limits=Limits(network=True))
    without = run_tool(call, cwd=tmp_path, check=False)
    assert with_network.stdout == "connected\n"
    if can_leave(as_root=os.geteuid() == 0):
        assert without.returncode == 1
        assert "refused" in without.stderr
    else:
        assert without.stdout == "connected\n"


def test_a_child_keeps_its_user_and_a_loopback_and_gains_nothing(tmp_path: Path) -> None:
    seen = told(run_tool((sys.executable, "-c", LOOK), cwd=tmp_path).stdout)
    assert seen["ids"] == [os.getuid(), os.getgid()]
    assert seen["core"][0] == 0
    if LINUX:
        assert "NoNewPrivs:\t1" in seen["status"]
        if can_leave(as_root=os.geteuid() == 0):
            assert seen["interfaces"] == ["lo"]


@pytest.mark.skipif(not LINUX or os.geteuid() != 0, reason="takes root to become another")
def test_another_user_is_confined_as_root_is(tmp_path: Path, port: int) -> None:
    """By a user namespace: the same name, the same files, and root of nothing."""
    for above in (tmp_path, *tmp_path.parents[:3]):
        above.chmod(above.stat().st_mode | 0o055)
    folder = tmp_path / "nobody's"
    folder.mkdir()
    (folder / "mine").write_text("x")
    (folder / "mine").chmod(0o600)
    for path in (folder, folder / "mine"):
        os.chown(path, 65534, 65534)
    call = f"(exec 3<>/dev/tcp/127.0.0.1/{port}) 2>&1 && echo connected"
    look = f"id -u; id -g; cat mine; touch made; cat /proc/self/status; cat /proc/net/dev; {call}"
    command = (sys.executable, "-c", AS_NOBODY, str(ROOT), BASH, look)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.stdout.split()[:3] == ["65534", "65534", "xName:"], done.stderr
    assert (folder / "made").stat().st_uid == 65534
    assert "NoNewPrivs:\t1" in done.stdout
    assert f"CapEff:\t{'0' * 16}" in done.stdout
    if can_leave(as_root=False):
        assert "refused" in done.stdout
        assert "eth" not in done.stdout
    else:
        assert "connected" in done.stdout


def test_where_the_kernel_refuses_a_child_runs_all_the_same(
    tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in containers whose filter of system calls lets nobody unshare."""

    class Refusing:
        def __init__(self, name: str | None) -> None: ...

        def unshare(self, flags: int) -> int:
            return -1

        def prctl(self, *arguments: int) -> int:
            return -1

    monkeypatch.setattr("lwq.llama.confinement.ctypes.CDLL", Refusing)
    assert run_tool((sys.executable, "-c", CALL, str(port)), cwd=tmp_path).stdout == "connected\n"


def test_what_allocates_without_end_is_refused_memory(tmp_path: Path) -> None:
    greedy = "x = bytearray(3 << 29); print('has it')"
    bounded = Limits(memory_bytes=1 << 30)
    done = run_tool((sys.executable, "-c", greedy), cwd=tmp_path, limits=bounded, check=False)
    if LINUX:
        assert "MemoryError" in done.stderr
    assert run_tool((sys.executable, "-c", "print(1)"), cwd=tmp_path, limits=bounded).stdout == "1\n"


def test_files_that_are_mapped_do_not_count_as_allocated(tmp_path: Path) -> None:
    with open(tmp_path / "large", "wb") as file:
        file.truncate(3 << 30)
    mapping = "import mmap; f = open('large', 'rb'); print(len(mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)))"
    done = run_tool((sys.executable, "-c", mapping), cwd=tmp_path, limits=Limits(memory_bytes=1 << 30))
    assert done.stdout == f"{3 << 30}\n"


def test_the_users_own_limits_are_lowered_and_never_raised(tmp_path: Path) -> None:
    show = "import resource; print(*resource.getrlimit(resource.RLIMIT_DATA))"
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (4 << 30, hard))
    try:
        done = run_tool((sys.executable, "-c", show), cwd=tmp_path, limits=Limits(memory_bytes=1 << 50))
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    assert done.stdout.split()[0] == str(4 << 30)


def test_the_bound_of_memory_is_above_all_that_can_be_had() -> None:
    assert most_memory_bytes() >= 2 * min(m.n_bytes for m in memory_limits() if m.mapped == "dropped")


def test_only_what_computes_elsewhere_has_the_network_and_only_the_cpu_a_bound() -> None:
    def of(device: Device) -> Limits:
        return Toolchain(
            bin_dir=Path("/"), lib_dir=Path("/"), commit="", backend="", flags=(), compiler="", stock=True,
            manifest_sha256="", device=device,
        ).limits  # fmt: skip

    cpu, gpu = of(Device()), of(Device(names=("CUDA0",), label="GPU", sizes=(1,)))
    remote = of(Device(names=("RPC0",), label="RPC", sizes=(1,), servers=("10.0.0.7:50052",)))
    assert [x.network for x in (cpu, gpu, remote)] == [False, False, True]
    assert [x.memory_bytes is not None for x in (cpu, gpu, remote)] == [True, False, False]


def test_a_driver_that_is_yet_to_be_loaded_may_load_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """``nvidia-modprobe`` is root's by setuid; without it the first use of a GPU after a start of the machine fails."""
    monkeypatch.setattr("lwq.llama.confinement.shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr("lwq.llama.confinement.os.path.exists", lambda path: False)
    before = Path("/proc/self/status").read_text() if LINUX else ""
    assert "NoNewPrivs:\t0" in before or not LINUX
    done = subprocess.run(
        ("/bin/sh", "-c", "grep NoNewPrivs /proc/self/status || echo NoNewPrivs: 0"),
        preexec_fn=child_setup(Limits()),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-1] == "0"
