"""The card's Markdown as the body of an HTML page: captions, headed rows, figures, anchors.

Of raw HTML in the Markdown only ``<details>`` and ``<summary>`` pass; all else is shown as text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import Any, Final, cast

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

_ALLOWED_BLOCK: Final = re.compile(r"\s*(?:<details>\s*(?:<summary>[^<>\n]*</summary>)?|</details>)\s*")
_CAPTION: Final = re.compile(r"\*\*(Table|Figure) \d+\.\*\*")


def page_body(markdown: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """(HTML, contents): the contents are (anchor, title as HTML) of each section."""
    reader = MarkdownIt("commonmark", {"html": True, "xhtmlOut": False}).enable("table")
    reader.add_render_rule("html_block", _html_block)
    reader.add_render_rule("html_inline", _html_inline)
    writer = cast(RendererHTML, reader.renderer)
    tokens = _figures(_tables(reader.parse(markdown)))
    contents = tuple(
        (anchor, writer.renderInline(title.children or [], reader.options, {}))
        for anchor, title in _anchors(tokens).items()
    )
    return writer.render(tokens, reader.options, {}), contents


def _html_block(_: Any, tokens: Sequence[Token], index: int, *__: Any) -> str:
    content = tokens[index].content
    return content if _ALLOWED_BLOCK.fullmatch(content) else f"<p>{escape(content)}</p>\n"


def _html_inline(_: Any, tokens: Sequence[Token], index: int, *__: Any) -> str:
    return escape(tokens[index].content)


def _is_caption(tokens: Sequence[Token], at: int, kind: str) -> bool:
    """Whether the paragraph that opens at ``at`` is the caption of a table or figure."""
    if at + 2 >= len(tokens) or tokens[at].type != "paragraph_open":
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
            with_boxes += [_box(label), tokens[at + 3], *_caption(tokens[at + 1], label)]
            at += 4
            continue
        if token.type == "table_close":
            with_boxes += [token, Token("box_close", "div", -1, block=True)]
        else:
            with_boxes.append(_headed(token, with_boxes))
        at += 1
    return with_boxes


def _box(label: str) -> Token:
    attrs: dict[str, str | int | float] = {
        "class": "wide", "role": "region", "aria-labelledby": label, "tabindex": 0
    }  # fmt: skip
    return Token("box_open", "div", 1, attrs=attrs, block=True)


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
    """The token with its scope: column heads, and the first cell of a row as the row's head."""
    if token.type == "th_open":
        token.attrSet("scope", "col")
    elif token.type == "td_open" and before[-1].type == "tr_open":
        token.tag = "th"
        token.attrSet("scope", "row")
    elif token.type == "td_close" and before[-2].tag == "th":
        token.tag = "th"
    return token


def _figures(tokens: Sequence[Token]) -> list[Token]:
    """Pictures with the caption after each as ``<figure>``, drawn from the SVG."""
    with_figures: list[Token] = []
    at = 0
    while at < len(tokens):
        if _is_caption(tokens, at + 3, "Figure"):
            for child in tokens[at + 1].children or []:
                if child.type == "image":
                    child.attrSet("src", re.sub(r"\.png$", ".svg", str(child.attrs["src"])))
            with_figures += [
                Token("figure_open", "figure", 1, block=True),
                tokens[at + 1],
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
