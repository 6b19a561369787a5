"""Repairs for models that lost layers: fitted on the calibration text, judged by the KLD on the selection text.

Its first half judges, so that the second may tell whether a healed model is surely better than another.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lwq.bits.confirmation import halves
from lwq.bits.mixes import probed
from lwq.engine.engine import Engine
from lwq.engine.session import spread_over
from lwq.errors import ModelError
from lwq.gguf.header import read_header
from lwq.gguf.write import write_gguf
from lwq.layers.mending import Mender
from lwq.layers.pruning import check_layers
from lwq.record.prune import HealedSet, RemovedSet
from lwq.steps.step import Context, Given, Made, from_json, to_json
from lwq.store.cache import key_of
from lwq.store.files import link_or_copy

NAME = "heal"
VERSION = 3
USES_TOOLS = True
IN_PROCESS = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    base: Made
    prune: Made | None
    """The step that found the sets; None where ``layers`` is one."""
    counts: tuple[int, ...]
    """Numbers of layers whose set is healed; of all sets found when empty."""
    layers: tuple[int, ...]
    allow_edge: bool
    fit_text: Given
    n_fit_windows: int
    """Windows of the calibration text on which repairs are fitted."""
    text: Given
    n_windows: int
    """Windows of the selection text's first half that judge."""
    n_ctx: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    sets: tuple[HealedSet, ...]


def run(inputs: Inputs, ctx: Context) -> Result:
    """Every set of layers with what healing brought, and a file of the repaired tensors of each.

    Raises:
        ModelError: layers that cannot go; a text without two windows.
    """
    sets = _sets(inputs, ctx)
    for layers in sets:
        check_layers(layers, read_header(ctx.find(inputs.base)).n_layer, allow_edge=inputs.allow_edge)
    n_ctx, pieces = inputs.n_ctx, ctx.pieces(inputs.base.key)  # a healed set serves every recipe that removes it
    base = ctx.find(inputs.base)
    with Engine(ctx.toolchain, base, n_ctx=n_ctx, n_threads=ctx.n_threads, scored=probed(n_ctx)) as engine:
        judging, _ = halves(engine.cut_file(ctx.find(inputs.text), inputs.text.name), least=2)
        engine.set_windows(spread_over(judging, inputs.n_windows))
        fit = engine.cut_file(ctx.find(inputs.fit_text), inputs.fit_text.name)
        mender = Mender(
            engine=engine,
            fit=spread_over(fit, inputs.n_fit_windows),
            on_done=ctx.counted(len(sets) * engine.header.n_layer),
        )
        healed = []
        for layers in sets:
            piece = _piece(inputs, layers)
            kept = pieces.path.with_suffix(f".{key_of({'piece': piece})[:24]}.gguf")
            value = pieces.get(piece, partial(_healed, mender, layers, kept, ctx.folder))
            healed.append(from_json(HealedSet, value))
            if healed[-1].file:
                link_or_copy(kept, ctx.folder / healed[-1].file)
    return Result(sets=tuple(healed))


def _sets(inputs: Inputs, ctx: Context) -> tuple[tuple[int, ...], ...]:
    if inputs.prune is None:
        return (inputs.layers,)
    sets = ctx.result(inputs.prune, "sets", tuple[RemovedSet, ...])
    most = len(sets)
    if beyond := [n for n in inputs.counts if n > most]:
        raise ModelError(f"{beyond[0]} layers cannot go: only {most} of this model may", hint=f"prune at most {most}")
    return tuple(sets[n - 1].layers for n in inputs.counts or range(1, most + 1))


def _piece(inputs: Inputs, layers: tuple[int, ...]) -> str:
    """The key of a healed set, by all that it depends on beside the base."""
    fit = f"{inputs.fit_text.sha256[:16]}, {inputs.n_fit_windows}"
    return f"{NAME} {VERSION}, {fit}, {inputs.text.sha256[:16]}, {inputs.n_windows}, {inputs.n_ctx}/{layers}"


def _healed(mender: Mender, layers: tuple[int, ...], kept: Path, work: Path) -> dict[str, Any]:
    """One set, as JSON; its repaired tensors lie in ``kept`` before it counts."""
    healed, tensors = mender.heal(layers)
    if tensors:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_gguf(work / "unfinished.gguf", {"general.type": "adapter"}, tensors)
        (work / "unfinished.gguf").replace(kept)
        healed = dataclasses.replace(healed, file=f"healed-{'-'.join(map(str, layers))}.gguf")
    return dict(to_json(healed))
