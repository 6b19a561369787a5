"""Predicted damage: what each type would cost each tensor, from few measured probes and a curve of local errors.

A probe is the measured KLD of the model with one tensor in one type. Its ratio to the local error e(q) is the tensor's
alpha (HIGGS, arXiv 2411.17525, eq. 3: damage of small errors is Σ alpha · e). Between two probes alpha is
interpolated in log e, beyond them it stays, so a second probe at a lower type catches curvature. The damage of a
whole mix is scale · (Σ damage of its tensors) ^ exponent, fitted on the mixes that were really measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from lwq.gguf.types import type_bpw
from lwq.record.search import TensorSensitivity

NEGLIGIBLE = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorDamage:
    """One tensor: local errors by type, and probes (KLD in nats) by type."""

    name: str
    errors: Mapping[str, float]
    probes: Mapping[str, float]
    doubt: float = 0.0
    """Relative standard error of a probe that was estimated, never made; 0 where probes were made."""

    def alpha(self, ggml_type: str) -> float:
        """KLD per unit of local error near that type; of the nearest probes."""
        known = sorted((self.errors[q], k) for q, k in self.probes.items() if self.errors.get(q, 0) > NEGLIGIBLE)
        if not known:
            return 0.0
        points = [(math.log(e), math.log(max(k, NEGLIGIBLE) / e)) for e, k in known]
        return math.exp(_interpolated(points, math.log(max(self.errors[ggml_type], NEGLIGIBLE))))

    def predicted(self, ggml_type: str) -> float:
        """KLD in nats with this tensor alone in that type: measured where it was probed."""
        if ggml_type in self.probes:
            return max(0.0, self.probes[ggml_type])
        error = self.errors[ggml_type]
        return self.alpha(ggml_type) * error if error > NEGLIGIBLE else 0.0

    def predicted_or_near(self, ggml_type: str) -> float:
        """The same for any type: one without a curve counts as the known one of nearest size (F16 as nothing)."""
        if ggml_type in self.errors or ggml_type in self.probes:
            return self.predicted(ggml_type)
        bpw = type_bpw(ggml_type)
        if bpw >= 16 or not self.errors:
            return 0.0
        return self.predicted(min(self.errors, key=lambda q: (abs(type_bpw(q) - bpw), q)))


def _interpolated(points: Sequence[tuple[float, float]], x: float) -> float:
    if x <= points[0][0]:
        return points[0][1]
    for (x0, y0), (x1, y1) in pairwise(points):
        if x <= x1:
            return y0 if x1 == x0 else y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    return points[-1][1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interaction:
    """How sums of single damages become the damage of a mix: scale · sum ^ exponent."""

    scale: float = 1.0
    exponent: float = 1.0

    def damage_of_mix(self, total: float) -> float:
        """Damage, nats, of a mix whose single damages have this sum."""
        return float(self.scale * total**self.exponent) if total > 0 else 0.0


def fit_interaction(sums: Sequence[float], measured: Sequence[float]) -> Interaction:
    """Least squares in logarithms; one mix fixes the scale alone, none gives the plain sum."""
    points = [(math.log(s), math.log(m)) for s, m in zip(sums, measured, strict=True) if s > 0 and m > 0]
    if not points:
        return Interaction()
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread > 1e-4 else 1.0
    return Interaction(scale=math.exp(mean_y - slope * mean_x), exponent=slope)


def damages(tensors: Iterable[TensorSensitivity], more: Mapping[tuple[str, str], float]) -> dict[str, TensorDamage]:
    """The damage model of each tensor, with further probes: (tensor, type) → KLD in nats.

    A probe that was made takes the place of one that was only estimated.
    """
    probes: dict[str, dict[str, float]] = {}
    for (name, ggml_type), kld in more.items():
        probes.setdefault(name, {})[ggml_type] = kld
    return {t.tensor: _damage(t, probes.get(t.tensor, {})) for t in tensors}


def with_gains(
    tensors: Iterable[TensorSensitivity], gains: Mapping[str, Mapping[str, float]]
) -> tuple[TensorSensitivity, ...]:
    """Sensitivities with the errors, and the probe, that compensated values have.

    Args:
        gains: tensor → type → error with compensated values ÷ error with stock values; what is not there stays.
    """
    return tuple(_gained(t, gains.get(t.tensor, {})) for t in tensors)


def _gained(tensor: TensorSensitivity, ratios: Mapping[str, float]) -> TensorSensitivity:
    share, kld = ratios.get(tensor.probe_type, 1.0), tensor.kld
    stderr = None if kld.stderr is None else kld.stderr * share
    return replace(
        tensor,
        kld=replace(kld, value=kld.value * share, stderr=stderr),
        errors=tuple((q, e * ratios.get(q, 1.0)) for q, e in tensor.errors),
    )


def _damage(tensor: TensorSensitivity, more: Mapping[str, float]) -> TensorDamage:
    name, errors = tensor.tensor, dict(tensor.errors)
    if more and not tensor.is_probed:
        return TensorDamage(name=name, errors=errors, probes=more)
    kld, probes = tensor.kld, {tensor.probe_type: tensor.kld.value, **more}
    doubt = 0.0 if tensor.is_probed or not kld.value else (kld.stderr or 0.0) / kld.value
    return TensorDamage(name=name, errors=errors, probes=probes, doubt=doubt)


def sum_of(types: Mapping[str, str], known: Mapping[str, TensorDamage]) -> float:
    """Sum of the single predicted damages of a mix, nats."""
    return sum(known[name].predicted_or_near(q) for name, q in types.items() if name in known)


def most_extrapolated(types: Mapping[str, str], known: Mapping[str, TensorDamage], n: int) -> list[tuple[str, str]]:
    """The ``n`` pairs (tensor, type) of a mix whose damage rests most on a probe at another size or on none."""

    def weight(name: str, q: str) -> float:
        damage = known[name]
        error = max(damage.errors.get(q, 0.0), NEGLIGIBLE)
        gap = min((abs(math.log(error / max(damage.errors[p], NEGLIGIBLE))) for p in damage.probes), default=1.0)
        return damage.predicted(q) * (gap + damage.doubt)

    def is_open(damage: TensorDamage, q: str) -> bool:
        return q in damage.errors and (q not in damage.probes or damage.doubt > 0)

    open_pairs = [(t, q) for t, q in types.items() if t in known and is_open(known[t], q)]
    return sorted(open_pairs, key=lambda pair: (-weight(*pair), pair))[:n]
