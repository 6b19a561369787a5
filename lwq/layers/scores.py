"""What the literature says of layers from activations and weights: shown beside what is measured, never decided by.

X_i is the residual stream that enters layer i, over calibration tokens t.
- Block Influence: BI_i = 1 − E_t cos(X_i, X_{i+1}); low = redundant. Source: ShortGPT, arXiv 2403.03853, eq. 1.
- LIM: −E_t cos(X_i, X_{i+1}); high = important. Source: Layer-Wise Quantization, arXiv 2406.17415, eq. 1.
- ZD: share of a layer's weights with z-score > 1; low = important. Source: the same, eq. 2.
- Angular distance: d(i, i + n) = arccos(cos(X_i, X_{i+n})) / π on the last token of each window; the smallest d names
  the n layers that go together. Source: arXiv 2403.17887, eq. 7.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lwq.metrics.arrays import Floats
from lwq.record.prune import LayerScore

MOST_TOGETHER = 8
"""Largest n of the angular distances."""


class StreamStatistics:
    """Sums over windows from which the scores of all layers come."""

    def __init__(self, n_layer: int) -> None:
        self.n_layer, self.n_tokens, self.n_windows = n_layer, 0, 0
        self.cosines = np.zeros(n_layer)
        self.angles = np.zeros((n_layer, MOST_TOGETHER))

    def add(self, streams: Sequence[Floats]) -> None:
        """One window: the stream that enters each layer and that which leaves the last, each (tokens, n_embd)."""
        units = [_unit(x) for x in streams]
        for i in range(self.n_layer):
            self.cosines[i] += float((units[i] * units[i + 1]).sum())
            for n in range(1, min(MOST_TOGETHER, self.n_layer - i) + 1):
                cosine = float((units[i][-1] * units[i + n][-1]).sum())
                self.angles[i, n - 1] += float(np.arccos(np.clip(cosine, -1, 1)) / np.pi)
        self.n_tokens += len(streams[0])
        self.n_windows += 1

    def block_influence(self, layer: int) -> float:
        return 1.0 - self.lim_cosine(layer)

    def lim_cosine(self, layer: int) -> float:
        """E_t cos(X_i, X_{i+1})."""
        return float(self.cosines[layer] / self.n_tokens)

    def angular(self, layer: int) -> tuple[float, ...]:
        """Distances to the streams n = 1, 2, … layers on."""
        n = min(MOST_TOGETHER, self.n_layer - layer)
        return tuple(float(a) for a in self.angles[layer, :n] / self.n_windows)


def _unit(x: Floats) -> NDArray[np.float64]:
    values = x.astype(np.float64)
    return np.asarray(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-30))


def weights_above(tensors: Iterable[Floats]) -> float:
    """ZD: share of all these weights, taken together, that lie more than a standard deviation above their mean."""
    parts = [np.asarray(t, np.float32).reshape(-1) for t in tensors]
    n = sum(p.size for p in parts)
    if not n:
        return 0.0
    mean = sum(float(p.sum(dtype=np.float64)) for p in parts) / n
    std = (sum(float(((p - mean) ** 2).sum(dtype=np.float64)) for p in parts) / n) ** 0.5
    return sum(int(np.count_nonzero(p > mean + std)) for p in parts) / n if std > 0 else 0.0


def lowest(scores: Mapping[int, float], n: int) -> tuple[int, ...]:
    """The ``n`` layers with the lowest score, by number."""
    return tuple(sorted(sorted(scores, key=lambda layer: (scores[layer], layer))[:n]))


def nearest_run(scores: Iterable[LayerScore], n: int, candidates: Iterable[int]) -> tuple[int, ...]:
    """The run of ``n`` layers with the least angular distance, all of it among the candidates (empty: none)."""
    allowed = set(candidates)
    runs = {
        s.layer: s.angular[n - 1]
        for s in scores
        if len(s.angular) >= n and allowed.issuperset(range(s.layer, s.layer + n))
    }
    first = lowest(runs, 1)
    return tuple(range(first[0], first[0] + n)) if first else ()
