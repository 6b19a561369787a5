"""A task set as llama-perplexity reads it: items read, checked, drawn, and written in its own format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from lwq.engine.vocabulary import Vocabulary
from lwq.errors import ToolchainError
from lwq.steps.step import Context, Given, Origin
from lwq.store.files import write_atomic
from lwq.tasks.cloze import sentence_cloze, word_cloze
from lwq.tasks.files import merged, usable_items, without_repeats
from lwq.tasks.formats import render
from lwq.tasks.items import Item, Kind, checked, draw
from lwq.tasks.lengths import measured

NAME = "items"
VERSION = 2
USES_TOOLS = True
IN_PROCESS = True
LEAST_PARALLEL: Final = 4
_STEP: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    base: Origin
    """Whose tokenizer says how long an item is."""
    name: str
    kind: Kind
    files: tuple[Given, ...]
    """Several are drawn from in equal parts."""
    cloze: str
    """``sentences`` or ``words`` where items are made from a text; empty for task data."""
    columns: tuple[tuple[str, str], ...]
    n_items: int
    n_ctx: int
    """Grown where an item needs more."""
    seed: int
    skip_faulty: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    file: str
    kind: Kind
    n_given: int
    """Items that there were to draw from."""
    n_faulty: int
    """Items left out before the draw: faulty ones, and those that an earlier file of the set has too."""
    ids: tuple[str, ...]
    parts: str
    """What share each of several files has; empty for one."""
    n_ctx: int
    n_parallel: int
    unfair: tuple[str, ...]
    """Ids of items of which all choices begin with the shortest: the tool scores that one wrongly."""


def run(inputs: Inputs, ctx: Context) -> Result:
    """The drawn items in the tool's format, their ids, and the context that holds the longest.

    Raises:
        FileError: task data with faults, each with its line; fewer items than wanted.
    """
    read = {file.name: _read(inputs, ctx, file) for file in inputs.files}
    assert len(read) == len(inputs.files), "two files of a set have one name"
    n_faulty = sum(n for _, n in read.values())
    given = {name: items for name, (items, _) in read.items()}
    once = without_repeats(given)
    items, parts = _drawn(inputs, once)
    file = f"{inputs.name}.items"
    write_atomic(ctx.folder / file, render(inputs.kind, items, inputs.name))
    n_parallel = max(LEAST_PARALLEL, *(len(item.choices) for item in items))
    n_ctx, unfair = _context(inputs, ctx, items, n_parallel)
    return Result(
        file=file,
        kind=inputs.kind,
        n_given=sum(map(len, once.values())),
        n_faulty=n_faulty + sum(map(len, given.values())) - sum(map(len, once.values())),
        ids=tuple(item.id for item in items),
        parts=parts,
        n_ctx=n_ctx,
        n_parallel=n_parallel,
        unfair=unfair,
    )


def _read(inputs: Inputs, ctx: Context, file: Given) -> tuple[tuple[Item, ...], int]:
    path = ctx.find(file)
    if inputs.cloze:
        make = word_cloze if inputs.cloze == "words" else sentence_cloze
        made = make(path.read_text(encoding="utf-8"), inputs.n_items, inputs.seed)
        return checked(made, file.name, inputs.kind), 0
    return usable_items(path, inputs.name, inputs.kind, dict(inputs.columns) or None, skip=inputs.skip_faulty)


def _drawn(inputs: Inputs, given: Mapping[str, tuple[Item, ...]]) -> tuple[tuple[Item, ...], str]:
    if len(given) == 1:
        return draw(next(iter(given.values())), inputs.n_items, inputs.seed), ""
    return merged(given, inputs.n_items, inputs.seed)


def _context(inputs: Inputs, ctx: Context, items: tuple[Item, ...], n_parallel: int) -> tuple[int, tuple[str, ...]]:
    """Tokens for ``-c`` (the tool's whole context is ``n_parallel`` times that), and ids of items scored unfairly."""
    try:
        with Vocabulary(ctx.toolchain, ctx.find(inputs.base)) as vocabulary:
            most, unfair = measured(vocabulary.tokens, inputs.kind, items)
    except ToolchainError:  # another llama.cpp than the pin: the tool itself says what does not fit
        return inputs.n_ctx, ()
    least = -(-most // n_parallel)
    return (inputs.n_ctx if least <= inputs.n_ctx else -(-least // _STEP) * _STEP), unfair
