"""Any text made safe to stand in a Markdown card: as prose, as code, as a fenced block."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from lwq.record.hub_terms import REPOSITORY

_SPECIAL: Final = re.compile(r"[\\`*\[\]<>|~$&]")
_LOOSE_UNDERSCORE: Final = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
_BLOCK_START: Final = re.compile(r"^(?:#{1,6}(?=\s|$)|[-+](?=\s|$)|-{3,}|--$|_{3,}|=+$)")
_NUMBERED: Final = re.compile(r"^(\d{1,9})([.)])(?=\s|$)")


def one_line(text: str) -> str:
    """The text without line breaks, control characters and double spaces."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def plain(text: str) -> str:
    """Markdown that shows exactly this text, also at the start of a paragraph or in a table cell."""
    return at_line_start(escaped(one_line(text)))


def escaped(text: str) -> str:
    """A part of a line whose characters mean nothing but themselves, unless it begins the line."""
    return _LOOSE_UNDERSCORE.sub(r"\\_", _SPECIAL.sub(lambda m: "\\" + m[0], text))


def at_line_start(text: str) -> str:
    """A line of Markdown that begins no heading, list, rule or underlining."""
    text = _BLOCK_START.sub(lambda m: "\\" + m[0], text) if not text.startswith("\\") else text
    return _NUMBERED.sub(r"\1\\\2", text)


def code(text: str) -> str:
    """A code span that shows exactly this text."""
    text = one_line(text)
    if not text:
        return ""
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    pad = " " if text[0] == "`" or text[-1] == "`" else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"


def code_cell(text: str) -> str:
    """A code span for a table cell; plain text where Markdown readers disagree on the escaping."""
    return plain(text) if "\\|" in text or text.endswith("\\") else code(text).replace("|", "\\|")


def file_link(name: str) -> str:
    """A link to a file beside the document, under its name."""
    return f"[{plain(name)}]({quote(name.lstrip('/'))})"


def picture(name: str, alt: str) -> str:
    """A picture beside the document."""
    return f"![{plain(alt)}]({quote(name.lstrip('/'))})"


def fence(text: str, language: str = "") -> str:
    """A fenced block that shows these lines as they are."""
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{ticks}{language}\n{text.rstrip()}\n{ticks}"


def repository(name: str) -> str:
    """A link to a model on the Hub, or the name alone where it is no repository."""
    if not REPOSITORY.fullmatch(name):
        return plain(name)
    return f"[{plain(name)}](https://huggingface.co/{name})"


def either(items: tuple[str, ...]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
