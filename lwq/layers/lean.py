"""Fewer layers or fewer bits: pruned candidates within a byte budget, measured against the best unpruned one.

Each set of removed layers frees bytes that the layers which stay can use: the best types for them are found exactly,
put in place together with the removal and its repairs, and the whole is scored on the windows that judged the
unpruned candidates. Predicted damage is that of the removal (measured, healed) plus that of the types.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from lwq.bits.damage import TensorDamage
from lwq.bits.frontier import choices, totals
from lwq.bits.knapsack import BudgetError, solve
from lwq.bits.mixes import Mixer
from lwq.bits.options import spread
from lwq.bits.race import LOST, difference, is_better, rounds_of
from lwq.engine.engine import Engine
from lwq.gguf.header import GgufHeader
from lwq.metrics.arrays import Floats
from lwq.metrics.divergence import Scores
from lwq.metrics.values import Estimate
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


def score_lean(
    engine: Engine,
    importance: Mapping[str, Floats],
    lean: Lean,
    repairs: Mapping[str, Floats],
    rival: Scores | None,
    on_done: Callable[[], None],
) -> None:
    """Scores a candidate on growing sets of the engine's windows, until it is surely behind its rival."""
    engine.restore()
    for layer in lean.healed.layers:
        engine.skip_layer(layer)
    Mixer(engine, importance, repairs).put(lean.types)
    for windows in rounds_of(len(engine.windows)):
        scores = engine.score(windows=windows)
        lean.scores = lean.scores.with_more(scores) if lean.scores else scores
        on_done()
        if rival and is_better(difference(rival, lean.scores), LOST):
            lean.dropped = f"behind the best unpruned candidate after {len(lean.scores.kld)} windows"
            break
    engine.restore()


def verdict(best: Lean | None, gap: Estimate | None, n_tried: int, unpruned: str) -> str:
    """Whether pruning pays, in a sentence."""
    if best is None:
        return "Every layer stays: no removal left room for a file of that size."
    if gap is None:
        return f"The model with all its layers does not keep to the budget; {best.name} is the best that does."
    error = f" ±{gap.stderr:.6f}" if gap.stderr is not None else ""
    gap_in_words = f"{gap.value:+.6f}{error} nats of KLD on the selection text, paired"
    if is_better(gap):
        return f"Pruning pays here: {best.name}, the file differs from {unpruned} by {gap_in_words}."
    tried = "the best of " + str(n_tried) + " removals" if n_tried > 1 else "removal"
    return f"Every layer stays: {tried} ({best.name}) differs from {unpruned} by {gap_in_words}."
