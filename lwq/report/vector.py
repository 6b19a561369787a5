"""A figure as inline SVG: text as text, colours that follow the page's, ids of its own, no style of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from typing import Final
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import matplotlib as mpl
from matplotlib.figure import Figure

from lwq.report.figures import FigureText
from lwq.report.markdown import one_line
from lwq.report.style import saved

_THEME: Final = {
    "#222222": "ink", "#000000": "ink", "#444444": "quiet", "#555555": "quiet", "#666666": "quiet", "#9a9a9a": "faint",
    "#e6e6e6": "line", "#e4e4e4": "gap", "#ffffff": "paper",
}  # fmt: skip
"""Colours that are others in the dark; all else means the same in both."""
_LEFT_OUT: Final = frozenset(("metadata", "style"))
_ROOT: Final = {"stroke-linejoin": "round", "stroke-linecap": "butt"}
"""What a drawing says of all its parts at once."""
_NUMBER: Final = re.compile(r"-?\d+\.?\d*(?:e[-+]?\d+)?")
_POINT: Final = re.compile(r"([MLQCzZ])([^MLQCzZ]*)")
_REFERENCE: Final = re.compile(r"#([\w.-]+)")


def inline(figure: Figure, look: str, text: FigureText) -> str:
    """The figure as an ``<svg>`` of class ``look`` for a page, with the alternative text; ids begin with its name."""
    with mpl.rc_context({"svg.fonttype": "none"}):
        svg = ElementTree.fromstring(saved(figure, "svg"))
    used = dict.fromkeys(name for e in svg.iter() for v in e.attrib.values() for name in _REFERENCE.findall(v))
    ids = {old: f"{text.name}-{look[0]}{n}" for n, old in enumerate(_defined(svg, used), start=1)}
    attributes = {
        "class": look,
        "viewBox": svg.attrib["viewBox"],
        "role": "img",
        "aria-label": one_line(text.alt),
        **_ROOT,
    }
    return f"<svg{_attributes(attributes)}>{''.join(_written(child, ids) for child in svg)}</svg>\n"


def _defined(svg: Element, used: dict[str, None]) -> list[str]:
    return [name for e in svg.iter() if (name := e.attrib.get("id", "")) in used]


def _written(element: Element, ids: dict[str, str]) -> str:
    tag = element.tag.split("}")[-1]
    inside = "".join(_written(child, ids) for child in element) if tag not in _LEFT_OUT else ""
    attributes = dict(_kept(element, ids))
    if tag in ("g", "defs") and (not attributes or not inside):
        return f"<defs>{inside}</defs>" if tag == "defs" and inside else inside
    if tag in _LEFT_OUT:
        return ""
    text = escape(element.text or "", quote=False) if tag == "text" else ""
    start = f"<{tag}{_attributes(attributes)}"
    return f"{start}>{text}{inside}</{tag}>" if text or inside else f"{start}/>"


def _kept(element: Element, ids: dict[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in element.attrib.items():
        name = name.split("}")[-1]
        if name == "style":
            yield from _properties(value)
        elif name == "id":
            if value in ids:
                yield name, ids[value]
        elif name == "d":
            yield name, _path(value)
        elif name == "transform" and re.match(r"rotate\(-?0 ", value):
            continue
        elif name != "space":
            value = _REFERENCE.sub(lambda m: f"#{ids.get(m[1], m[1])}", value)
            yield name, value if "#" in value else _NUMBER.sub(lambda m: _short(float(m[0])), value)


def _properties(style: str) -> Iterator[tuple[str, str]]:
    """A style's properties as attributes, with the page's colours; which font it is, the page says."""
    for part in style.split(";"):
        name, _, value = (text.strip() for text in part.partition(":"))
        if name == "font":
            yield "font-size", value.split("px")[0].split()[-1]
        elif name == "font-size":
            yield name, value.removesuffix("px")
        elif name and name != "font-family" and _ROOT.get(name) != value:
            theme = _THEME.get(value.lower())
            yield name, f"var(--{theme})" if theme else value


def _path(data: str) -> str:
    """The path on hundredths, horizontal and vertical lines by one figure."""
    written, at = [], ("", "")
    for command, rest in _POINT.findall(data):
        numbers = [_short(float(number)) for number in _NUMBER.findall(rest)]
        if command == "L" and numbers[1] == at[1]:
            written.append(f"H{numbers[0]}")
        elif command == "L" and numbers[0] == at[0]:
            written.append(f"V{numbers[1]}")
        else:
            written.append(command + " ".join(numbers))
        at = (numbers[-2], numbers[-1]) if numbers else at
    return "".join(written)


def _short(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".").replace("-0.", "-.").removeprefix("0") or "0"


def _attributes(values: dict[str, str]) -> str:
    return "".join(f' {name}="{escape(value)}"' for name, value in values.items())
