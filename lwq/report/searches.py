"""What the figures of sensitivity and allocation show: which tensors, rows and candidates, in which range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lwq.gguf.types import known_type, split_name
from lwq.record.record import Record, Row
from lwq.record.search import Search, SearchCandidate, TensorSensitivity
from lwq.report.rows import searched

N_DRAWN: Final = 4
"""Rows at most whose allocation is drawn."""
_DECADES: Final = 1e4


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedCandidate:
    """A candidate in the plot of predicted against measured damage; nats."""

    predicted: float
    measured: float
    low: float
    high: float
    is_stock: bool
    is_chosen: bool
    was_fitted: bool
    """Whether the prediction was fitted to its measurement too, as to that of every mix with all layers."""


def allocations(record: Record) -> dict[str, Row]:
    """Stem of the figure → the row whose allocation it draws; none whose layers are all of one type."""
    rows = [row for row, _ in searched(record) if _differs(row)] if record.sensitivity else []
    return {f"allocation_{i}": row for i, row in enumerate(rows[:N_DRAWN], start=1)}


def _differs(row: Row) -> bool:
    return len({known_type(q) for name, q in row.tensor_types if split_name(name)[0] is not None}) > 1


def alpha_range(tensors: tuple[TensorSensitivity, ...]) -> tuple[float, float]:
    """Lower and upper end of the colours: what is above zero, four decades at most."""
    positive = [t.alpha for t in tensors if t.alpha > 0]
    if not positive:
        return 0.1, 1.0
    high = max(positive)
    low = max(min(positive), high / _DECADES)
    return (low, high) if low < high else (low / 2, high * 2)


def compared_candidates(record: Record) -> tuple[ComparedCandidate, ...]:
    """The measured candidates of all searches that a logarithm has a place for."""
    points = (_compared(c, search) for _, search in searched(record) for c in search.candidates)
    return tuple(point for point in points if point) if record.sensitivity else ()


def _compared(candidate: SearchCandidate, search: Search) -> ComparedCandidate | None:
    kld = candidate.kld
    if kld is None or kld.value <= 0 or candidate.predicted_kld <= 0:
        return None
    stderr = kld.stderr or 0.0
    return ComparedCandidate(
        predicted=candidate.predicted_kld,
        measured=kld.value,
        low=max(kld.value - stderr, kld.value / 2),
        high=kld.value + stderr,
        is_stock=candidate.kind == "stock",
        is_chosen=candidate.name == search.chosen,
        was_fitted=candidate.kind != "pruned",
    )


def has_gaps(places: list[tuple[str, int | None]]) -> bool:
    """Whether some layer lacks a tensor class that another has; (class, layer) of each tensor."""
    in_layers = {(c, layer) for c, layer in places if layer is not None}
    n_layer = 1 + max((layer for _, layer in in_layers), default=0)
    return len(in_layers) < n_layer * len({c for c, _ in in_layers})


def most_sensitive(tensors: tuple[TensorSensitivity, ...], n: int) -> tuple[TensorSensitivity, ...]:
    """The ``n`` tensors with the largest alpha."""
    return tuple(sorted(tensors, key=lambda t: (-t.alpha, t.tensor))[:n])
