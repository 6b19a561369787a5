"""What cannot be had is told by the step that needs most, with what is there and a way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lwq.llama.devices import CPU, Device
from lwq.llama.limits import MemoryLimit
from lwq.outlook.disks import Disk
from lwq.outlook.expected import Expected, lacks, to_write
from lwq.outlook.memory import Peak
from lwq.steps import baseline, heal, quantize
from lwq.steps.step import Step
from lwq.store.cache import Entry

GIB = 1 << 30
NOTHING = Disk()
GPU = Device(names=("CUDA0",), label="a GPU", sizes=(8 * GIB,), free_bytes=GIB)


DONE = Entry(
    folder=Path(), step="", key="", key_value={}, result={}, commands=(), seconds=1.0, tool_seconds=0.0, finished="",
    work=0.0, outputs={},
)  # fmt: skip


def step(module: Any, least: Peak, disk: Disk = NOTHING, *, done: bool = False) -> Expected:
    made: Step[Any, Any] = Step(title=(module.NAME,), module=module, inputs=None, key_value={}, key=module.NAME)
    return Expected(
        step=made,
        key=made.key,
        done=DONE if done else None,
        peak=Peak(anonymous=99 * GIB),
        least=least,
        disk=Disk(kept=99 * GIB),
        least_disk=disk,
    )


def told(*steps: Expected, limit: MemoryLimit | None = None, free: int = 1000 * GIB, device: Device = CPU) -> list[str]:
    limits = [limit or MemoryLimit(n_bytes=16 * GIB, whose="this machine has", used=15 * GIB)]
    return [f"{lack} ({lack.hint})" for lack in lacks(steps, GIB, limits, free, device)]


def test_memory_is_refused_by_the_step_that_needs_most() -> None:
    (said,) = told(step(baseline, Peak(anonymous=17 * GIB)), step(heal, Peak(anonymous=20 * GIB)))
    assert said.startswith("heal needs at least 20.00 GiB of memory; this machine has 16.00 GiB (lower n_fit_windows")


def test_memory_that_others_use_now_refuses_nothing() -> None:
    assert not told(step(heal, Peak(anonymous=15 * GIB)))


def test_of_a_mapped_file_only_a_tensor_must_be_there() -> None:
    mapped = Peak(anonymous=14 * GIB, mapped=100 * GIB)
    assert not told(step(heal, mapped))
    assert told(step(heal, Peak(anonymous=15 * GIB + 1, mapped=100 * GIB)))


def test_a_bound_of_the_address_space_counts_mapped_files() -> None:
    space = MemoryLimit(n_bytes=16 * GIB, whose="RLIMIT_AS allows", mapped="counted")
    (said,) = told(step(heal, Peak(anonymous=GIB, mapped=100 * GIB)), limit=space)
    assert "at least 101.00 GiB of memory; RLIMIT_AS allows 16.00 GiB" in said


def test_a_bound_of_a_process_own_memory_counts_no_mapped_file() -> None:
    data = MemoryLimit(n_bytes=16 * GIB, whose="RLIMIT_DATA allows", mapped="free")
    assert not told(step(heal, Peak(anonymous=16 * GIB, mapped=100 * GIB)), limit=data)
    assert told(step(heal, Peak(anonymous=16 * GIB + 1)), limit=data)


def test_steps_that_are_done_need_nothing() -> None:
    done = step(heal, Peak(anonymous=20 * GIB, device=20 * GIB), Disk(kept=2000 * GIB), done=True)
    assert not told(done, device=GPU)


def test_device_memory_is_compared_with_all_that_the_device_has() -> None:
    assert not told(step(heal, Peak(anonymous=0, device=8 * GIB)), device=GPU)
    (said,) = told(step(heal, Peak(anonymous=0, device=9 * GIB)), device=GPU)
    assert "heal needs at least 9.00 GiB of device memory; a GPU has 8.00 GiB" in said
    assert "`--device cpu`" in said


def test_the_disk_must_hold_all_that_is_kept_and_what_one_step_removes_again() -> None:
    steps = (
        step(baseline, Peak(anonymous=0), Disk(kept=5)),
        step(heal, Peak(anonymous=0), Disk(scratch=4)),
        step(quantize, Peak(anonymous=0), Disk(kept=2)),
    )
    assert to_write(steps, least=True) == 9  # 5 kept + 4 for a while; then 5 + 2
    assert not told(*steps, free=9)
    (said,) = told(*steps, free=8)
    assert said.startswith("baseline needs at least 9 B of disk with all others; 8 B are free (free some")


@pytest.mark.parametrize(("first", "second"), [(Peak(anonymous=5, mapped=1), Peak(anonymous=2, mapped=9))])
def test_a_step_of_two_processes_needs_the_most_of_each(first: Peak, second: Peak) -> None:
    for both in (first.and_then(second), second.and_then(first)):
        assert (both.anonymous, both.resident, both.mapped) == (5, 11, 9)
