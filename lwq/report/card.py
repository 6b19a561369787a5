"""The card's Markdown, and the page made of it."""

from __future__ import annotations

from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt

from lwq.record import Record
from lwq.report import commands, detail_tables, markdown, metadata, numerals, remarks, rows, tables
from lwq.report.tables import Table

LINKS: Final = {
    "llama.cpp": "https://github.com/ggml-org/llama.cpp",
}


def card_body(record: Record) -> str:
    """The card without its front matter."""
    environment = Environment(
        loader=PackageLoader("lwq.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters |= {
        "table": markdown_table,
        "plain": markdown.plain,
        "code": markdown.code,
        "fence": markdown.fence,
        "paragraphs": markdown.paragraphs,
        "duration": numerals.duration,
        "count": numerals.count,
    }
    return environment.get_template("card.md.j2").render(
        record=record,
        tables=tables,
        details=detail_tables,
        remarks=remarks,
        commands=commands,
        base=rows.base_row(record),
        text_of=rows.text_of,
        n_scored=rows.n_scored,
    )


def card(record: Record) -> str:
    """README.md: front matter and body."""
    return f"---\n{metadata.front_matter(record).rstrip()}\n---\n{card_body(record)}"


def page(record: Record) -> str:
    """index.html: the same body as a page of its own, with no request to anywhere."""
    renderer = MarkdownIt("commonmark", {"html": True}).enable("table")
    html = renderer.render(card_body(record))
    html = html.replace("<table>", '<div class="scroll" tabindex="0"><table>').replace("</table>", "</table></div>")
    html = html.replace("<th>", '<th scope="col">').replace("<th style", '<th scope="col" style')
    environment = Environment(loader=PackageLoader("lwq.report"), undefined=StrictUndefined, autoescape=True)
    title = markdown.one_line(record.card.title)
    return environment.get_template("page.html.j2").render(title=title, language="en", body=html)


def markdown_table(table: Table) -> str:
    """A caption and a table in Markdown."""
    heads = [markdown.plain(column.title) for column in table.columns]
    rules = ["--:" if column.right else ":--" for column in table.columns]
    lines = [f"| {' | '.join(heads)} |", f"|{'|'.join(rules)}|"]
    for row in table.rows:
        cells = (
            markdown.code_cell(cell) if column.code else markdown.plain(cell)
            for cell, column in zip(row, table.columns, strict=True)
        )
        lines.append(f"| {' | '.join(cells)} |")
    return f"{table.caption}\n\n" + "\n".join(lines)
