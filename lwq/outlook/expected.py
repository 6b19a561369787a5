"""What each step of a plan is expected to take, and what of it cannot be had here.

Only what is sure to be needed refuses a run, and only bounds that stay: memory that is in use this moment is free
again in the next, and what is kept to save time gives way to it. Free disk is the exception: nobody frees it for us.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from lwq.errors import SpaceError
from lwq.gguf.header import GgufHeader
from lwq.llama.devices import Device
from lwq.llama.limits import MemoryLimit, memory_limits
from lwq.llama.machine import room_bytes
from lwq.outlook.disks import Disk, disk_of
from lwq.outlook.memory import Peak
from lwq.outlook.needs import peak_of
from lwq.outlook.outlook import Outlook
from lwq.outlook.shape import ModelShape
from lwq.plan.graph import Needs
from lwq.plan.job import Job
from lwq.plan.plan import AnyStep
from lwq.plan.preview import PlannedFile
from lwq.store.cache import Entry, canonical
from lwq.store.files import free_bytes, human_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """A step that is still to do, or is done."""

    step: AnyStep
    key: str | None
    """None where it depends on a model that was never hashed."""
    done: Entry | None
    """What is known of a step that was carried out; None of a step to do."""
    peak: Peak
    least: Peak
    disk: Disk
    least_disk: Disk


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """What a step needs and cannot have."""

    label: str
    what: str
    """``at least 12.00 GiB of memory; this machine has 8.00 GiB``."""
    hint: str

    def __str__(self) -> str:
        return f"{self.label} needs {self.what}"


def outlook(job: Job, header: GgufHeader, files: tuple[PlannedFile, ...]) -> Outlook:
    """What is known of a job before it runs.

    Args:
        header: of the base, or of the original.
    """
    shape = ModelShape(header)
    most = min(limit.n_bytes for limit in memory_limits())
    return Outlook(
        plan=job.plan,
        sources=job.sources,
        shape=shape,
        files=files,
        room_bytes=room_bytes(shape.base_bytes, most),
        device=job.machine.toolchain.device,
    )


def expected(job: Job, ahead: Outlook) -> tuple[Expected, ...]:
    """Every step in order."""
    unknown, surely, found = set(job.sources.unread()), replace(ahead, least=True), []
    for step in job.plan.steps:
        text = canonical(step.key_value)
        is_known = not any(mark in text for mark in unknown)
        if not is_known:
            unknown.add(step.key)
        entry = job.cache.lookup(step.module.NAME, step.key)
        found.append(
            Expected(
                step=step,
                key=step.key if is_known else None,
                done=entry,
                peak=peak_of(step, ahead),
                least=peak_of(step, surely),
                disk=disk_of(step, ahead),
                least_disk=disk_of(step, surely),
            )
        )
    return tuple(found)


def needs_of(steps: Iterable[AnyStep], ahead: Outlook) -> dict[str, Needs]:
    """By key what each step takes of a machine's memory and its device's, at its peak."""
    peaks = {step.key: peak_of(step, ahead) for step in steps}
    return {key: {"memory": peak.resident, "device": peak.device} for key, peak in peaks.items()}


def to_write(steps: Iterable[Expected], *, least: bool = False) -> int:
    """The most bytes on the disk at a time beside what is there now, of the steps that are still to do."""
    kept = most = 0
    for step in steps:
        if step.done is None:
            disk = step.least_disk if least else step.disk
            most = max(most, kept + disk.kept + disk.scratch)
            kept += disk.kept
    return most


def to_write_together(several: Iterable[tuple[Job, Sequence[Expected]]], *, least: bool = False) -> int:
    """The same of several jobs one after another, steps that they share once; what a run removes at its end is gone."""
    seen, kept, most = set[str](), 0, 0
    for job, steps in several:
        own = [step for step in steps if step.step.key not in seen and step.done is None]
        seen |= {step.step.key for step in own}
        most = max(most, kept + to_write(own, least=least))
        sizes = {step.step.key: (step.least_disk if least else step.disk).kept for step in own}
        kept += sum(sizes.values()) - sum(sizes.get(key, 0) for key in job.passing(sizes))
    return most


def lacks(
    steps: tuple[Expected, ...], largest_bytes: int, limits: Iterable[MemoryLimit], free_disk_bytes: int, device: Device
) -> Iterator[Lack]:
    """What cannot be had, the largest need of each bound first.

    Args:
        largest_bytes: of the base's largest tensor: so much of a mapped file a kernel needs at a time.
    """
    left = [step for step in steps if step.done is None]
    for limit in limits:
        needs = [(s.least.anonymous + _mapped(s.least, limit, largest_bytes), s.step) for s in left]
        yield from _over(needs, limit.n_bytes, "memory", limit.whose)
    if not device.is_cpu and device.n_bytes:
        needs = [(s.least.device, s.step) for s in left]
        yield from _over(needs, device.n_bytes, "device memory", f"{device.label or device.names[0]} has")
    if (need := to_write(left, least=True)) > free_disk_bytes:
        label = max(left, key=lambda s: s.least_disk.kept + s.least_disk.scratch).step.label
        room = f"at least {human_bytes(need)} of disk with all others; {human_bytes(free_disk_bytes)} are free"
        yield Lack(label=label, what=room, hint=DISK_HINT)


def what_lacks(job: Job, ahead: Outlook, steps: tuple[Expected, ...]) -> tuple[Lack, ...]:
    """What of a job cannot be had here."""
    free, device = free_bytes(job.cache.root), job.machine.toolchain.device
    return tuple(lacks(steps, 2 * ahead.shape.largest, memory_limits(), free, device))


def check_fits(job: Job, header: GgufHeader, files: tuple[PlannedFile, ...]) -> None:
    """Raises SpaceError where a step that is still to do needs more than can be had, before anything runs."""
    ahead = outlook(job, header, files)
    if found := what_lacks(job, ahead, expected(job, ahead)):
        raise SpaceError("\n".join(map(str, found)), hint=found[0].hint)


def _mapped(peak: Peak, limit: MemoryLimit, largest_bytes: int) -> int:
    """What of mapped files counts against a bound."""
    return {"dropped": min(peak.mapped, largest_bytes), "counted": peak.mapped, "free": 0}[limit.mapped]


def _over(needs: Sequence[tuple[int, AnyStep]], n_bytes: int, what: str, whose: str) -> Iterator[Lack]:
    need, worst = max(needs, key=lambda pair: pair[0], default=(0, None))
    if worst and need > n_bytes:
        told = f"at least {human_bytes(need)} of {what}; {whose} {human_bytes(n_bytes)}"
        yield Lack(label=worst.label, what=told, hint=_hint(worst, on_device=what == "device memory"))


DISK_HINT = "free some (`lwq cache gc` drops what no recipe needs), set LWQ_HOME to a larger disk, or set max_logits"
_RACED = "lower n_ctx of [selection], n_selection_windows or n_confirmation_windows of [sensitivity], or the budget"
_HINTS = {
    "imatrix": "lower n_chunks or n_ctx of [calibration]",
    "baseline": "lower n_chunks or n_ctx of that text",
    "evaluate": "lower n_chunks or n_ctx of that text",
    "parts": "lower n_chunks or n_ctx of [evaluation]",
    "sensitivity": "lower n_ctx of [calibration], or n_windows of [sensitivity]",
    "grams": "lower n_ctx of [calibration], or n_gram_windows of [sensitivity]",
    "search": _RACED,
    "lean": _RACED,
    "prune": "lower n_ctx of [calibration], or n_windows of [pruning]",
    "heal": "lower n_fit_windows of [pruning], or set heal = false in the target",
    "tasks": "lower n_ctx of the task set",
    "bench": "leave out the largest file, or set tests = [] in [bench]",
}


def _hint(step: AnyStep, *, on_device: bool) -> str:
    smaller = _HINTS.get(step.module.NAME, "take a smaller model")
    return f"{smaller}, or compute on the CPU (`--device cpu`)" if on_device else f"{smaller}, or raise the limit"
