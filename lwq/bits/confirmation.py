"""Whether a mix is surely better than another: told by windows that nothing was chosen by.

Races, swaps and repairs look at the first half of a text again and again and keep the best of many: what leads there
leads partly by chance, and no interval from the same windows sees by how much. So who leads is scored once more, beside
what it has to beat, on windows of the second half. That is one comparison, whose 95 % interval is `mean_interval`'s:
windows are the units, and their correlation and skewed values are allowed for.

It is an interval of one mean KLD ÷ the other, paired by window: files are compared by their mean KLD, and what makes a
window hard for both cancels, so that few windows show a steady gain. The mean of logarithms of ratios is another thing:
a mix that is a little closer on most windows and far off on one has the lower mean logarithm and the higher KLD.
Halves, and not windows in turn, because neighbouring windows are alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lwq.bits.mixes import Mixer
from lwq.bits.race import Runner
from lwq.metrics.arrays import Doubles, Tokens
from lwq.metrics.divergence import Scores
from lwq.metrics.paired import MIN_WINDOWS, block_stderr, quotient_interval, quotient_terms, student
from lwq.metrics.values import Estimate
from lwq.record.search import Confirmation

_ONE_SIDED: Final = 0.025


def halves(windows: Tokens, least: int = MIN_WINDOWS) -> tuple[Tokens, Tokens]:
    """The windows to choose by, and those to confirm on: halves of a text, or all and none where halves are too short.

    Of an odd number the middle one is in neither: so no token that is scored in the second half is in a first half of
    windows of another size.

    Args:
        least: windows that a half must have.
    """
    n = len(windows) // 2
    return (windows[:n], windows[len(windows) - n :]) if n >= least else (windows, windows[:0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """KLD of one mix less that of another, paired by window, and what may be said of it."""

    difference: Estimate
    quotient: float
    """One ÷ the other; 1 where neither loses anything."""
    n_windows: int
    is_lower: bool
    """Lower by more than chance makes it."""
    confirmation: Confirmation | None = None
    """None: seen on the windows that chose, so it is no proof."""

    def __str__(self) -> str:
        error = f" ±{self.difference.stderr:.6f}" if self.difference.stderr is not None else ""
        return f"{self.difference.value:+.6f}{error} nats of KLD"

    @property
    def where(self) -> str:
        """On which windows, in words."""
        if self.confirmation:
            return f"on {self.n_windows} windows of the selection text that nothing was chosen by"
        return (
            f"on the {self.n_windows} windows of the selection text that candidates raced on (not confirmed on others)"
        )

    @property
    def share(self) -> str:
        """By how many per cent, in words; with the interval where it is more than what was seen."""
        if not self.confirmation:
            return _share(self.quotient)
        ends = self.confirmation.interval
        return f"{_share(self.quotient)} (95 %: {_share(ends.high)} to {_share(ends.low)})"


def _share(quotient: float) -> str:
    return f"{100 * abs(1 - quotient):.0f} % {'below' if quotient <= 1 else 'above'}"


def confirmed(a: Scores, b: Scores) -> Gap:
    """The difference of two mixes on windows that nothing was chosen by, at least eight; ``b`` loses something."""
    first, second = _both(a, b)
    difference, quotient = _estimate(first - second), float(first.mean() / second.mean())
    interval = quotient_interval(first, second)
    assert interval
    found = Confirmation(n_windows=len(first), difference=difference, quotient=quotient, interval=interval)
    return Gap(
        difference=difference,
        quotient=quotient,
        n_windows=len(first),
        is_lower=found.is_lower,
        confirmation=found,
    )


def unconfirmed(a: Scores, b: Scores, n_tried: int) -> Gap:
    """The difference on the windows by which ``a`` was chosen as the best of ``n_tried``.

    Lower: by Student's t of the windows' shares at 0.025 ÷ ``n_tried``, as if windows were independent.
    """
    first, second = _both(a, b)
    n, is_lower, middle = len(first), False, float(second.mean())
    if n > 1 and middle > 0:
        terms = quotient_terms(first, second)
        sure = student(n - 1, 1 - _ONE_SIDED / max(1, n_tried))
        is_lower = bool(terms.mean() + sure * terms.std(ddof=1) / np.sqrt(n) < 1)
    return Gap(
        difference=_estimate(first - second),
        quotient=float(first.mean()) / middle if middle > 0 else 1.0,
        n_windows=n,
        is_lower=is_lower,
    )


def _both(a: Scores, b: Scores) -> tuple[Doubles, Doubles]:
    """KLD of the windows that both have."""
    n = min(len(a.kld), len(b.kld))
    return a.by_window()[:n], b.by_window()[:n]


def _estimate(difference: Doubles) -> Estimate:
    error = block_stderr(difference)
    return Estimate(value=float(difference.mean()), stderr=error if np.isfinite(error) else None, unit="nats")


def finalists(stock: Runner, others: Sequence[Runner], n: int | None = 1) -> list[Runner]:
    """The ``n`` (None: all) that lead the stock mix in the race, the best first; where that may not ship, the best.

    Args:
        others: all but the stock mix.
    """
    left = sorted((r for r in others if not r.dropped and r.scores), key=lambda r: r.kld)
    return [r for r in left if stock.obstacle or r.kld < stock.kld][:n]


def confirm(mixer: Mixer, windows: Tokens, runners: Sequence[Runner], on_done: Callable[[], None]) -> None:
    """Scores runners on windows that nothing was chosen by; of fewer than two, and without windows, nothing."""
    if len(runners) < 2 or not len(windows):
        return
    mixer.put({})  # the base again, which scores are against
    mixer.engine.set_windows(windows)
    for runner in runners:
        mixer.put(runner.types, runner.unweighted, runner.rounding)
        runner.confirming = mixer.engine.score()
        on_done()


def choose(runners: Sequence[Runner], n_tried: int, too_slow: Callable[[Mapping[str, str]], str]) -> tuple[Runner, Gap]:
    """Who ships, and how the best but the stock mix (the first of the runners) differs from it.

    The stock mix ships unless another is surely better, or something stands against it. Whether one is fast enough has
    nothing to do with windows, so going on to the next because of it makes no claim less sure.

    Args:
        n_tried: mixes that were measured on the windows of the race, of which the best leads.
        too_slow: what stands against the types of who is to ship; then another is chosen. Not all may be too slow.
    """
    stock, *others = runners
    while True:  # one fewer each time
        best = min(others, key=lambda r: (bool(r.dropped), r.kld))
        gap = _gap(best, stock, n_tried)
        chosen = best if gap.is_lower or stock.obstacle else stock
        if not (why := too_slow(chosen.types)):
            return chosen, gap
        if chosen is stock:
            stock.obstacle = why
        else:
            chosen.dropped = why
            others.remove(chosen)


def _gap(runner: Runner, stock: Runner, n_tried: int) -> Gap:
    if runner.confirming and stock.confirming and stock.confirming.mean_kld > 0:
        return confirmed(runner.confirming, stock.confirming)
    assert runner.scores
    assert stock.scores
    return unconfirmed(runner.scores, stock.scores, n_tried)


def reason(chosen: Runner, stock: Runner, gap: Gap, fits: bool) -> str:
    """Why that runner ships, in a sentence: by how much it is better than the stock mix, and how sure that is."""
    if chosen is stock:
        return (
            f"The stock mix was not surely beaten: {gap.where}, the KLD of the best other candidate is {gap.share} its"
            f" own ({gap}, paired), and ties go to the stock mix."
        )
    size = "of that size" if fits else "next to that size, which is larger than the budget"
    where = gap.where[0].upper() + gap.where[1:]
    return f"{where}, its KLD is {gap.share} that of the {stock.name} mix {size}: {gap}, paired."
