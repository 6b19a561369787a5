"""KL divergence and likelihood of next tokens, from logits; a token's figures, so that windows can be compared.

KLD(base ‖ Q) = Σ p (log p − log q) for each position, in nats, p and q softmax of the logits.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from lwq.metrics.arrays import Doubles, Floats
from lwq.metrics.values import Estimate

_PARTS = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """Figures of every scored token, float64 of shape (windows, scored tokens of a window)."""

    kld: Doubles
    nll: Doubles

    @property
    def mean_kld(self) -> float:
        return float(self.kld.mean())

    @property
    def ppl(self) -> float:
        return float(np.exp(self.nll.mean()))

    def kld_stderr(self) -> float:
        """Standard error of the mean KLD, as if quarters of windows were independent; neighbours are not quite."""
        return stderr(self.pieces())

    def estimate(self) -> Estimate:
        """Mean KLD (nats; rounding below zero counts as zero) with its standard error."""
        return Estimate(value=max(0.0, self.mean_kld), stderr=self.kld_stderr(), unit="nats")

    def with_more(self, more: Scores) -> Scores:
        """Both sets of windows together."""
        return Scores(kld=np.concatenate([self.kld, more.kld]), nll=np.concatenate([self.nll, more.nll]))

    def quarters(self) -> tuple[list[float], list[float]]:
        """(KLD, likelihood) of the first window, as means over its quarters: their ``pieces`` are the same."""
        kld, nll = (np.array_split(a[0], min(_PARTS, a.shape[1])) for a in (self.kld, self.nll))
        return [float(p.mean()) for p in kld], [float(p.mean()) for p in nll]

    def by_window(self) -> Doubles:
        """Mean KLD of each window."""
        means: Doubles = self.kld.mean(axis=1)
        return means

    def pieces(self) -> Doubles:
        """Mean KLD of each quarter of a window: two windows want an error too, and single tokens are too alike."""
        parts = np.array_split(self.kld, min(_PARTS, self.kld.shape[1]), axis=1)
        return np.stack([part.mean(axis=1) for part in parts], axis=1).reshape(-1)


def stderr(pieces: Doubles) -> float:
    """Standard error of the mean of independent pieces; infinite for one."""
    return float(pieces.std(ddof=1) / np.sqrt(len(pieces))) if len(pieces) > 1 else float("inf")


def token_kld(base: Floats, q: Floats, n_threads: int = 1) -> tuple[Doubles, Doubles]:
    """(KLD in nats, log partition of q) of each row, float64.

    With d = q − base and m = Σ p d: KLD = log Σ p exp(d − m), which keeps its digits where d is small.

    Args:
        base, q: logits, float32 of shape (rows, n_vocab).
    """
    kld, partition = np.empty(len(base)), np.empty(len(base))

    def piece(i: int) -> None:  # a row at a time stays in the cache
        kld[i : i + 1], partition[i : i + 1] = _rows_kld(base[i : i + 1], q[i : i + 1])

    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(piece, range(len(base))))
    return kld, partition


def _rows_kld(base: Floats, q: Floats) -> tuple[Doubles, Doubles]:
    """In float64: the second-order term of a float32 exponential would be rounding below d = 0.01."""
    p = base.astype(np.float64)
    d = q - p
    top = p.max(axis=1, keepdims=True)
    p -= top
    np.exp(p, out=p)
    total = p.sum(axis=1)
    mean = np.einsum("ij,ij->i", p, d) / total
    d -= mean[:, None]
    beyond_linear = np.expm1(d)
    beyond_linear -= d
    growth = np.einsum("ij,ij->i", p, beyond_linear) / total
    kld = np.log1p(growth)  # second order in d, so nothing cancels
    return kld, top[:, 0] + np.log(total) + mean + kld
