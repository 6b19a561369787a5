"""Steps carried out in order: what is in the cache is taken from there, the rest is done and kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from lwq.errors import Interrupted, LwqError
from lwq.plan.child import carry_out
from lwq.plan.graph import Needs, made_of
from lwq.plan.plan import AnyStep, Machine
from lwq.plan.twins import Alike
from lwq.steps.step import Context
from lwq.store.cache import Cache, Entry


class Watch(Protocol):
    """Told what happens, to show it."""

    def started(self, label: str, where: str = "") -> None:
        """A step begins; ``where`` names the place, where there are several."""

    def progress(self, label: str, done: int, total: int) -> None: ...

    def finished(self, step: AnyStep, entry: Entry, *, fresh: bool) -> None: ...


class Crew(Protocol):
    """Carries steps out in several places at a time."""

    def execute(self, steps: tuple[AnyStep, ...], around: Surroundings) -> dict[str, Entry]: ...

    def is_wanted(self, key: str) -> bool:
        """Whether another run that is at work has this step too: what it made must stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What steps are carried out with; nothing of it is in a key."""

    cache: Cache
    machine: Machine
    given: Mapping[str, tuple[Path, ...]]
    watch: Watch
    work: Mapping[str, float]
    """Key → amount of work, noted beside the time for later forecasts."""
    alike: Mapping[str, Alike] = field(default_factory=dict)
    """Key of a twin's step → the step whose result it may have too."""
    crew: Crew | None = None
    """Who carries the steps out; None: this process, one after another."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Key → how long it may take, as far as that is known: what others wait for longest is begun first."""
    needs: Mapping[str, Needs] = field(default_factory=dict)
    """Key → memory that it takes: steps run side by side only where that is free."""
    told_threads: int = 0
    """Threads that command lines are noted with, where that is not this machine's number."""


def execute(steps: tuple[AnyStep, ...], around: Surroundings) -> dict[str, Entry]:
    """The entries of all steps by key; what is not in the cache is done, in order, or side by side by a crew.

    Raises:
        LwqError: from the step that failed; everything before it is kept.
    """
    around.cache.hold((step.module.NAME, step.key) for step in steps)
    if around.crew:
        return around.crew.execute(steps, around)
    entries: dict[str, Entry] = {}
    again = to_make_again(steps, around.cache)
    for step in steps:
        entry = None if step.key in again else around.cache.lookup(step.module.NAME, step.key)
        fresh = entry is None
        if entry is None:
            around.watch.started(step.label)
            twin = around.alike.get(step.key)
            same = twin.finished(entries) if twin else None
            worker = twin.taken_over(same) if twin and same else work_of(step, entries, around)
            entry, fresh = around.cache.build(step.module.NAME, step.key_value, worker, whole=step.key in again)
        entries[step.key] = entry
        around.watch.finished(step, entry, fresh=fresh)
    return entries


def to_make_again(steps: tuple[AnyStep, ...], cache: Cache) -> set[str]:
    """Keys of finished steps whose released outputs a step that is still to do reads."""
    done = {step.key: cache.lookup(step.module.NAME, step.key) for step in steps}
    again: set[str] = set()
    for step in reversed(steps):
        if done[step.key] is None or step.key in again:
            again |= {m.key for m in made_of(step) if (entry := done.get(m.key)) and m.name in entry.released}
    return again


def work_of(step: AnyStep, entries: Mapping[str, Entry], around: Surroundings) -> Callable[[Path], Mapping[str, Any]]:
    """What fills the folder of a step and says what came of it."""

    def work(folder: Path) -> Mapping[str, Any]:
        ctx = Context(
            folder=folder,
            toolchain=around.machine.toolchain,
            n_threads=around.machine.n_threads,
            told_threads=around.told_threads,
            progress=lambda done, total: around.watch.progress(step.label, done, total),
            entries=entries,
            given=around.given,
            key=step.key,
            pieces_folder=around.cache.pieces,
        )
        began = time.monotonic()
        try:
            done = carry_out(step, ctx)
        except Interrupted:
            raise
        except LwqError as error:
            error.message = f"{step.label}: {error.message}"
            raise
        return {
            "result": done.result,
            "commands": [list(argv) for argv in done.commands],
            "seconds": round(time.monotonic() - began, 3),
            "tool_seconds": round(done.tool_seconds, 3),
            "peak_bytes": done.peak_bytes,
            "finished": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "work": around.work.get(step.key, 0.0),
            "keep_links": done.result.get("keep_links", []),
        }

    return work
