"""Layers taken out of a loaded model, and what that does to its predictions, measured and kept.

The set of layers to remove is found by measurement: of all sets that one more layer makes, the one with the least KLD
(greedy, SLEB, arXiv 2402.09025; with a beam, several sets are grown). Sets race on growing numbers of windows; who is
far behind is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np

from lwq.bits.race import LOST, difference, leads, rounds_of
from lwq.engine.engine import Engine
from lwq.engine.swapping import ENDS
from lwq.errors import ModelError
from lwq.metrics.divergence import Scores
from lwq.store.pieces import Pieces

Layers = tuple[int, ...]
_WHOLE: Final = tuple(ENDS)


@dataclass(slots=True, kw_only=True)
class Removal:
    """A set of layers without which the model was scored."""

    layers: Layers
    scores: Scores
    dropped: bool = False

    @property
    def kld(self) -> float:
        return self.scores.mean_kld


@dataclass(slots=True, kw_only=True)
class Cuts:
    """Scores of an engine without some of its layers; each window is a piece that outlives a killed run."""

    engine: Engine
    pieces: Pieces
    text: str
    """Names the windows in the pieces' keys."""
    on_done: Callable[[], None] = field(default=lambda: None)

    def check(self, layers: Iterable[int]) -> None:
        """Raises ModelError if zeros do not make a layer the identity on this architecture."""
        for layer in layers:
            names = self.engine.skip_layer(layer)
            sound = self.engine.is_identity(layer)
            self.engine.restore(*names)
            if not sound:
                arch = self.engine.header.architecture
                raise ModelError(
                    f"{self.engine.path.name}: layer {layer} of architecture {arch} cannot be left out in process: more"
                    " than the residual stream passes it",
                    hint="layers of this model cannot be pruned by lwq",
                )

    def scores(self, layers: Layers, windows: Iterable[int], parts: Sequence[str] = _WHOLE) -> Scores:
        """Of these windows, without these layers (or those parts of them)."""
        label = "" if tuple(parts) == _WHOLE else f"{parts[0]} of "
        key = f"{self.text}/without {label}{'-'.join(map(str, layers))}"
        by_window = [self.pieces.get(f"{key}/{w}", partial(self._window, layers, parts, w)) for w in windows]
        self.engine.restore()
        self.on_done()
        return Scores(kld=np.array([kld for kld, _ in by_window]), nll=np.array([nll for _, nll in by_window]))

    def _window(self, layers: Layers, parts: Sequence[str], window: int) -> tuple[list[float], list[float]]:
        """KLD and likelihood of one window, as means over its quarters."""
        names = [name for layer in layers for name in self.engine.skip_layer(layer, parts)]
        scores = self.engine.score(*names, windows=[window])
        return scores.quarters()

    def race(self, sets: Iterable[Layers], n_best: int = 1) -> list[Removal]:
        """The ``n_best`` sets with the least KLD, best first; those far behind all of them stop early."""
        running: list[Removal] = []
        sets = sorted(set(sets))
        for windows in rounds_of(len(self.engine.windows)):
            if not running:
                running = [Removal(layers=s, scores=self.scores(s, windows)) for s in sets]
            else:
                for one in running:
                    one.scores = one.scores.with_more(self.scores(one.layers, windows))
            running.sort(key=lambda r: (r.kld, r.layers))
            last = running[:n_best][-1]
            running = [
                r for i, r in enumerate(running) if i < n_best or not leads(difference(last.scores, r.scores), LOST)
            ]
        return running[:n_best]


def grow(
    cuts: Cuts,
    candidates: Sequence[int],
    n: int,
    *,
    beam: int = 1,
    contiguous: bool = False,
    suggested: Callable[[int], Iterable[Layers]] = lambda size: (),
) -> list[Removal]:
    """The best set found of each size 1 … ``n`` (fewer where there are not so many candidates).

    Args:
        suggested: sets of a size that race beside the grown ones.
    """
    best: list[Removal] = []
    base: list[Layers] = [()]
    for size in range(1, min(n, len(candidates)) + 1):
        sets = _runs(candidates, size) if contiguous else _larger(base, candidates) | set(suggested(size))
        if not sets:
            break
        leaders = cuts.race(sets, beam)
        best.append(leaders[0])
        base = [r.layers for r in leaders]
    return best


def _larger(base: Iterable[Layers], candidates: Iterable[int]) -> set[Layers]:
    return {tuple(sorted((*layers, c))) for layers in base for c in candidates if c not in layers}


def _runs(candidates: Sequence[int], size: int) -> set[Layers]:
    allowed = set(candidates)
    runs = (tuple(range(first, first + size)) for first in candidates)
    return {run for run in runs if allowed.issuperset(run)}
