"""Which numbers a file holds: those of llama-quantize, or compensated ones."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptStock:
    """A tensor that keeps its stock values, and why."""

    tensor: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CompensatedValues:
    """Of one file; a row without them has the values of llama-quantize alone."""

    n_tensors: int
    """With compensated values."""
    kept: tuple[KeptStock, ...]
