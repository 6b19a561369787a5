"""What enters each multiplication, on the calibration text: Gram matrices, and what compensated values would gain.

Tokens of another text are held out: by these it is judged whether a tensor's compensated values are better. They are of
its first half, so that the second may tell whether a mix with such values is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lwq.bits.confirmation import halves
from lwq.engine.replay import Replay
from lwq.engine.session import spread_over
from lwq.errors import ModelError
from lwq.metrics.arrays import Tokens
from lwq.recipe.constraints import legal_types
from lwq.steps.step import Context, Given, Made, Origin
from lwq.store.files import link_or_copy, replacing
from lwq.store.pieces import is_sound_archive
from lwq.values.collecting import Collector, segments
from lwq.values.compensated import Compensated
from lwq.values.grams import Gain, Grams, Reader, write_gathered

NAME = "grams"
VERSION = 4
"""Stands for ``lwq.values`` too: raise it where codes come out otherwise, since tensors are kept under its key."""
USES_TOOLS = True
IN_PROCESS = True
N_HELD_WINDOWS: Final = 8
_IMATRIX_FILE: Final = "imatrix.gguf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    base: Made
    imatrix: Origin
    text: Given
    n_ctx: int
    n_windows: int
    held: Given
    """The text of whose first half tokens are held out."""
    types: tuple[str, ...]
    """Of which the gain is measured: those that a budget may use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    imatrix_file: str
    """The importance matrix by which stock values are weighted that compensated ones are compared with."""
    files: tuple[str, ...]
    readers: tuple[Reader, ...]
    gains: tuple[Gain, ...]
    n_windows: int


def run(inputs: Inputs, ctx: Context) -> Result:
    """Gram matrices of everything that multiplies, in files of some places each.

    Raises:
        ModelError: an imatrix of another model; a calibration text without two windows; no held-out window.
    """
    base = ctx.find(inputs.base)
    with _session(inputs, ctx, base) as session:
        windows = spread_over(session.cut_file(ctx.find(inputs.text), inputs.text.name), inputs.n_windows)
        first, _ = halves(_held(session, ctx.find(inputs.held), inputs.held.name), least=1)
        held = spread_over(first, N_HELD_WINDOWS)
        session.find_graph(windows)
        assert session.graph
        targets = tuple(t for t in session.header.tensors if len(t.ne) > 1 and t.name in session.graph.weights)
        parts = segments(session, [t.name for t in targets])
        collector = Collector(session, windows, held)
        on_done = ctx.counted(len(parts) * (len(windows) + len(held)) + len(targets))
        folder, files = ctx.values_folder(ctx.key), tuple(f"grams-{i:04}.npz" for i in range(len(parts)))
        for i, (part, file) in enumerate(zip(parts, files, strict=True)):
            path = folder / file
            if not (path.exists() and is_sound_archive(path)):
                then = parts[i + 1] if i + 1 < len(parts) else ()
                with replacing(path) as whole:
                    write_gathered(whole, collector.collect(part, then, on_done))
            link_or_copy(path, ctx.folder / file)
        readers = tuple(
            Reader(tensor=t, file=i, place=place.name)
            for i, part in enumerate(parts)
            for place in part
            for t in place.tensors
        )
        grams = Grams((ctx.folder / file for file in files), readers)
        imatrix = ctx.folder / _IMATRIX_FILE
        link_or_copy(ctx.find(inputs.imatrix), imatrix)
        values = ctx.compensated(session.ggml, session.header, ctx.key, imatrix, grams)
        gains = tuple(_gains(values, readers, inputs.types, on_done))
    return Result(imatrix_file=_IMATRIX_FILE, files=files, readers=readers, gains=gains, n_windows=len(windows))


def _held(session: Replay, path: Path, name: str) -> Tokens:
    windows = session.cut(path.read_bytes().decode())
    if not len(windows):
        raise ModelError(
            f"{name}: has no window of {session.n_ctx} tokens, by which compensated values could be judged",
            hint='use a longer text, a smaller n_ctx in [calibration], or values = "stock"',
        )
    return windows


def _session(inputs: Inputs, ctx: Context, base: Path) -> Replay:
    scored = range(inputs.n_ctx - 1)
    return Replay(ctx.toolchain, base, n_ctx=inputs.n_ctx, n_threads=ctx.n_threads, scored=scored)


def _gains(
    values: Compensated, readers: tuple[Reader, ...], types: tuple[str, ...], on_done: Callable[[], None]
) -> Iterator[Gain]:
    for reader in readers:
        _, tensor = values.header.find(reader.tensor)
        legal = legal_types(tensor, types, has_importance=True)
        yield Gain(tensor=reader.tensor, ratios=tuple(values.ratios(reader.tensor, legal).items()))
        on_done()
