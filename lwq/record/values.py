"""Which numbers a file holds: those of llama-quantize, or compensated ones."""

from __future__ import annotations

from dataclasses import dataclass

from lwq.metrics.values import Damage
from lwq.record.command import Command


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptStock:
    """A tensor that keeps its stock values, and why."""

    tensor: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BareExperts:
    """Experts of a tensor that no token of the calibration text reached: they keep their stock values."""

    tensor: str
    experts: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompensatedValues:
    """Of one file; a row without them has the values of llama-quantize alone."""

    n_tensors: int
    """With compensated values."""
    kept: tuple[KeptStock, ...]
    without_tokens: tuple[BareExperts, ...] = ()
    """Of tensors that have compensated values otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StockTwin:
    """A file of the same types with llama-quantize's own values, measured beside a compensated one; it is not kept."""

    file: str
    sha256: str
    evaluation: Damage
    commands: tuple[Command, ...]
    """What wrote and measured it."""
