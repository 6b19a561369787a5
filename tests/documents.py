"""What a record becomes, as tests read it."""

from __future__ import annotations

from lwq.record.record import Record
from lwq.report.card import card_body, details


def whole(record: Record, *, figures: bool = True) -> str:
    """The card without its front matter, and the details."""
    return card_body(record, figures=figures) + details(record, figures=figures)
