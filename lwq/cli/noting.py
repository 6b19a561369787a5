"""How far a run is, told to the ledger."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from lwq.store.ledger import Ledger, StepNote

_PAUSE_SECONDS: Final = 2.0
"""Between two notes of one step."""


@dataclass(slots=True, kw_only=True)
class Noting:
    """Notes the steps of one order; within a step now and then only."""

    ledger: Ledger
    order: int
    since: float = 0.0
    noted_at: float = 0.0

    def step(
        self, label: str, within: tuple[int, int], steps: tuple[int, int], left_seconds: float | None, *, is_new: bool
    ) -> None:
        """Notes where the run is.

        Args:
            within: how much of the step is done, of all.
            steps: how many are done, of all.
            left_seconds: what all that are still to do may take.
            is_new: it has just begun, or ended.
        """
        now = time.time()
        if is_new:
            self.since = now
        elif abs(now - self.noted_at) < _PAUSE_SECONDS:
            return
        self.noted_at = now
        note = StepNote(
            step=label,
            step_since=self.since or now,
            step_done=within[0],
            step_total=within[1],
            n_done=steps[0],
            n_steps=steps[1],
            left_seconds=left_seconds,
        )
        self.ledger.note(self.order, note)
