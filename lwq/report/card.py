"""The card's Markdown, and the page made of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from lwq.record.record import Record
from lwq.report import metadata, rows
from lwq.report.authored import words_of
from lwq.report.figures import figure_texts
from lwq.report.page import Pictures, html_page
from lwq.report.sandbox import rendered
from lwq.report.searches import allocations


def card(record: Record, *, figures: bool = True, templates: Path | None = None) -> str:
    """README.md: front matter and body.

    Args:
        templates: a folder whose templates take the place of lwq's own, as in ``details`` and ``page``.
    """
    body = card_body(record, figures=figures, templates=templates)
    return f"---\n{metadata.front_matter(record).rstrip()}\n---\n\n{body}"


def card_body(record: Record, *, figures: bool = True, templates: Path | None = None) -> str:
    """The card without its front matter."""
    return _document("card.md.j2", record, templates, figures=figures)


def details(record: Record, *, figures: bool = True, templates: Path | None = None) -> str:
    """DETAILS.md: commands, distributions, how types and layers were chosen, statistics."""
    return _document("details.md.j2", record, templates, figures=figures)


def _document(name: str, record: Record, templates: Path | None, *, figures: bool, before: str | None = None) -> str:
    """A document.

    Args:
        before: what stands before it on the page, whose tables and figures it goes on counting; None beside the page.
    """
    n_tables, n_figures = (len(re.findall(rf"^\*\*{kind} \d+\.", before or "", re.M)) for kind in ("Table", "Figure"))
    values = {
        "record": record,
        "on_page": before is not None,
        "n_tables": n_tables,
        "n_figures": n_figures,
        "figures": {f.name: f for f in figure_texts(record)} if figures else {},
        "searched": rows.searched(record),
        "allocations": {row.name: name for name, row in allocations(record).items()},
        "evaluation": rows.text_of(record, "evaluation"),
    }
    return squeezed(rendered(name, values, templates))


def page(
    record: Record,
    drawings: Mapping[str, str] | None = None,
    *,
    logo: str = "",
    templates: Path | None = None,
) -> str:
    """index.html: card and details as a page of its own; without drawings it names no figure.

    Args:
        logo: the publisher's picture as a ``data:`` address; without it its words stand there.
    """
    figures = drawings is not None
    first = _document("card.md.j2", record, templates, figures=figures, before="")
    rest = _document("details.md.j2", record, templates, figures=figures, before=first)
    title, description = record.card.title, words_of(record.card.description)
    pictures = {record.card.logo: logo} if logo else {}
    return html_page(title, description, f"{first}\n{rest}", Pictures(drawings or {}, pictures), templates=templates)


def squeezed(text: str) -> str:
    """The text with one empty line where there are several, none at its ends; fenced blocks stay."""
    parts = re.split(r"(^(`{3,}).*?^\2$)", text, flags=re.MULTILINE | re.DOTALL)
    outside = (re.sub(r"\n{3,}", "\n\n", part) for part in parts[0::3])
    blocks = (*parts[1::3], "")
    return "".join(a + b for a, b in zip(outside, blocks, strict=True)).strip() + "\n"
