"""One budget's candidates, measured against each other: extra probes, a race, swaps that keep the size, the choice.

The stock mix is never dropped, and ships unless what leads the race is surely better on windows that chose nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from lwq.bits.confirmation import choose, confirm, finalists, reason
from lwq.bits.damage import fit_interaction, most_extrapolated
from lwq.bits.mixes import Mixer
from lwq.bits.problem import Problem, Solution
from lwq.bits.race import Polish, Runner, entered_as, proposals, race, rounds_of
from lwq.metrics.arrays import Tokens
from lwq.metrics.values import Estimate
from lwq.record.search import Confirmation, SearchCandidate
from lwq.store.pieces import Pieces

EXPONENTS: Final = (1.0, 0.9, 1.1)
N_PROBES: Final = 10
N_SWAPS: Final = 4
N_PROBE_WINDOWS: Final = 2


def probe(problem: Problem, budget_bytes: int, mixer: Mixer, pieces: Pieces, on_done: Callable[[], None]) -> None:
    """Measures what the best allocation would use and no probe was near; twice, since it then changes its mind."""
    for _ in range(2):
        wanted = problem.solved(budget_bytes).types
        for name, q in most_extrapolated(wanted, problem.damages(), N_PROBES // 2):
            value, _ = pieces.get(f"probe of {N_PROBE_WINDOWS}/{name}/{q}", partial(mixer.measured, name, q))
            problem.probes[name, q] = value
            on_done()


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What was chosen, and what each candidate came to."""

    chosen: Runner
    is_stock: bool
    reason: str
    stock_difference: Estimate | None
    """KLD of the chosen mix less that of the stock mix; None where that was chosen."""
    confirmation: Confirmation | None
    candidates: tuple[SearchCandidate, ...]
    scale: float
    exponent: float
    """KLD of a mix = scale · (sum of single damages) ^ exponent."""


@dataclass(slots=True, kw_only=True)
class Contest:
    """Who runs for one budget.

    Args:
        stock: the stock mix, which all are compared with.
    """

    problem: Problem
    budget_bytes: int
    stock: Runner
    stock_fits: bool
    """Whether it is no larger than the budget."""
    others: list[Runner] = field(default_factory=list)
    solutions: dict[str, Solution] = field(default_factory=dict)
    """By name of the runner that was computed."""
    polish: Polish | None = None

    def enter(self, passed: Mapping[str, str] | None, rivals: Iterable[Runner]) -> None:
        """The best allocations for each exponent, the mix that was timed (if one was), and hand-written mixes."""
        for exponent in EXPONENTS:
            solution = self.problem.solved(self.budget_bytes, exponent)
            if solution.types not in [r.types for r in self.others]:
                name = f"allocation, exponent {exponent:g}"
                self.others.append(Runner(name=name, types=solution.types))
                self.solutions[name] = solution
        if passed and passed not in [r.types for r in self.others]:
            self.others.append(Runner(name="allocation that was timed", types=passed, must_finish=True))
        self.others += list(rivals)

    def run(self, mixer: Mixer, on_done: Callable[[], None]) -> None:
        """Scores everybody on the engine's windows, and polishes the best of what was computed."""
        race(mixer, [self.stock, *self.others], rounds_of(len(mixer.engine.windows)), on_done)
        self.polish = self._polished(mixer, on_done)

    def confirm(self, mixer: Mixer, windows: Tokens, on_done: Callable[[], None], n: int | None = 1) -> None:
        """Scores the stock mix and the ``n`` that lead it (None: all) on windows that nothing was chosen by."""
        confirm(mixer, windows, [self.stock, *finalists(self.stock, self.others, n)], on_done)

    def _polished(self, mixer: Mixer, on_done: Callable[[], None]) -> Polish | None:
        """Size-neutral swaps on the best allocation, which is entered as a runner if any swap stayed."""
        left = [r for r in self.others if r.name in self.solutions and not r.dropped]
        if not left:
            return None
        best = min(left, key=lambda r: r.kld)
        chosen, groups = self.solutions[best.name].chosen, self.solutions[best.name].groups
        spare = self.budget_bytes - self.problem.n_bytes(best.types)
        mixer.put(best.types)
        assert best.scores
        by_name = {g.name: g for g in groups}
        polish = Polish(mixer=mixer, groups=by_name, chosen=dict(chosen), scores=best.scores, on_done=on_done)
        polish.run(proposals(chosen, groups, spare, N_SWAPS), spare)
        if polish.n_kept:
            name = f"{best.name}, {polish.n_kept} swap{'s' if polish.n_kept > 1 else ''}"
            types = Solution(chosen=polish.chosen, groups=groups).types
            self.others.append(Runner(name=name, types=types, scores=polish.scores))
        return polish

    def choice(self, too_slow: Callable[[Mapping[str, str]], str]) -> Choice:
        """Who ships, and why.

        Args:
            too_slow: what stands against a mix that is to ship after all; empty where nothing does.
        """
        runners = [self.stock, *self.others]
        n_tried = len(self.others) + (self.polish.n_tried if self.polish else 0)
        chosen, gap = choose(runners, n_tried, too_slow)
        sums = {r.name: self.problem.predicted(r.types) for r in runners}
        raced = [r for r in runners if r.scores]
        fitted = fit_interaction([sums[r.name] for r in raced], [r.kld for r in raced])
        return Choice(
            chosen=chosen,
            is_stock=chosen is self.stock,
            reason=reason(chosen, self.stock, gap, self.stock_fits),
            stock_difference=None if chosen is self.stock else gap.difference,
            confirmation=gap.confirmation,
            candidates=tuple(
                entered_as(r, chosen, self.problem.n_bytes(r.types), fitted.damage_of_mix(sums[r.name]))
                for r in runners
            ),
            scale=fitted.scale,
            exponent=fitted.exponent,
        )
