"""The pruned base: the original without some layers, healed if that was asked, as a file of its own."""

from __future__ import annotations

from dataclasses import dataclass

from lwq.errors import ModelError
from lwq.gguf.header import read_header
from lwq.layers.pruned_base import Cut, Proof, cut_command, read_repairs, write_proved
from lwq.layers.pruning import check_layers
from lwq.record.prune import HealedSet, RemovedSet
from lwq.record.record import FileFacts
from lwq.steps.step import Context, Given, Made, file_facts
from lwq.store.files import need_space

NAME = "cut"
VERSION = 1
USES_TOOLS = True
IN_PROCESS = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    base: Made
    prune: Made | None
    """The step that found the sets; None where ``layers`` is given."""
    count: int
    """Which of its sets: the one of so many layers."""
    layers: tuple[int, ...]
    heal: Made | None
    allow_edge: bool
    text: Given
    n_ctx: int
    """Of the window on which the written file is compared with the model in process."""
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    layers: tuple[int, ...]
    healed: HealedSet | None
    facts: FileFacts


def run(inputs: Inputs, ctx: Context) -> Result:
    """The written base, whose predictions are those measured in process.

    Raises:
        ModelError: layers that the model or its architecture cannot lose.
    """
    header = read_header(ctx.find(inputs.base))
    layers = check_layers(_layers(inputs, ctx), header.n_layer, allow_edge=inputs.allow_edge)
    healed = _healed(inputs, ctx, layers)
    repairs = (
        read_repairs(ctx.entries[inputs.heal.key].path(healed.file)) if inputs.heal and healed and healed.file else {}
    )
    need_space(ctx.folder, header.file_bytes, inputs.file)
    out = ctx.folder / inputs.file
    ctx.commands.append(cut_command(header, inputs.base.name, layers, healed.file if healed else "", inputs.file))
    text = ctx.find(inputs.text).read_bytes().decode()
    proof = Proof(text=text, name=inputs.text.name, n_ctx=inputs.n_ctx, n_threads=ctx.n_threads)
    cut = Cut(layers=layers, tensors=repairs)
    write_proved(ctx.toolchain, header, cut, out, ctx.sha256(inputs.base), proof)
    return Result(layers=layers, healed=healed, facts=file_facts(read_header(out)))


def _layers(inputs: Inputs, ctx: Context) -> tuple[int, ...]:
    if inputs.prune is None:
        return inputs.layers
    sets = ctx.result(inputs.prune, "sets", tuple[RemovedSet, ...])
    if inputs.count > len(sets):
        raise ModelError(
            f"{inputs.count} layers cannot go: only {len(sets)} of this model may", hint=f"prune at most {len(sets)}"
        )
    return tuple(sets[inputs.count - 1].layers)


def _healed(inputs: Inputs, ctx: Context, layers: tuple[int, ...]) -> HealedSet | None:
    if inputs.heal is None:
        return None
    sets: tuple[HealedSet, ...] = ctx.result(inputs.heal, "sets", tuple[HealedSet, ...])
    return next((s for s in sets if s.layers == layers), None)
