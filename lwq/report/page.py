"""Markdown as an HTML page: captions, headed rows, drawings, anchors; nothing in it asks anybody for anything.

Of raw HTML in the Markdown only ``<details>`` and ``<summary>`` pass; all else is shown as text. Of pictures only
those pass that are in the text themselves (``data:``) or handed over; of others their words are shown.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from html import escape
from itertools import count
from pathlib import Path
from typing import Any, Final, cast

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

from lwq.report.markdown import one_line
from lwq.report.sandbox import rendered, safe

_ALLOWED_BLOCK: Final = re.compile(r"\s*(?:<details>\s*(?:<summary>[^<>\n]*</summary>)?|</details>)\s*")
_CAPTION: Final = re.compile(r"\*\*(Table|Figure) \d+\.\*\*")


_DRAWN: Final = re.compile(r"figures/(\w+)\.png")
_BLOCKS: Final = {"sh": "Commands", "toml": "Recipe"}


@dataclass(frozen=True, slots=True)
class Pictures:
    """What a page shows of the pictures that its text names."""

    drawings: Mapping[str, str] = field(default_factory=dict)
    """Name of a figure → its HTML."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Name of a file beside the text → its content as a ``data:`` address."""


_NONE: Final = Pictures()


def html_page(
    title: str,
    description: str,
    text: str,
    pictures: Pictures = _NONE,
    *,
    templates: Path | None = None,
) -> str:
    """Markdown as a page of its own.

    Args:
        title, description: plain text.
        templates: a folder whose ``page.html.j2`` takes the place of lwq's own.
    """
    body, contents = page_body(text, pictures)
    style, script = (rendered(name, {}) for name in ("page.css", "page.js"))
    values = {
        "title": one_line(title),
        "description": one_line(description),
        "body": safe(body),
        "contents": tuple((anchor, safe(name)) for anchor, name in contents),
        "style": safe(style),
        "script": safe(script),
        "policy": f"default-src 'none'; style-src {_allowed(style)}; script-src {_allowed(script)}; img-src data:;"
        " base-uri 'none'; form-action 'none'",
    }
    return rendered("page.html.j2", values, templates)


def _allowed(content: str) -> str:
    """What a content security policy names an inline style or script by; nothing in it looks like a path."""
    return f"'sha256-{urlsafe_b64encode(sha256(content.encode()).digest()).decode()}'"


def page_body(markdown: str, pictures: Pictures = _NONE) -> tuple[str, tuple[tuple[str, str], ...]]:
    """(HTML, contents): the contents are (anchor, title as HTML) of each section."""
    reader = MarkdownIt("commonmark", {"html": True, "xhtmlOut": False}).enable("table")
    reader.add_render_rule("html_block", _html_block)
    reader.add_render_rule("html_inline", _html_inline)
    reader.add_render_rule("image", _image)
    reader.add_render_rule("fence", _fence)
    reader.add_render_rule("drawing", lambda _, tokens, index, *__: tokens[index].content)
    writer = cast(RendererHTML, reader.renderer)
    tokens = _figures(_tables(reader.parse(markdown)), pictures.drawings)
    contents = tuple(
        (anchor, writer.renderInline(title.children or [], reader.options, {"files": {}}))
        for anchor, title in _anchors(tokens).items()
    )
    return writer.render(tokens, reader.options, {"numbers": count(1), "files": pictures.files}), contents


def _image(_: Any, tokens: Sequence[Token], index: int, __: Any, env: Mapping[str, Any]) -> str:
    """A picture that is at hand; of any other its words, since to show it the page would have to ask."""
    source, words = str(tokens[index].attrs["src"]), escape(tokens[index].content)
    source = env["files"].get(source, source)
    return f'<img src="{escape(source)}" alt="{words}">' if source.startswith("data:") else words


def _fence(_: Any, tokens: Sequence[Token], index: int, __: Any, env: Mapping[str, Any]) -> str:
    """A block that is reached with the keyboard, since it may scroll, with a name for those who hear it."""
    label = f"{_BLOCKS.get(tokens[index].info, 'Text')} {next(env['numbers'])}"
    attributes = f'tabindex="0" role="group" aria-label="{label}"'
    return f'<div class="code"><pre {attributes}><code>{escape(tokens[index].content)}</code></pre></div>\n'


