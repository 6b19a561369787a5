"""Steps carried out in order: what is in the cache is taken from there, the rest is done and kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from lwq.errors import Interrupted, LwqError
from lwq.plan.child import carry_out
from lwq.plan.plan import AnyStep, Machine
from lwq.plan.twins import Alike
from lwq.steps.step import Context, Made
from lwq.store.cache import Cache, Entry


class Watch(Protocol):
    """Told what happens, to show it."""

    def started(self, label: str) -> None: ...

    def progress(self, label: str, done: int, total: int) -> None: ...

    def finished(self, step: AnyStep, entry: Entry, *, fresh: bool) -> None: ...


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


def execute(steps: tuple[AnyStep, ...], around: Surroundings) -> dict[str, Entry]:
    """The entries of all steps by key; what is not in the cache is done, in order.

    Raises:
        LwqError: from the step that failed; everything before it is kept.
    """
    around.cache.hold((step.module.NAME, step.key) for step in steps)
    entries: dict[str, Entry] = {}
    again = _to_make_again(steps, around.cache)
    for step in steps:
        entry = None if step.key in again else around.cache.lookup(step.module.NAME, step.key)
        fresh = entry is None
        if entry is None:
            around.watch.started(step.label)
            twin = around.alike.get(step.key)
            same = twin.finished(entries) if twin else None
            worker = twin.taken_over(same) if twin and same else _worker(step, entries, around)
            entry, fresh = around.cache.build(step.module.NAME, step.key_value, worker, whole=step.key in again)
        entries[step.key] = entry
        around.watch.finished(step, entry, fresh=fresh)
    return entries


def _to_make_again(steps: tuple[AnyStep, ...], cache: Cache) -> set[str]:
    """Keys of finished steps whose released outputs a step that is still to do reads."""
    done = {step.key: cache.lookup(step.module.NAME, step.key) for step in steps}
    again: set[str] = set()
    for step in reversed(steps):
        if done[step.key] is None or step.key in again:
            made = (value for value in _within(step.inputs) if isinstance(value, Made))
            again |= {m.key for m in made if (entry := done.get(m.key)) and m.name in entry.released}
    return again


def _within(value: Any) -> Iterator[Any]:
    """A value and everything inside it."""
    yield value
    if isinstance(value, tuple | list):
        inside: Iterable[Any] = value
    elif isinstance(value, Mapping):
        inside = value.values()
    else:
        inside = (getattr(value, f.name) for f in fields(value)) if is_dataclass(value) else ()
    for part in inside:
        yield from _within(part)


def _worker(step: AnyStep, entries: Mapping[str, Entry], around: Surroundings) -> Callable[[Path], Mapping[str, Any]]:
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
