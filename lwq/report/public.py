"""A record fit to publish: no local path in it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from lwq.record.command import Command
from lwq.record.record import Record, Row

_LOCAL: Final = re.compile(r"(?:(?:file:)?/|~[\w.-]*/|\.{1,2}/|[A-Za-z]:[\\/])")
_QUOTED: Final = re.compile(r"""("|')((?:(?!\1)[^\n\\]|\\.)*)\1""")
_IN_NAME: Final = r"""(?:[^\s/\\'"<]|<(?!/))"""
"""A character of a folder's name; ``</`` closes an element and begins no path."""
_BARE: Final = re.compile(
    rf"""(?:\bfile:(?://)?|(?<![\w:/.\\)\]])(?:~[\w.-]*)?)(?!(?<=<)/[\w:-]+\s*>)/(?!>)(?:{_IN_NAME}+/)+(?:(?!,){_IN_NAME})*"""
    rf"""|(?<!\w)[A-Za-z]:\\+(?:{_IN_NAME}+\\+)+(?:(?!,){_IN_NAME})*"""
)
_OPTION: Final = re.compile(r"^(--?[\w-]+=)(.*)$", re.DOTALL)


def publishable(record: Record) -> Record:
    """The record with each local path in its recipe, sources and commands cut to the file's name."""
    return replace(
        record,
        recipe=_recipe(record.recipe),
        model=replace(record.model, source=file_name(record.model.source)),
        texts=tuple(replace(text, source=file_name(text.source)) for text in record.texts),
        commands=_commands(record.commands),
        rows=tuple(_row(row) for row in record.rows),
    )


def file_name(text: str) -> str:
    """``/home/me/model.gguf`` → ``model.gguf``; what is no local path stays."""
    if not _LOCAL.match(text):
        return text
    return re.split(r"[\\/]", text.rstrip("\\/"))[-1] or text


def _recipe(text: str) -> str:
    """The recipe with the paths in its strings and comments cut."""
    text = _QUOTED.sub(lambda m: m[1] + file_name(m[2]) + m[1], text)
    return _BARE.sub(lambda m: file_name(m[0]), text)


def _row(row: Row) -> Row:
    twin = replace(row.twin, commands=_commands(row.twin.commands)) if row.twin else None
    return replace(row, commands=_commands(row.commands), twin=twin)


def _commands(commands: tuple[Command, ...]) -> tuple[Command, ...]:
    return tuple(replace(c, argv=tuple(map(_argument, c.argv))) for c in commands)


def _argument(argument: str) -> str:
    option = _OPTION.match(argument)
    return option[1] + file_name(option[2]) if option else file_name(argument)
