"""Steps carried out in order: what is in the cache is taken from there, the rest is done and kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from lwq.cache import Cache, Entry
from lwq.pipeline import Machine
from lwq.steps import Context, Step, to_json


class Watch(Protocol):
    """Told what happens, to show it."""

    def started(self, label: str) -> None: ...

    def progress(self, label: str, done: int, total: int) -> None: ...

    def finished(self, step: Step, entry: Entry, *, fresh: bool) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What steps are carried out with; nothing of it is in a key."""

    cache: Cache
    machine: Machine
    given: Mapping[str, tuple[Path, ...]]
    watch: Watch
    work: Mapping[str, float]
    """Label → amount of work, noted beside the time for later forecasts."""


def execute(steps: tuple[Step, ...], around: Surroundings) -> dict[str, Entry]:
    """The entries of all steps by key; what is not in the cache is done, in order.

    Raises:
        LwqError: from the step that failed; everything before it is kept.
    """
    entries: dict[str, Entry] = {}
    for step in steps:
        entry = around.cache.lookup(step.module.NAME, step.key)
        fresh = entry is None
        if entry is None:
            around.watch.started(step.label)
            entry, fresh = around.cache.build(step.module.NAME, step.key_value, _worker(step, entries, around))
        entries[step.key] = entry
        around.watch.finished(step, entry, fresh=fresh)
    return entries


def _worker(step: Step, entries: Mapping[str, Entry], around: Surroundings) -> Callable[[Path], Mapping[str, Any]]:
    def work(folder: Path) -> Mapping[str, Any]:
        ctx = Context(
            folder=folder,
            toolchain=around.machine.toolchain,
            n_threads=around.machine.n_threads,
            progress=lambda done, total: around.watch.progress(step.label, done, total),
            entries=entries,
            given=around.given,
            key=step.key,
            pieces_folder=around.cache.pieces,
        )
        began = time.monotonic()
        result = to_json(step.module.run(step.inputs, ctx))
        return {
            "result": result,
            "commands": [list(argv) for argv in ctx.commands],
            "seconds": round(time.monotonic() - began, 3),
            "tool_seconds": round(ctx.tool_seconds, 3),
            "finished": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "work": around.work.get(step.label, 0.0),
            "keep_links": result.get("keep_links", []),
        }

    return work
