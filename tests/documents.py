"""What a record becomes, as tests read it."""

from __future__ import annotations

from html import escape

from lwq.record.record import Record
from lwq.report.card import card_body, details, page
from lwq.report.figures import figure_texts


def whole(record: Record, *, figures: bool = True) -> str:
    """The card without its front matter, and the details."""
    return card_body(record, figures=figures) + details(record, figures=figures)


def whole_page(record: Record) -> str:
    """The page, with an empty drawing for each figure."""
    drawings = {text.name: f'<svg role="img" aria-label="{escape(text.alt)}"></svg>\n' for text in figure_texts(record)}
    return page(record, drawings)
