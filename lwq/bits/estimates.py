"""What tensors that were not probed are likely to cost, from those that were; and which to probe first.

Logarithms of alpha are taken for a Gaussian field over layers: a level of each tensor class, a course that all classes
share, a course of each class, and what is a tensor's own. Shares of the variance are fixed, its size is fitted to the
probes, so few of them are enough. Which tensor is the least sure depends on where probes are, not on what they say:
the order in which tensors are worth probing is known beforehand.

Source: Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), eqs. 2.23 and 2.24.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lwq.gguf.types import TensorInfo
from lwq.metrics.arrays import Doubles

_LEVEL: Final = 100.0
"""Variance of the level of all, and of each class beside it: next to nothing is known of either."""
_CLASS: Final = 4.0
_SHARED: Final = 0.4
_OWN: Final = 0.3
_ALONE: Final = 0.3
_REACH: Final = 6.0
"""Layers over which courses are alike: the correlation falls by e."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """Alpha of a tensor that was not probed."""

    alpha: float
    spread: float
    """Standard error of its natural logarithm."""


def comparable(tensors: Sequence[TensorInfo], n_least: int) -> tuple[TensorInfo, ...]:
    """The tensors of layers whose class more than ``n_least`` layers have: they can be estimated from each other."""
    n_of = Counter(t.tensor_class for t in tensors if t.layer is not None)
    return tuple(t for t in tensors if t.layer is not None and n_of[t.tensor_class] > n_least)


def covariance(tensors: Sequence[TensorInfo]) -> Doubles:
    """Prior covariance of log alpha between tensors of layers, up to a factor: (tensors, tensors)."""
    layers = np.array([t.layer for t in tensors], np.float64)
    classes = np.array([t.tensor_class for t in tensors])
    near = np.exp(-np.abs(layers[:, None] - layers[None, :]) / _REACH)
    same = (classes[:, None] == classes[None, :]).astype(np.float64)
    own = _ALONE * np.eye(len(tensors))
    return np.asarray(_LEVEL + _CLASS * same + _SHARED * near + _OWN * same * near + own)


def worth_probing(tensors: Sequence[TensorInfo], n: int) -> tuple[TensorInfo, ...]:
    """The ``n`` of these tensors (of layers) that leave the others the surest, the most telling first.

    One after another, the tensor whose variance times its size is the largest, given those before it.
    """
    left = covariance(tensors)
    sizes = np.array([t.n_elements for t in tensors], np.float64)
    order: list[int] = []
    for _ in range(min(n, len(tensors))):
        variance = np.diagonal(left).copy()
        variance[order] = 0.0
        at = int(np.argmax(np.round(variance / variance.max(), 9) * sizes))
        order.append(at)
        left = left - np.outer(left[:, at], left[at]) / left[at, at]
    return tuple(tensors[i] for i in order)


def guesses(tensors: Sequence[TensorInfo], alphas: Mapping[str, float], wanted: Collection[str]) -> dict[str, Guess]:
    """Tensor → its likely alpha, for these tensors (of layers); nothing where nothing was measured.

    Args:
        tensors: those that are wanted and those that were probed.
        alphas: measured, > 0.
    """
    known = [i for i, t in enumerate(tensors) if t.name in alphas]
    open_ = [i for i, t in enumerate(tensors) if t.name in wanted]
    if not known:
        return {tensors[i].name: Guess(alpha=0.0, spread=0.0) for i in open_}
    prior = covariance(tensors)
    between = prior[np.ix_(known, open_)]
    logs = np.array([math.log(alphas[tensors[i].name]) for i in known])
    away = logs - logs.mean()
    solved = np.linalg.solve(prior[np.ix_(known, known)], np.column_stack([between, away]))
    weights, balance = solved[:, :-1], solved[:, -1]
    size = float(away @ balance) / len(known)
    variances = size * (np.diagonal(prior)[open_] - (weights * between).sum(axis=0))
    expected = logs.mean() + weights.T @ away
    return {
        tensors[i].name: Guess(alpha=math.exp(mean), spread=math.sqrt(max(0.0, variance)))
        for i, mean, variance in zip(open_, expected, variances, strict=True)
    }
