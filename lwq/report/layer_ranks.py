"""Layers in order of who would go first: by what was measured, and by scores of the literature."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from lwq.record.prune import LayerScore, PruningFacts

MEASURED: Final = "measured KLD"


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstChoice:
    """A score's first choice, and which place the measurement gives it."""

    score: str
    layer: int
    place: int
    """From 1, the cheapest to remove."""


def barred_layers(pruning: PruningFacts) -> frozenset[int]:
    """The layers that may not go."""
    return frozenset(layer for layer, _ in pruning.barred)


def removable(layers: Iterable[LayerScore], barred: Iterable[int]) -> tuple[LayerScore, ...]:
    """The layers that may go."""
    kept = frozenset(barred)
    return tuple(s for s in layers if s.layer not in kept)


def indices(layers: Iterable[LayerScore]) -> dict[str, dict[int, float]]:
    """Name of a score → layer → its index, the lower the more redundant it holds the layer: CosSim is 1 − CosSim."""
    scores = tuple(layers)
    return {
        "Block Influence": {s.layer: s.block_influence for s in scores},
        "CosSim": {s.layer: 1 - s.cossim for s in scores if s.cossim is not None},
    }


def rankings(layers: Iterable[LayerScore]) -> dict[str, dict[int, int]]:
    """Name of a score → layer → its place, 1 for the one that the score would remove first; the measured one is first.

    Low Block Influence and high CosSim of the importance matrix are held for signs of a layer that is not needed.
    """
    scores = tuple(layers)
    return {
        MEASURED: _places({s.layer: s.kld.value for s in scores}),
        **{name: _places(values) for name, values in indices(scores).items()},
    }


def _places(values: Mapping[int, float]) -> dict[int, int]:
    known = {layer: value for layer, value in values.items() if math.isfinite(value)}
    order = sorted(known, key=lambda layer: (known[layer], layer))
    return {layer: place for place, layer in enumerate(order, start=1)}


def first_choices(layers: Iterable[LayerScore]) -> tuple[FirstChoice, ...]:
    """What each score of the literature would remove first, with its measured place."""
    measured, *others = rankings(layers).items()
    firsts = ((name, min(places, key=lambda layer: places[layer])) for name, places in others if places)
    return tuple(FirstChoice(score=name, layer=layer, place=measured[1][layer]) for name, layer in firsts)
