"""How far a run is, told to the ledger."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from typing import Final

from lwq.store.ledger import AtWork, Ledger, StepNote

_PAUSE_SECONDS: Final = 2.0
"""Between two notes of one step."""


@dataclass(slots=True, kw_only=True)
class Noting:
    """Notes the steps of one order; within a step now and then only."""

    ledger: Ledger
    order: int
    since: float = 0.0
    noted_at: float = 0.0

    def step(self, note: StepNote, *, is_new: bool) -> None:
        """Notes where the run is; ``is_new``: a step has just begun, or ended."""
        now = time.time()
        if is_new:
            self.since = now
        elif abs(now - self.noted_at) < _PAUSE_SECONDS:
            return
        self.noted_at = now
        self.ledger.note(self.order, replace(note, step_since=self.since or now))


@dataclass(slots=True)
class Hands:
    """Which steps run now, and where, in the order in which they began; told by any thread."""

    by_label: dict[str, AtWork] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def began(self, label: str, where: str, left_seconds: float | None) -> None:
        with self._lock:
            self.by_label[label] = AtWork(step=label, where=where, since=time.time(), left_seconds=left_seconds)

    def went_on(self, label: str, done: int, total: int) -> None:
        """Notes how far a step is; its own pace then tells what is left of it."""
        with self._lock:
            if (one := self.by_label.get(label)) and done:
                whole = (time.time() - one.since) * total / done
                self.by_label[label] = replace(one, done=done, total=total, left_seconds=whole)

    def ended(self, label: str) -> None:
        with self._lock:
            self.by_label.pop(label, None)

    @property
    def side_by_side(self) -> tuple[AtWork, ...]:
        """All of them, where any has a place of its own."""
        with self._lock:
            found = tuple(self.by_label.values())
        return found if any(one.where for one in found) or len(found) > 1 else ()