def _html_block(_: Any, tokens: Sequence[Token], index: int, *__: Any) -> str:
    content = tokens[index].content
    return content if _ALLOWED_BLOCK.fullmatch(content) else f"<p>{escape(content)}</p>\n"


def _html_inline(_: Any, tokens: Sequence[Token], index: int, *__: Any) -> str:
    return escape(tokens[index].content)


def _is_caption(tokens: Sequence[Token], at: int, kind: str) -> bool:
    """Whether the paragraph that opens at ``at`` is the caption of a table or figure."""
    if at + 3 >= len(tokens) or tokens[at].type != "paragraph_open":
        return False
    match = _CAPTION.match(tokens[at + 1].content)
    return match is not None and match[1] == kind


def _tables(tokens: Sequence[Token]) -> list[Token]:
    """Tables in boxes that scroll, with the caption before each moved in and first cells as row heads."""
    with_boxes: list[Token] = []
    at = n_tables = 0
    while at < len(tokens):
        token = tokens[at]
        if _is_caption(tokens, at, "Table") and tokens[at + 3].type == "table_open":
            n_tables += 1
            label = f"table-{n_tables}"
            box = Token("box_open", "div", 1, attrs={"class": "wide"}, block=True)
            with_boxes += [box, tokens[at + 3], *_caption(tokens[at + 1], label)]
            at += 4
            continue
        if token.type == "table_close":
            with_boxes += [token, Token("box_close", "div", -1, block=True)]
        else:
            with_boxes.append(_headed(token, with_boxes))
        at += 1
    return with_boxes


def _caption(inline: Token, label: str) -> tuple[Token, ...]:
    """The caption; its text stays in view when a wide table is scrolled."""
    return (
        Token("caption_open", "caption", 1, attrs={"id": label}, block=True),
        Token("span_open", "span", 1),
        inline,
        Token("span_close", "span", -1),
        Token("caption_close", "caption", -1, block=True),
    )


def _headed(token: Token, before: list[Token]) -> Token:
    """The token with its scope: column heads, and the first cell of a row as the row's head; figures have a class."""
    if token.type in ("th_open", "td_open") and token.attrs.pop("style", "") == "text-align:right":
        token.attrSet("class", "n")
    if token.type == "th_open":
        token.attrSet("scope", "col")
    elif token.type == "td_open" and before[-1].type == "tr_open":
        token.tag = "th"
        token.attrSet("scope", "row")
    elif token.type == "td_close" and before[-2].tag == "th":
        token.tag = "th"
    return token


def _figures(tokens: Sequence[Token], drawings: Mapping[str, str]) -> list[Token]:
    """Pictures that were drawn for the page, with the caption after each, as ``<figure>``."""
    with_figures: list[Token] = []
    at = 0
    while at < len(tokens):
        picture = _DRAWN.search(tokens[at + 1].content) if _is_caption(tokens, at + 3, "Figure") else None
        if picture and picture[1] in drawings:
            with_figures += [
                Token("figure_open", "figure", 1, block=True),
                Token("drawing", "", 0, content=drawings[picture[1]]),
                Token("figcaption_open", "figcaption", 1, block=True),
                tokens[at + 4],
                Token("figcaption_close", "figcaption", -1, block=True),
                Token("figure_close", "figure", -1, block=True),
            ]
            at += 6
        else:
            with_figures.append(tokens[at])
            at += 1
    return with_figures


def _anchors(tokens: Sequence[Token]) -> dict[str, Token]:
    """Gives each section's heading an id; the titles by id."""
    titles: dict[str, Token] = {}
    for at, token in enumerate(tokens):
        if token.type == "heading_open" and token.tag == "h2":
            title = tokens[at + 1]
            slug = re.sub(r"[^a-z0-9]+", "-", title.content.lower()).strip("-") or "section"
            anchor = slug if slug not in titles else f"{slug}-{at}"
            token.attrSet("id", anchor)
            titles[anchor] = title
    return titles
