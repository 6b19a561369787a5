"""Fewer layers or fewer bits: pruned candidates within a byte budget, measured against the best unpruned one.

Each set of removed layers frees bytes that the layers which stay can use: the best types for them are found exactly,
put in place together with the removal and its repairs, and the whole is scored on the windows that judged the
unpruned candidates; the best of them once more, beside the best unpruned one, on windows that nothing was chosen by.
Predicted damage is that of the removal (measured, healed) plus that of the types.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lwq.bits.confirmation import Gap, confirmed, halves, unconfirmed
from lwq.bits.damage import TensorDamage
from lwq.bits.frontier import choices, totals
from lwq.bits.knapsack import BudgetError, solve
from lwq.bits.mixes import Mixer
from lwq.bits.options import spread
from lwq.bits.race import LOST, difference, leads, rounds_of
from lwq.engine.engine import Engine
from lwq.engine.session import spread_over
from lwq.gguf.header import GgufHeader
from lwq.metrics.arrays import Floats, Tokens
from lwq.metrics.divergence import Scores
from lwq.recipe.constraints import Constraints
from lwq.record.prune import HealedSet
from lwq.record.search import Pace, pruned_name


@dataclass(slots=True, kw_only=True)
class Lean:
    """A pruned candidate."""

    healed: HealedSet
    types: Mapping[str, str]
    """Of the tensors that stay, under their names in the original."""
    n_bytes: int
    """Of all tensors."""
    predicted: float
    """Nats: the removal, measured and healed, plus the sum of the types' single damages."""
    scores: Scores | None = None
    dropped: str = ""

    @property
    def name(self) -> str:
        return pruned_name(self.healed.layers)


def lean_candidates(
    header: GgufHeader,
    known: Mapping[str, TensorDamage],
    constraints: Constraints,
    budget_bytes: int,
    sets: Iterable[HealedSet],
    paces: Iterable[Pace] = (),
) -> Iterator[Lean]:
    """The best predicted allocation without each of these sets of layers, where one fits the budget and its pace."""
    limits = {pace.layers: pace.limit(budget_bytes) for pace in paces}
    for healed in sets:
        groups, others = choices(header, known, constraints, healed.layers)
        try:
            chosen = solve(groups, limits.get(healed.layers, budget_bytes) - others)
        except BudgetError:
            continue
        used, damage = totals(groups, chosen)
        yield Lean(
            healed=healed,
            types=spread(chosen, groups),
            n_bytes=used + others,
            predicted=healed.after.value + damage,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighing:
    """Pruned candidates of one engine against the best allocation with all layers.

    Args:
        put_whole: puts that allocation in place; None where there is none within the budget.
        repairs: of a candidate's tensors.
    """

    engine: Engine
    importance: Mapping[str, Floats]
    put_whole: Callable[[], None] | None
    repairs: Callable[[Lean], Mapping[str, Floats]]
    on_done: Callable[[], None]

    def weigh(self, candidates: Sequence[Lean], text: Tokens, n: int, n_confirming: int) -> tuple[Lean, Gap | None]:
        """The best candidate, and its KLD less that of the unpruned allocation (None where there is none).

        Args:
            text: windows; ``n`` of its first half choose, ``n_confirming`` of the second confirm.
        """
        choosing, confirming = halves(text)
        self._set_windows(spread_over(choosing, n))
        rival = self._scores_of_whole()
        for lean in candidates:
            self._race(lean, rival)
        best = min(candidates, key=lambda r: (bool(r.dropped), r.scores.mean_kld if r.scores else float("inf")))
        assert best.scores
        if rival is None:
            return best, None
        if best.dropped or best.scores.mean_kld >= rival.mean_kld or not len(confirming):
            return best, unconfirmed(best.scores, rival, len(candidates))
        self._set_windows(spread_over(confirming, n_confirming))
        rival = self._scores_of_whole()
        assert rival
        self._put(best)
        gap = confirmed(self.engine.score(), rival)
        self.engine.restore()
        return best, gap

    def _set_windows(self, windows: Tokens) -> None:
        self.engine.restore()
        self.engine.set_windows(windows)

    def _scores_of_whole(self) -> Scores | None:
        if self.put_whole is None:
            return None
        self.engine.restore()
        self.put_whole()
        return self.engine.score()

    def _put(self, lean: Lean) -> None:
        self.engine.restore()
        for layer in lean.healed.layers:
            self.engine.skip_layer(layer)
        Mixer(self.engine, self.importance, self.repairs(lean)).put(lean.types)

    def _race(self, lean: Lean, rival: Scores | None) -> None:
        """Scores a candidate on growing sets of windows, until it is far behind its rival."""
        self._put(lean)
        for windows in rounds_of(len(self.engine.windows)):
            scores = self.engine.score(windows=windows)
            lean.scores = lean.scores.with_more(scores) if lean.scores else scores
            self.on_done()
            if rival and leads(difference(rival, lean.scores), LOST):
                lean.dropped = f"behind the best unpruned candidate after {len(lean.scores.kld)} windows"
                break
        self.engine.restore()


def verdict(best: Lean | None, gap: Gap | None, n_tried: int, unpruned: str) -> str:
    """Whether pruning pays, in a sentence."""
    if best is None:
        return "Every layer stays: no removal left room for a file of that size."
    if gap is None:
        return f"The model with all its layers does not keep to the budget; {best.name} is the best that does."
    told = f"{gap.share} that of {unpruned} ({gap}, paired)"
    if gap.is_lower:
        return f"Pruning pays here: {gap.where}, the KLD of {best.name} is {told}."
    tried = "the best of " + str(n_tried) + " removals" if n_tried > 1 else "removal"
    return f"Every layer stays: {gap.where}, the KLD of {tried} ({best.name}) is {told}."
