"""The card's Markdown, and the page made of it."""

from __future__ import annotations

import re
from html import escape

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lwq.record.hub_terms import REPOSITORY
from lwq.record.record import Record
from lwq.report import (
    choices,
    commands,
    detail_tables,
    domain_section,
    intervals,
    markdown,
    metadata,
    numerals,
    prune_section,
    pruned_parts,
    remarks,
    rows,
    running,
    search_section,
    sentences,
    speed_table,
    tables,
    task_section,
    ties,
    values_section,
)  # fmt: skip
from lwq.report.figures import figure_texts
from lwq.report.page import page_body
from lwq.report.searches import allocations
from lwq.report.tables import Column, Table


def card(record: Record, *, figures: bool = True) -> str:
    """README.md: front matter and body."""
    return f"---\n{metadata.front_matter(record).rstrip()}\n---\n\n{card_body(record, figures=figures)}"


def card_body(record: Record, *, figures: bool = True) -> str:
    """The card without its front matter."""
    return _rendered("card.md.j2", record, figures=figures)


def details(record: Record, *, figures: bool = True) -> str:
    """DETAILS.md: commands, distributions, how types and layers were chosen, statistics."""
    return _rendered("details.md.j2", record, figures=figures)


def _rendered(template: str, record: Record, *, figures: bool, before: str | None = None) -> str:
    """A document.

    Args:
        before: what stands before it on the page, whose tables and figures it goes on counting; None beside the page.
    """
    environment = Environment(
        loader=PackageLoader("lwq.report"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "table_rows": table_rows,
        "plain": markdown.plain,
        "plain_html": lambda text: escape(markdown.one_line(text)),
        "code": markdown.code,
        "fence": markdown.fence,
        "paragraphs": markdown.paragraphs,
        "repository": repository,
        "duration": numerals.duration,
        "count": numerals.count,
    }
    n_tables, n_figures = (len(re.findall(rf"^\*\*{kind} \d+\.", before or "", re.M)) for kind in ("Table", "Figure"))
    text = environment.get_template(template).render(
        record=record,
        on_page=before is not None,
        n_tables=n_tables,
        n_figures=n_figures,
        figures={f.name: f for f in figure_texts(record)} if figures else {},
        choices=choices,
        domains=domain_section,
        running=running,
        tables=tables,
        details=detail_tables,
        remarks=remarks,
        sentences=sentences,
        commands=commands,
        search=search_section,
        layers=prune_section,
        parts=pruned_parts,
        speeds=speed_table,
        intervals=intervals,
        tasks=task_section,
        ties=ties,
        values=values_section,
        searched=rows.searched(record),
        allocations={row.name: name for name, row in allocations(record).items()},
        evaluation=rows.text_of(record, "evaluation"),
        n_scored=rows.n_scored,
        count=numerals.count,
    )
    return squeezed(text)


def page(record: Record, *, figures: bool = True) -> str:
    """index.html: card and details as a page of its own, with no request to anywhere."""
    first = _rendered("card.md.j2", record, figures=figures, before="")
    rest = _rendered("details.md.j2", record, figures=figures, before=first)
    return html_page(record.card.title, record.card.description, first + "\n" + rest)


def html_page(title: str, description: str, text: str) -> str:
    """Markdown as a page of its own; title and description are plain text."""
    body, contents = page_body(text)
    environment = Environment(
        loader=PackageLoader("lwq.report"),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html.j2").render(
        title=markdown.one_line(title),
        description=markdown.one_line(description),
        body=Markup(body),
        contents=tuple((anchor, Markup(title)) for anchor, title in contents),
    )


def table_rows(table: Table) -> str:
    """The table in Markdown, without its caption."""
    heads = [markdown.plain(column.title) for column in table.columns]
    rules = ["--:" if column.right else ":--" for column in table.columns]
    lines = [f"| {' | '.join(heads)} |", f"|{'|'.join(rules)}|"]
    for row in table.rows:
        cells = (_cell(cell, column) for cell, column in zip(row, table.columns, strict=True))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(text: str, column: Column) -> str:
    if column.is_file:
        return markdown.file_link(text)
    return markdown.code_cell(text) if column.code and text != "–" else markdown.plain(text)


def repository(name: str) -> str:
    """A link to a model on the Hub, or the name alone where it is no repository."""
    if not REPOSITORY.fullmatch(name):
        return markdown.plain(name)
    return f"[{markdown.plain(name)}](https://huggingface.co/{name})"


def squeezed(text: str) -> str:
    """The text with one empty line where there are several, none at its ends; fenced blocks stay."""
    parts = re.split(r"(^(`{3,}).*?^\2$)", text, flags=re.MULTILINE | re.DOTALL)
    outside = (re.sub(r"\n{3,}", "\n\n", part) for part in parts[0::3])
    blocks = (*parts[1::3], "")
    return "".join(a + b for a, b in zip(outside, blocks, strict=True)).strip() + "\n"
