"""Markdown that a publisher wrote, reduced to what is harmless: emphasis, links, lists, quotes and code.

All else (HTML, images, headings, tables, links to other than web pages and mail) is shown as it was written.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

from lwq.report.markdown import at_line_start, code, escaped, fence, one_line

_LEFT_AS_TEXT: Final = ("heading", "lheading", "hr", "html_block", "reference", "image", "html_inline")
_LINK: Final = re.compile(r"(?:https?://|mailto:)\S+", re.IGNORECASE)
_CAPTION: Final = re.compile(r"^\*\*((?:Table|Figure) \d+\.)\*\*")
_MARKS: Final = {"em": "*", "strong": "**"}


def authored(text: str) -> str:
    """The same Markdown with nothing in it that a card does not allow."""
    return "\n\n".join(_blocks(_tree(text)))


def words_of(text: str) -> str:
    """What a reader sees of it, in one line."""
    return one_line(" ".join(_words(_tree(text))))


@cache
def _reader() -> MarkdownIt:
    reader = MarkdownIt("commonmark", {"html": False}).disable(_LEFT_AS_TEXT)
    reader.validateLink = lambda url: _LINK.fullmatch(url.strip()) is not None  # type: ignore[method-assign]
    return reader


def _tree(text: str) -> SyntaxTreeNode:
    return SyntaxTreeNode(_reader().parse(text))


def _blocks(parent: SyntaxTreeNode) -> list[str]:
    return [_block(node) for node in parent.children]


def _block(node: SyntaxTreeNode) -> str:
    if node.type in ("fence", "code_block"):
        language = re.match(r"[\w+-]*", node.info)
        return fence(_printable(node.content), language[0] if language else "")
    if node.type in ("bullet_list", "ordered_list"):
        return _list(node)
    inside = "\n\n".join(_blocks(node))
    if node.type == "blockquote":
        return "\n".join(f"> {line}".rstrip() for line in inside.splitlines())
    return _CAPTION.sub(r"\1", _inline(node)) if node.type in ("inline", "paragraph") else inside


def _list(node: SyntaxTreeNode) -> str:
    """Its items, set close where they were."""
    is_close = all(p.hidden for item in node.children for p in item.children if p.type == "paragraph")
    apart = "\n" if is_close else "\n\n"
    first = int(node.attrs.get("start", 1)) if node.type == "ordered_list" else None
    items = []
    for i, item in enumerate(node.children):
        mark = "- " if first is None else f"{first + i}. "
        lines = apart.join(_blocks(item)).splitlines() or [""]
        items.append("\n".join([mark + lines[0], *((" " * len(mark) + line).rstrip() for line in lines[1:])]))
    return apart.join(items)


def _inline(node: SyntaxTreeNode) -> str:
    """A paragraph in one line, but for the breaks that were asked for."""
    return re.sub(r"^[^\n]*", lambda m: at_line_start(m[0].strip()), _spans(node), flags=re.M)


def _spans(node: SyntaxTreeNode) -> str:
    parts = []
    for child in node.children:
        if child.type in _MARKS:
            parts.append(f"{_MARKS[child.type]}{_spans(child)}{_MARKS[child.type]}")
        elif child.type == "link":
            parts.append(f"[{_spans(child)}]({_target(child.attrs['href'])})")
        elif child.type == "code_inline":
            parts.append(code(child.content))
        elif child.type in ("softbreak", "hardbreak"):
            parts.append(" " if child.type == "softbreak" else "\\\n")
        else:
            parts.append(_spans(child) if child.children else _text(child.content))
    return "".join(parts)


def _text(content: str) -> str:
    """Text whose last ``!`` makes no picture of a link behind it."""
    return re.sub(r"!$", r"\\!", escaped(_printable(content).replace("\n", " ")))


def _target(href: Any) -> str:
    """An address that ends where it should."""
    return re.sub(r"[()<>\[\]`\\]", lambda m: f"%{ord(m[0]):02X}", str(href)).replace("&", "&amp;")


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)


def _words(node: SyntaxTreeNode) -> list[str]:
    own = [node.content] if node.type in ("text", "code_inline", "fence", "code_block") else []
    own += [" "] if node.type in ("softbreak", "hardbreak") else []
    inside = [word for child in node.children for word in _words(child)]
    return ["".join(inside)] if node.type == "inline" else own + inside
