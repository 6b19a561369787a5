"""Plain text of HTML, Mallard and reStructuredText, paragraph by paragraph."""

from __future__ import annotations

import gzip
import re
import textwrap
from html.parser import HTMLParser
from pathlib import Path
from typing import Final, TypeAlias

LONGEST: Final = 1900
"""Characters of a line; a longer paragraph goes on in the next."""
Blocks: TypeAlias = list[tuple[str, str]]
"""(kind, text): an element's name; of reStructuredText ``p``, or the character below a heading."""
_APART: Final = frozenset(
    ("p", "title", "item", "td", "li", "h1", "h2", "h3", "h4", "div", "dt", "dd", "tr", "section", "note", "cite"),
).union(("steps", "list", "page", "blockquote", "pre", "screen", "ol", "ul"))
"""Elements that begin a paragraph."""
_SKIPPED: Final = frozenset(("info", "script", "style", "head", "media", "links", "comment", "nav", "svg", "table"))
_ADDRESS: Final = re.compile(r"[\w.+-]+@(?!example)(?:[\w-]+\.)+[a-z]{2,}")
_ROLE: Final = re.compile(r":[\w:+-]+:`[~!]?([^`<]+?)(?:\s*<[^`]*>)?`")
_LINK: Final = re.compile(r"`([^`<]+?)\s*<([^`>]+)>`__?|`([^`<]+)`__?|\b(\w+)_(?=[\s.,;:)])")
_ITEM: Final = re.compile(r"\s*\n\s*+(?![*+-] |\d+\. )")
_UNDERLINE: Final = re.compile(r"([=~^*#\"'-])\1{2,}\s*")


def plain(path: Path, encoding: str = "utf-8-sig") -> str:
    data = path.read_bytes()
    raw = gzip.decompress(data) if path.suffix in (".gz", ".dz") else data
    return raw.decode(encoding).replace("\r\n", "\n")


def reflowed(text: str) -> str:
    """Each paragraph in one line, or in as few as its length allows."""
    paragraphs = (" ".join(p.split()) for p in re.split(r"\n\s*\n", _ADDRESS.sub("name@example.org", text)))
    return "\n\n".join("\n".join(textwrap.wrap(p, LONGEST)) for p in paragraphs if p)


def markup_blocks(path: Path) -> Blocks:
    """Paragraphs of a page of HTML or Mallard."""
    parser = _Markup()
    parser.feed(plain(path))
    return [(kind, text) for kind, raw in parser.blocks if (text := _tidy(kind, raw))]


class _Markup(HTMLParser):
    """Paragraphs of HTML or Mallard; preformatted text between fences."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks: Blocks = [("", "")]
        self._n_skipped = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._n_skipped += tag in _SKIPPED
        if tag in _APART:
            self.blocks.append((tag, ""))

    def handle_startendtag(self, tag: str, attrs: object) -> None: ...

    def handle_endtag(self, tag: str) -> None:
        self._n_skipped = max(0, self._n_skipped - (tag in _SKIPPED))
        if tag in _APART:
            self.blocks.append(("p", ""))

    def handle_data(self, data: str) -> None:
        if not self._n_skipped:
            self.blocks[-1] = (self.blocks[-1][0], self.blocks[-1][1] + data)


def _tidy(kind: str, raw: str) -> str:
    text = _ADDRESS.sub("name@example.org", raw.replace("¶", "").replace("\u200b", ""))
    if kind in ("pre", "screen"):
        return f"```\n{textwrap.dedent(text).strip()}\n```" if text.strip() else ""
    return "\n".join(textwrap.wrap(" ".join(text.split()), LONGEST))


def rst_blocks(text: str) -> Blocks:
    """Headings, paragraphs and fenced code of reStructuredText; labels and other directives are left out."""
    blocks, code, base = Blocks(), list[str](), -1
    for chunk in re.split(r"\n[ \t]*\n", _ADDRESS.sub("name@example.org", text)):
        lines = chunk.strip("\n").split("\n")
        indent = len(lines[0]) - len(lines[0].lstrip())
        if base >= 0 and indent > base:
            code.append("\n".join(lines))
            continue
        blocks += _fenced(code)
        code, base = [], -1
        if lines and _UNDERLINE.fullmatch(lines[0]):
            lines = lines[1:]
        while len(lines) > 1 and (line := _UNDERLINE.fullmatch(lines[1])):
            blocks.append((line[1], _inline(lines[0].strip())))
            lines = lines[2:]
        told = "\n".join(lines)
        if not told.strip() or _is_hidden(told):
            base = indent if re.match(r"\s*\.\. (code-block|sourcecode|highlight|code)::", told) else -1
            continue
        if told.lstrip().startswith(">>>"):
            blocks += _fenced([told])
            continue
        base = indent if told.rstrip().endswith("::") else -1
        blocks.append(("p", _inline(_ITEM.sub(" ", told.strip()).removesuffix(":" if base >= 0 else ""))))
    return blocks + _fenced(code)


def _is_hidden(told: str) -> bool:
    return told.lstrip().startswith(("..", "__ ")) or (told.strip() == "::")


def _fenced(code: list[str]) -> Blocks:
    inside = textwrap.dedent("\n\n".join(code)).strip("\n")
    return [("pre", f"```\n{inside}\n```")] if inside else []


def _inline(text: str) -> str:
    text = _ROLE.sub(r"`\1`", text).replace("``", "`").removeprefix("**Answer:** ")
    return _LINK.sub(lambda m: f"{m[1]} ({m[2]})" if m[1] else m[3] or m[4], text)
