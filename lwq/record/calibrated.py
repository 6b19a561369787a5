"""What calibration reached, as values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertCoverage:
    """How many tokens the experts of all layers saw while the importance matrix was collected."""

    n_experts: int
    """In all layers together."""
    least_tokens: int
    """That any of them saw."""
    n_unreached: int
    wanted_tokens: int
    """That each was to see; 0 where nothing was asked."""
    n_below: int
    """Experts that saw fewer, since the text was used up."""
    n_first_chunks: int
    """Windows of the first run."""
    n_chunks: int
    """Windows of all runs."""
