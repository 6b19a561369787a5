"""Races of mixes whose KLD of each window is drawn, so that the truth is known, decided by the search's own code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from lwq.bits.confirmation import Gap, choose, confirm, finalists, halves
from lwq.bits.mixes import Mixer
from lwq.bits.race import Runner, difference, leads, race, rounds_of
from lwq.engine.session import spread_over
from lwq.metrics.arrays import Doubles, Tokens
from lwq.metrics.divergence import Scores

STOCK = "stock"
_QUARTERS = 4


class Drawn:
    """A mixer and its engine in one: what is put in place is a name, what is scored was drawn.

    Args:
        kld: name of a mix → KLD of each quarter of each window of the text, shape (windows, 4).
    """

    def __init__(self, kld: Mapping[str, Doubles]) -> None:
        self.kld, self.mix, self.windows = kld, "", np.empty((0, 1), np.int32)
        self.engine = self

    def set_windows(self, windows: Tokens) -> None:
        self.windows = windows

    def put(self, types: Mapping[str, str], *_: Any) -> None:
        self.mix = types.get("all", "")

    def score(self, windows: Sequence[int] | None = None) -> Scores:
        places = self.windows[:, 0] if windows is None else self.windows[list(windows), 0]
        kld = self.kld[self.mix][places]
        return Scores(kld=kld, nll=np.zeros_like(kld))


@dataclass(frozen=True, kw_only=True)
class Decided:
    """How a race ended."""

    chosen: str
    gap: Gap
    led: bool
    """Whether who leads is ahead by 1.96 errors on the windows that chose it: what was called sure before."""

    @property
    def is_sure(self) -> bool:
        return self.chosen != STOCK and self.gap.confirmation is not None


def decided(kld: Mapping[str, Doubles], n_race: int, n_confirming: int) -> Decided:
    """The race, the confirmation and the choice between ``stock`` and all other mixes, on drawn windows."""
    drawn = Drawn(kld)
    mixer = cast(Mixer, drawn)
    n_windows = len(kld[STOCK])
    choosing, confirming = halves(np.arange(n_windows, dtype=np.int32)[:, None])
    drawn.set_windows(spread_over(choosing, n_race))
    runners = [Runner(name=n, types={"all": n}, must_finish=n == STOCK) for n in kld]
    stock, others = runners[0], runners[1:]
    race(mixer, runners, rounds_of(len(drawn.windows)), _nothing)
    best = min(others, key=lambda r: (bool(r.dropped), r.kld))
    assert best.scores
    assert stock.scores
    led = leads(difference(best.scores, stock.scores), 1.96)
    confirm(mixer, spread_over(confirming, n_confirming), [stock, *finalists(stock, others)], _nothing)
    chosen, gap = choose(runners, len(others), lambda types: "")
    return Decided(chosen=chosen.name, gap=gap, led=led)


def _nothing() -> None:
    pass
