"""The templates of card, details and page: lwq's own, or a publisher's, which reach nothing but what they are given."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from html import escape
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Final

from jinja2 import ChoiceLoader, FileSystemLoader, PackageLoader, StrictUndefined, TemplateSyntaxError, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from lwq.errors import FileError
from lwq.report import (
    choices,
    commands,
    detail_tables,
    domain_section,
    intervals,
    markdown,
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
from lwq.report.authored import authored

TEMPLATES: Final = ("card.md.j2", "details.md.j2", "page.html.j2", "parts.md.j2")
_OF_PAGE: Final = ("title", "description", "body", "contents", "style", "script", "policy")
_OF_RECORD: Final = (
    "record", "on_page", "n_tables", "n_figures", "figures", "searched", "allocations", "evaluation",
)  # fmt: skip
_HINT: Final = "lwq's own templates, in lwq/report/templates, have all names and how they are used"


def _public(module: ModuleType) -> SimpleNamespace:
    """A module's own functions and sentences, and none of what it imports."""
    return SimpleNamespace(
        **{
            name: value
            for name, value in vars(module).items()
            if not name.startswith("_")
            and (isinstance(value, str) or getattr(value, "__module__", "") == module.__name__)
        }
    )


TOOLS: Final[Mapping[str, Any]] = {
    "choices": _public(choices),
    "domains": _public(domain_section),
    "running": _public(running),
    "tables": _public(tables),
    "details": _public(detail_tables),
    "remarks": _public(remarks),
    "sentences": _public(sentences),
    "commands": _public(commands),
    "search": _public(search_section),
    "layers": _public(prune_section),
    "parts": _public(pruned_parts),
    "speeds": _public(speed_table),
    "intervals": _public(intervals),
    "tasks": _public(task_section),
    "ties": _public(ties),
    "values": _public(values_section),
    "n_scored": rows.n_scored,
    "count": numerals.count,
}
"""What templates compute with."""


def check_templates(folder: Path) -> None:
    """Raises FileError for a folder whose templates cannot be used, with the file, the line and the name at fault."""
    if not folder.is_dir():
        raise FileError(f"{folder}: no folder of templates", hint="[card] templates names one, seen from the recipe")
    found = sorted(path.name for path in folder.glob("*.j2"))
    if strange := [name for name in found if name not in TEMPLATES]:
        near = get_close_matches(strange[0], TEMPLATES, 1)
        hint = f"perhaps {near[0]}" if near else f"there are {', '.join(TEMPLATES)}"
        raise FileError(f"{folder / strange[0]}: no template of a card", hint=hint)
    if not found:
        raise FileError(f"{folder}: no template in it", hint=f"one or more of {', '.join(TEMPLATES)}")
    for name in found:
        _check(folder, name)


def rendered(name: str, values: Mapping[str, Any], folder: Path | None = None) -> str:
    """A template with its values; one in ``folder`` takes the place of lwq's own.

    Raises:
        FileError: a template of the folder does what it cannot, with its file and line.
    """
    environment = _environment(folder, is_page=name.startswith("page"))
    try:
        return environment.get_template(name).render({**TOOLS, **values})
    except TemplateSyntaxError as error:
        raise FileError(_at(error.filename or name, error.lineno, error.message), hint=_HINT) from None
    except Exception as error:
        if folder and (place := _place(error, folder)):
            raise FileError(_at(*place, str(error)), hint=_HINT) from error
        raise


@cache
def _environment(folder: Path | None, *, is_page: bool) -> ImmutableSandboxedEnvironment:
    own = PackageLoader("lwq.report")
    environment = ImmutableSandboxedEnvironment(
        loader=ChoiceLoader([FileSystemLoader(folder), own]) if folder else own,
        undefined=StrictUndefined,
        autoescape=is_page,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=is_page,
    )
    environment.filters |= {
        "table_rows": tables.table_rows,
        "plain": markdown.plain,
        "plain_html": lambda text: escape(markdown.one_line(text)),
        "code": markdown.code,
        "fence": markdown.fence,
        "authored": authored,
        "logo": markdown.picture,
        "repository": markdown.repository,
        "duration": numerals.duration,
        "count": numerals.count,
    }
    return environment


def _check(folder: Path, name: str) -> None:
    """Compiles a template and finds names in it that nobody gives it."""
    environment = _environment(folder, is_page=name.startswith("page"))
    path = folder / name
    try:
        text = path.read_text(encoding="utf-8")
        environment.compile(text, name, str(path))
        tree = environment.parse(text, name, str(path))
    except TemplateSyntaxError as error:
        raise FileError(_at(str(path), error.lineno, error.message), hint=_HINT) from None
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: cannot be read as a template: {error}", hint="templates are UTF-8 text") from None
    given = {*TOOLS, *(_OF_PAGE if name.startswith("page") else _OF_RECORD), *environment.globals}
    given |= {n.name for n in tree.find_all(nodes.Name) if n.ctx == "store"}  # in a branch, it may be set in another
    for unknown in sorted(meta.find_undeclared_variables(tree) - given):
        near = get_close_matches(unknown, given, 1)
        line = next((n.lineno for n in tree.find_all(nodes.Name) if n.name == unknown), 1)
        hint = f"perhaps {near[0]!r}; {_HINT}" if near else _HINT
        raise FileError(_at(str(path), line, f"{unknown!r} is undefined"), hint=hint)
    for included in filter(None, meta.find_referenced_templates(tree)):
        if included not in TEMPLATES:
            raise FileError(f"{path}: {included!r} is no template of a card", hint=f"there are {', '.join(TEMPLATES)}")


def _place(error: Exception, folder: Path) -> tuple[str, int] | None:
    """The innermost line of a template of the folder that an error came through."""
    frames = _frames(error)
    return next(((name, line) for name, line in reversed(list(frames)) if Path(name).parent == folder), None)


def _frames(error: Exception) -> Iterator[tuple[str, int]]:
    for frame in traceback.extract_tb(error.__traceback__):
        yield frame.filename, frame.lineno or 1


def _at(file: str, line: int, what: str | None) -> str:
    return f"{file}, line {line}: {what}"


def safe(html: str) -> Markup:
    """HTML that the page's template takes as it is."""
    return Markup(html)
