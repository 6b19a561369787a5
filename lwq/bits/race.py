"""Mixes measured against each other on the same windows: a race that drops losers, and swaps that keep the size.

What is dropped and kept here goes by errors that take quarters of windows for independent. It saves time and steers;
whether a mix is surely better is told by `confirmation`, on other windows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from lwq.bits.knapsack import Group, Option
from lwq.bits.mixes import Mixer, Rounding
from lwq.metrics.arrays import Doubles
from lwq.metrics.divergence import Scores, stderr
from lwq.metrics.values import Estimate
from lwq.record.search import CandidateKind, SearchCandidate

LOST: Final = 3.5
"""A runner this many standard errors behind the best is dropped."""
KEPT: Final = 1.64
"""A swap or a repair stays if it lowers the KLD by this many standard errors."""


@dataclass(slots=True, kw_only=True)
class Runner:
    """A mix in the race, and its scores so far."""

    name: str
    types: Mapping[str, str]
    kind: CandidateKind = "allocated"
    unweighted: frozenset[str] = frozenset()
    must_finish: bool = False
    """Never dropped: the stock mix, which all others are compared with."""
    obstacle: str = ""
    """Why it cannot be chosen (too large, against a constraint): it is measured for comparison and drops nobody."""
    scores: Scores | None = None
    confirming: Scores | None = None
    """On windows that nothing was chosen by."""
    dropped: str = ""

    @property
    def rounding(self) -> Rounding | None:
        """Stock and hand-written mixes are what llama-quantize makes of them."""
        return "weighted" if self.kind in ("stock", "hand") else None

    @property
    def kld(self) -> float:
        return self.scores.mean_kld if self.scores else float("inf")


def difference(a: Scores, b: Scores) -> Estimate:
    """Mean KLD of ``a`` less that of ``b``, paired over the quarters of windows that both have, as if these were
    independent: it steers, and proves nothing."""
    n = min(len(a.kld), len(b.kld))
    pieces: Doubles = _first(a, n).pieces() - _first(b, n).pieces()
    error = stderr(pieces)
    return Estimate(value=float(pieces.mean()), stderr=error if np.isfinite(error) else None, unit="nats")


def _first(scores: Scores, n: int) -> Scores:
    return Scores(kld=scores.kld[:n], nll=scores.nll[:n])


def leads(gap: Estimate, n_errors: float) -> bool:
    """Whether a difference is below zero by more than so many of its standard errors."""
    return gap.stderr is not None and gap.value + n_errors * gap.stderr < 0


def race(mixer: Mixer, runners: Sequence[Runner], rounds: Sequence[Sequence[int]], on_done: Callable[[], None]) -> None:
    """Scores the runners on growing sets of windows; who is far behind the best is dropped between rounds."""
    for windows in rounds:
        running = [r for r in runners if not r.dropped]
        for runner in running:
            mixer.put(runner.types, runner.unweighted, runner.rounding)
            scores = mixer.engine.score(windows=windows)
            runner.scores = runner.scores.with_more(scores) if runner.scores else scores
            on_done()
        best = min((r for r in running if not r.obstacle), key=lambda r: r.kld, default=None)
        if best is None or not best.scores:
            continue
        for runner in running:
            if runner is best or runner.must_finish or not runner.scores:
                continue
            if leads(difference(best.scores, runner.scores), LOST):
                runner.dropped = f"behind {best.name} after {len(runner.scores.kld)} windows"


def rounds_of(n_windows: int) -> list[range]:
    """Windows in growing sets: two, as many again, then all that are left."""
    edges = sorted({min(2, n_windows), min(4, n_windows), n_windows})
    return [range(a, b) for a, b in zip([0, *edges], edges, strict=False) if b > a]


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """One group a type up, another a type down, together within the budget."""

    up: tuple[str, str]
    """(group, new type)."""
    down: tuple[str, str]
    predicted: float
    """Predicted change of the sum of damages; what the best allocation left is ≥ 0."""
    at_stake: float
    """Damage of the two groups as they are: how wrong the prediction could be."""


def proposals(chosen: Mapping[str, str], groups: Iterable[Group], spare_bytes: int, n: int) -> list[Swap]:
    """The ``n`` swaps whose predicted loss is least beside what is at stake; deterministic."""
    ups, downs = [], []
    for group in groups:
        here = next(o for o in group.options if o.label == chosen[group.name])
        above = [o for o in group.options if o.n_bytes > here.n_bytes and o.damage < here.damage]
        below = [o for o in group.options if o.n_bytes < here.n_bytes]
        if above:
            ups.append((group, here, min(above, key=lambda o: (o.n_bytes, o.label))))
        if below:
            downs.append((group, here, max(below, key=lambda o: (o.n_bytes, -o.damage, o.label))))
    swaps = []
    for high, was, more in ups:
        for low, had, less in downs:
            if low is not high and _grown(was, more) + _grown(had, less) <= spare_bytes:
                change = more.damage - was.damage + less.damage - had.damage
                swaps.append(
                    Swap(
                        up=(high.name, more.label),
                        down=(low.name, less.label),
                        predicted=change,
                        at_stake=was.damage + had.damage,
                    )
                )
    swaps.sort(key=lambda s: (s.predicted / max(s.at_stake, 1e-12), s.up, s.down))
    return _each_once(swaps)[:n]


def _grown(before: Option, after: Option) -> int:
    return after.n_bytes - before.n_bytes


def _each_once(swaps: Iterable[Swap]) -> list[Swap]:
    """Swaps that share no group with one before them."""
    used: set[str] = set()
    kept = []
    for swap in swaps:
        if not {swap.up[0], swap.down[0]} & used:
            used |= {swap.up[0], swap.down[0]}
            kept.append(swap)
    return kept


@dataclass(slots=True, kw_only=True)
class Polish:
    """Swaps tried one after another on a mix that is in place; those that lower the KLD by 1.64 errors stay."""

    mixer: Mixer
    groups: Mapping[str, Group]
    chosen: dict[str, str]
    scores: Scores
    """Of the mix that is in place, on all windows of the engine."""
    on_done: Callable[[], None] = field(default=lambda: None)
    n_tried: int = 0
    n_kept: int = 0

    def run(self, swaps: Iterable[Swap], spare_bytes: int) -> int:
        """Tries each; returns the bytes that are spare afterwards."""
        engine = self.mixer.engine
        engine.settle()
        for swap in swaps:
            grown = self._bytes_of(swap.up) + self._bytes_of(swap.down)
            if grown <= spare_bytes and self._try(swap):
                spare_bytes -= grown
            self.on_done()
        return spare_bytes

    def _bytes_of(self, change: tuple[str, str]) -> int:
        options = {o.label: o for o in self.groups[change[0]].options}
        return options[change[1]].n_bytes - options[self.chosen[change[0]]].n_bytes

    def _types(self, changes: Mapping[str, str]) -> dict[str, str]:
        return {member: label for name, label in changes.items() for member in self.groups[name].members}

    def _try(self, swap: Swap) -> bool:
        """Two windows first; the rest only if those do not show a loss."""
        engine, now = self.mixer.engine, self.scores
        changes = self._types(dict((swap.up, swap.down)))
        before = {name: self.mixer.now[name] for name in changes}
        self._swap({name: (q, self.mixer.usual) for name, q in changes.items()})
        self.n_tried += 1
        n = min(2, len(engine.windows))
        scores = engine.score(*changes, windows=range(n))
        if not leads(difference(now, scores), KEPT) and n < len(engine.windows):
            scores = scores.with_more(engine.score(*changes, windows=range(n, len(engine.windows))))
        if len(scores.kld) == len(engine.windows) and leads(difference(scores, now), KEPT):
            self.chosen |= dict((swap.up, swap.down))
            self.n_kept += 1
            engine.settle()
            self.scores = scores
            return True
        self._swap(before)
        return False

    def _swap(self, types: Mapping[str, tuple[str, Rounding]]) -> None:
        for name, (ggml_type, rounding) in types.items():
            self.mixer.engine.swap(name, ggml_type, self.mixer.stored(name, ggml_type, rounding))
            self.mixer.now[name] = (ggml_type, rounding)


def entered_as(runner: Runner, chosen: Runner, n_bytes: int, predicted: float) -> SearchCandidate:
    """A runner as the record has it, where its name alone says what it is."""
    assert runner.scores
    lost = "not surely lower than the stock mix" if runner.confirming and chosen.kind == "stock" else ""
    verdict = "chosen" if runner is chosen else runner.dropped or lost or "not the lowest KLD"
    if runner.obstacle:
        verdict = f"{runner.obstacle}; shown for comparison"
    candidate = SearchCandidate(
        name=runner.name,
        n_bytes=n_bytes,
        predicted_kld=predicted,
        kld=runner.scores.estimate(),
        n_windows=len(runner.scores.kld),
        verdict=verdict,
    )
    assert candidate.kind == runner.kind, f"{runner.name!r} is {runner.kind}"
    return candidate
