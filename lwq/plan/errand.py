"""A step on its way to a worker, and what a worker does with it: plain values, which processes hand each other.

Nothing of dask is known here: what carries an errand is its caller's.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from lwq.errors import EngineError, Interrupted, LwqError, ToolError
from lwq.llama.machine import cpu_name
from lwq.llama.process_group import ending, stoppable
from lwq.llama.toolchain import Toolchain, find_for, home
from lwq.plan.execution import Surroundings, work_of
from lwq.plan.plan import AnyStep, Machine
from lwq.plan.travel import WantedFiles, entry_here, given_here, lacking_of
from lwq.steps.step import Step
from lwq.store.cache import Cache, Entry

Progress = Callable[[int, int], None]
_KILLED: Final = ending(-9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """A step, and all that a worker needs to carry it out."""

    module: str
    title: tuple[str, ...]
    inputs: Any
    key_value: Mapping[str, Any]
    key: str
    wanted: tuple[WantedFiles, ...]
    """What the step reads."""
    work: float
    whole: bool
    device: str
    toolchain: Toolchain | None
    """The client's, where the worker runs on its machine; None: the worker's own."""
    n_threads: int
    told_threads: int
    is_shared: bool
    """The worker's cache is the client's: what is made needs no telling."""

    @property
    def step(self) -> AnyStep:
        module: Any = import_module(self.module)
        return Step(title=self.title, module=module, inputs=self.inputs, key_value=self.key_value, key=self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a worker says of an errand: done, inputs that it lacks, or an error."""

    stored: str = ""
    """The entry's ``step.json``."""
    fresh: bool = False
    lacking: tuple[WantedFiles, ...] = ()
    error: Exception | None = None
    was_killed: bool = False


class Untold(Exception):
    """An answer that is told as an exception, since the client waits for no other of a worker that shares its cache."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self.answer = answer


_AT_WORK: dict[str, threading.Event] = {}
"""Key → what asks the step to stop, of steps that this process carries out; of several attempts, the last one's."""
_TURN: Final = threading.Lock()


def carry(errand: Errand, progress: Progress) -> Answer:
    """A step carried out in this process's own cache, which keeps what came of it.

    A key that another thread or process of this cache is at is waited for.
    """
    with _TURN:
        asked = _AT_WORK[errand.key] = threading.Event()
    try:
        with stoppable(asked.is_set):
            return _carry(errand, progress)
    except Interrupted as error:
        return Answer(error=error)
    except LwqError as error:
        killed = isinstance(error, ToolError | EngineError) and _KILLED in error.message
        return Answer(error=error, was_killed=killed or isinstance(error.__cause__, MemoryError))
    except Exception as error:
        fault = RuntimeError(f"{type(error).__name__}: {error}")
        for note in getattr(error, "__notes__", ()):
            fault.add_note(note)
        return Answer(error=fault)
    finally:
        with _TURN:
            if _AT_WORK.get(errand.key) is asked:
                del _AT_WORK[errand.key]


def stop(key: str) -> None:
    """Ends a step that this process carries out, with its tools; what it measured is kept."""
    if asked := _AT_WORK.get(key):
        asked.set()


def _carry(errand: Errand, progress: Progress) -> Answer:
    cache = Cache(home())
    if errand.toolchain is None:  # else the client is here, and holds what it wants
        cache.hold([(errand.step.module.NAME, errand.key), *((w.step, w.key) for w in errand.wanted if w.step)])
    given, entries, lacking = dict[str, tuple[Path, ...]](), dict[str, Entry](), list[WantedFiles]()
    for wanted in errand.wanted:
        if wanted.step:
            if entry := entry_here(cache, wanted):
                entries[wanted.key] = entry
            else:
                lacking.append(lacking_of(cache, wanted))
        elif paths := given_here(cache, wanted):
            given[wanted.key] = paths
        else:
            lacking.append(lacking_of(cache, wanted))
    if lacking:
        return Answer(lacking=tuple(lacking))
    toolchain = errand.toolchain or find_for(errand.device)
    around = Surroundings(
        cache=cache,
        machine=Machine(toolchain=toolchain, n_threads=errand.n_threads, cpu=cpu_name()),
        given=given,
        watch=_Saying(progress),
        work={errand.key: errand.work},
        told_threads=errand.told_threads,
    )
    step = errand.step
    work = work_of(step, entries, around)
    entry, fresh = cache.build(step.module.NAME, step.key_value, work, whole=errand.whole)
    stored = (entry.folder / "step.json").read_text(encoding="utf-8")
    return Answer(stored=stored, fresh=fresh)


def held(keys: frozenset[str]) -> frozenset[str]:
    """Which of the steps this worker's cache has, or is making now."""
    there = {path.name.rpartition("-")[2] for path in Cache(home()).steps.glob("[!.]*")}
    return frozenset(key for key in keys if key in _AT_WORK or key[:24] in there)


@dataclass(frozen=True, slots=True)
class _Saying:
    """A watch that knows progress only."""

    say: Progress

    def started(self, label: str, where: str = "") -> None: ...

    def progress(self, label: str, done: int, total: int) -> None:
        self.say(done, total)

    def finished(self, step: AnyStep, entry: Entry, *, fresh: bool) -> None: ...


def facts_of(stored: str) -> dict[str, Any]:
    """What ``Cache.build`` asks of whoever fills a folder, from a ``step.json``."""
    values = json.loads(stored)
    names = ("result", "commands", "seconds", "tool_seconds", "peak_bytes", "finished", "work")
    links = values["result"].get("keep_links", []) if isinstance(values["result"], dict) else []
    return {name: values[name] for name in names} | {"keep_links": links}
