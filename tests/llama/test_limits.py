"""What memory a process may have is read from control groups of both versions and from resource limits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lwq.llama.limits import _of_groups, memory_limits


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="ascii")


def test_the_bounds_of_a_group_and_of_those_around_it_hold(tmp_path: Path) -> None:
    root, mine = tmp_path / "cgroup", tmp_path / "mine"
    write(mine, "0::/user/job\n")
    write(root / "user/job/memory.max", "max\n")
    write(root / "user/memory.max", "1000\n")
    write(root / "user/memory.stat", "anon 300\nfile 600\n")
    (found,) = _of_groups(mine, root)
    assert (found.n_bytes, found.free) == (1000, 700)  # cached files are dropped when the group needs room


def test_groups_of_the_first_version_say_no_limit_with_a_large_number(tmp_path: Path) -> None:
    root, mine = tmp_path / "cgroup", tmp_path / "mine"
    write(mine, "9:name=systemd:/\n4:memory:/job\n0::/\n")
    write(root / "memory/job/memory.limit_in_bytes", "5000\n")
    write(root / "memory/job/memory.stat", "rss 1\ntotal_rss 2000\n")
    write(root / "memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert [(limit.n_bytes, limit.used) for limit in _of_groups(mine, root)] == [(5000, 2000)]


def test_a_container_that_does_not_show_the_path_is_its_own_group(tmp_path: Path) -> None:
    root, mine = tmp_path / "cgroup", tmp_path / "mine"
    write(mine, "0::/outside/of/it\n")
    write(root / "memory.max", "77\n")
    assert [limit.n_bytes for limit in _of_groups(mine, root)] == [77]


def test_the_machine_is_a_bound_always() -> None:
    machine = memory_limits()[0]
    assert machine.whose == "this machine has"
    assert 0 < machine.free < machine.n_bytes


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA bounds a process on Linux")
def test_what_is_kept_to_save_time_keeps_to_a_resource_limit() -> None:
    code = """
import resource
resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30))
from lwq.llama.machine import available_memory_bytes, room_bytes
assert 0 < available_memory_bytes() < 1 << 30
assert room_bytes(100 << 30) < 0.3 * (1 << 30)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
