"""Healing without training: closed forms by which a layer before or behind a cut makes up for what was removed.

A kept layer writes ``h W`` to the residual stream (h enters its ``ffn_down``, W is that tensor transposed). Δ is what
the stream lacks behind it: the stream of the whole model at the end of the cut, less the stream as it is. All fits are
ridge regressions over calibration tokens, each token weighted by 1 ÷ |stream|², so that the few tokens with huge
activations count no more than others (what follows normalizes them away).

- ``refit``: W ← W + argmin Σ w |h D − Δ|² + λ |D|², over all of h.
- ``transform``: W ← W T, T = I + argmin Σ w |(h W) D − Δ|² + λ |D|²; a d × d problem, for wide feed-forwards.
  Source: ReplaceMe, arXiv 2505.02819, eq. 6, there with λ on T itself and without weights.

Both read only the sums Σ w x xᵀ and Σ w x Δᵀ, so tokens stream through; x is h, or h W for ``transform``, whose sums
then are d × d however wide the feed-forward is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from lwq.metrics.arrays import Doubles, Floats

Method = Literal["refit", "transform"]
WIDEST: Final = 12288
"""Channels of h up to which ``refit`` is tried: its matrices have that many rows and columns."""


def method_of(n_channels: int) -> Method:
    """What repairs an ``ffn_down`` that so many channels enter."""
    return "transform" if n_channels > WIDEST else "refit"


@dataclass(slots=True)
class Sums:
    """Σ w x xᵀ and Σ w x Δᵀ of the tokens seen."""

    xx: Doubles
    xd: Doubles

    @classmethod
    def empty(cls, weight: Floats, method: Method) -> Sums:
        """Before the first token.

        Args:
            weight: of shape (n_embd, channels).
        """
        n_embd, n_channels = weight.shape
        width = n_embd if method == "transform" else n_channels
        return cls(np.zeros((width, width)), np.zeros((width, n_embd)))

    def add(self, x: Floats, lacking: Floats, weights: Floats) -> None:
        """Tokens: x (tokens, channels or n_embd), Δ (tokens, n_embd), w (tokens,)."""
        weighted = np.ascontiguousarray((x * weights[:, None]).T)
        self.xx += weighted @ x
        self.xd += weighted @ lacking


def entering(h: Floats, weight: Floats, method: Method) -> Floats:
    """x of the tokens whose h that is."""
    return np.asarray(h @ weight.T, np.float32) if method == "transform" else h


def token_weights(stream: Floats) -> Floats:
    """1 ÷ |stream|² of each token."""
    return np.asarray(1.0 / np.maximum((stream.astype(np.float64) ** 2).sum(axis=1), 1e-30), np.float32)


def repaired(weight: Floats, sums: Sums, method: Method, ridge: float) -> Floats:
    """The tensor after repair, float32 of its shape (n_embd, channels).

    Args:
        ridge: λ as a share of the mean diagonal of the matrix that is inverted.
    """
    change = _ridge(sums.xx, sums.xd, ridge).T
    if method == "refit":
        return np.asarray(weight + change, np.float32)
    return np.asarray(weight + change.astype(np.float32) @ weight, np.float32)


def _ridge(a: Doubles, b: Doubles, ridge: float) -> Doubles:
    """argmin |A^(1/2) D − …|² + λ|D|²: (A + λ I)⁻¹ B."""
    shift = ridge * float(np.trace(a)) / len(a) or 1.0
    return np.asarray(np.linalg.solve(a + shift * np.eye(len(a)), b))
