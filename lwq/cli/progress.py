"""What is happening, on stderr: one live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lwq.cli.noting import Hands, Noting
from lwq.cli.remaining import TimeLeft
from lwq.cli.tables import shortened
from lwq.llama.process import echo
from lwq.store.ledger import StepNote

if TYPE_CHECKING:
    from lwq.plan.plan import AnyStep
    from lwq.store.cache import Entry


class Progress:
    """A ``execution.Watch`` for people; several threads may tell it something."""

    def __init__(self, verbosity: int, *, name: str = "") -> None:
        """``name``: what each line begins with, where several runs write theirs."""
        self.name = f"{name}: " if name else ""
        self.hands = Hands()
        self.n_steps = 0
        self.verbosity = verbosity
        self.n_done = 0
        self.n_run = 0
        self.began = 0.0
        self.live = sys.stderr.isatty() and verbosity >= 0 and not name
        self.shown = 0
        self.what = ""
        self.remaining: TimeLeft | None = None
        self.noting: Noting | None = None

    def started(self, label: str, where: str = "") -> None:
        self.began = time.monotonic()
        self.hands.began(label, where, self.remaining.of_step(label) if self.remaining else None)
        self._note(label, is_new=True)
        self._line(f"{self._count()} {self._at_work(label)} …", keep=False)

    def progress(self, label: str, done: int, total: int) -> None:
        self.hands.went_on(label, done, total)
        self._note(label, done, total)
        if not self.live or not done:
            return
        if len(self.hands.by_label) > 1:
            self._line(f"{self._count()} {self._at_work(label)}", keep=False)
            return
        spent = time.monotonic() - self.began
        left = spent / done * max(0, total - done)
        self._line(f"{self._count()} {label} {done}/{total}, about {clock(left)} left", keep=False)

    def finished(self, step: AnyStep, entry: Entry, *, fresh: bool) -> None:
        where, label = self._count(), step.label
        self.n_done += 1
        self.hands.ended(label)
        if self.remaining:
            self.remaining.finished(step.key, entry.seconds if fresh else 0.0)
        self._note(label, is_new=fresh or self.n_done == self.n_steps)
        if not fresh:
            if self.verbosity > 0:
                self._line(f"{where} {label} (done before)")
            return
        self.n_run += 1
        self._line(f"{where} {label} ✓ {clock(entry.seconds)}{self._left()}")
        if self.verbosity > 0:
            for argv in entry.commands:
                self._line(f"    $ {echo(argv)}")

    def show(self, what: str, done: int, total: int) -> None:
        """Progress of something that is no step; each new thing gets a plain line where there is no terminal."""
        if what.partition(":")[0] != self.what.partition(":")[0]:
            self.began = time.monotonic()
        if self.live and total:
            spent = time.monotonic() - self.began
            left = f", about {clock(spent / done * max(0, total - done))} left" if done else ""
            self._line(f"{what} {done}/{total}{left}", keep=False)
        elif what != self.what:
            self._line(what)
        self.what = what

    def note(self, text: str) -> None:
        self._line(text)

    def close(self) -> None:
        self._line("", keep=False)

    def _note(self, label: str, done: int = 0, total: int = 0, *, is_new: bool = False) -> None:
        if self.noting:
            note = StepNote(
                step=label,
                step_since=0.0,
                step_done=done,
                step_total=total,
                n_done=self.n_done,
                n_steps=self.n_steps,
                left_seconds=self.remaining.seconds if self.remaining else None,
                at_work=self.hands.side_by_side,
            )
            self.noting.step(note, is_new=is_new)

    def _at_work(self, label: str) -> str:
        """What runs, in a few words."""
        labels = list(self.hands.by_label)
        if len(labels) < 2:
            return label
        shown = ", ".join(shortened(name, 24) for name in labels[:2])
        return f"{len(labels)} at work: {shown}{', …' if len(labels) > 2 else ''}"

    def _left(self) -> str:
        """What all steps that are still to do may take."""
        if not self.remaining or not (self.remaining.seconds or self.remaining.unknown):
            return ""
        without = f", without {', '.join(unknown)}" if (unknown := self.remaining.unknown) else ""
        return f"; in all about {clock(self.remaining.seconds)} left{without}"

    def _count(self) -> str:
        return f"[{self.n_done + 1}/{self.n_steps}]"

    def _line(self, text: str, *, keep: bool = True) -> None:
        if self.verbosity < 0 or not (keep or self.live):
            return
        wipe = "\r" + " " * self.shown + "\r" if self.shown else ""
        named = f"{self.name}{text}" if text else ""
        sys.stderr.write(wipe + named + ("\n" if keep and text else ""))
        sys.stderr.flush()
        self.shown = 0 if keep else len(text)


@contextmanager
def showing(verbosity: int, *, name: str = "") -> Iterator[Progress]:
    """A Progress whose live line is wiped at the end, whatever happens."""
    progress = Progress(verbosity, name=name)
    try:
        yield progress
    finally:
        progress.close()


def clock(seconds: float) -> str:
    """``0.4 s``, ``12 s``, ``3 min 05 s``, ``2 h 07 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"
