"""Stock-valued twins of files: where a file itself has stock values, it is its own twin, and nothing is done again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lwq.plan.plan import AnyStep, Plan, QuantizeStep
from lwq.store.cache import Entry
from lwq.store.files import link_or_copy


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """A step of a file's twin, and what it is alike to."""

    writes: QuantizeStep
    """What writes the file."""
    step: AnyStep
    """What does for the file what is done for the twin."""
    twin: str
    """The twin's file name."""

    def finished(self, entries: Mapping[str, Entry]) -> Entry | None:
        """The entry that holds for the twin too; None where the file has values of its own, or lies here no more."""
        file, done = entries.get(self.writes.key), entries.get(self.step.key)
        if file is None or done is None or done.released or has_own_values(file):
            return None
        return done

    def taken_over(self, done: Entry) -> Callable[[Path], Mapping[str, Any]]:
        """What fills the folder of the twin's step from the file's: the same outputs under the twin's name."""

        def work(folder: Path) -> Mapping[str, Any]:
            for name in done.outputs:
                link_or_copy(done.path(name), folder / self._renamed(name))
            commands = [[self._renamed(argument) for argument in argv] for argv in done.commands]
            facts = {"result": done.result, "commands": commands, "finished": done.finished, "work": 0.0}
            return {**facts, "seconds": 0.0, "tool_seconds": 0.0, "peak_bytes": 0}

        return work

    def _renamed(self, name: str) -> str:
        return self.twin if name == self.writes.inputs.file else name


def has_own_values(written: Entry) -> bool:
    """Whether a written file holds any value that is not llama-quantize's own."""
    compensated = written.result.get("compensated")
    return bool(compensated and compensated["n_tensors"])


def alike(plan: Plan) -> dict[str, Alike]:
    """By key of each twin's step what it is alike to."""
    found = {}
    for row in plan.rows:
        if row.own and (twin := row.own.twin):
            writes = Alike(writes=row.own.quantize, step=row.own.quantize, twin=twin.file.name)
            found[twin.quantize.key] = writes
            found[twin.evaluate.key] = replace(writes, step=row.evaluations["evaluation"])
    return found
