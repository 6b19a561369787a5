"""Up to which size a file generates as fast as a recipe asks, measured on real files: of the whole model, and of the
model without each set of layers that may go.

Each size is the best predicted allocation of that many bytes, written by llama-quantize and timed by llama-bench here.
What was removed is not healed for it: repaired weights take as long as any.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lwq.bits.damage import TensorDamage, damages
from lwq.bits.frontier import choices, least_and_most
from lwq.bits.knapsack import Group, solve
from lwq.bits.options import spread
from lwq.bits.output_importance import write_with
from lwq.bits.pacing import TEST, Timed, Timer
from lwq.bits.stock import mix_and_bytes, with_unread
from lwq.gguf.header import GgufHeader, read_header
from lwq.gguf.types import renumber
from lwq.layers.pruned_base import Cut, write_pruned
from lwq.metrics.speeds import most_at_pace
from lwq.metrics.values import Estimate
from lwq.recipe.budget import Budget
from lwq.recipe.constraints import Constraints
from lwq.record.prune import HealedSet
from lwq.record.search import Pace, TensorSensitivity
from lwq.steps.step import Context, Made, Origin, from_json, to_json
from lwq.store.files import need_space
from lwq.store.pieces import Pieces

NAME = "pace"
VERSION = 1
USES_TOOLS = True
IN_PROCESS = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    base: Made
    imatrix: Origin
    sensitivity: Made
    heal: Made | None
    """The step that found sets of layers that may go; None: only the whole model is timed."""
    budget: Budget
    ftype: str
    constraints: Constraints
    min_tg: float
    """Tokens per second."""
    n_threads: int
    cpu: str
    """The processor's name: speeds of another machine are not reused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    paces: tuple[Pace, ...]
    """Of the whole model, then of each set."""


def run(inputs: Inputs, ctx: Context) -> Result:
    """The most bytes within the budget at which each model makes ``min_tg`` tokens per second.

    Raises:
        ModelError: layers that cannot go rightly.
        ToolError: llama-quantize or llama-bench failed.
    """
    sets = ctx.result(inputs.heal, "sets", tuple[HealedSet, ...]) if inputs.heal else ()
    pacing = _pacing(inputs, ctx)
    n, paces = 1 + len(sets), []
    for i, layers in enumerate(((), *(s.layers for s in sets))):
        paces.append(pacing.pace(layers))
        ctx.progress(i + 1, n)
    return Result(paces=tuple(paces))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Remaining:
    """What the tensors of a model without some layers may be."""

    layers: tuple[int, ...]
    groups: tuple[Group, ...]
    n_other: int
    """Bytes of the tensors that keep their type."""


def _pacing(inputs: Inputs, ctx: Context) -> _Pacing:
    header = read_header(ctx.find(inputs.base))
    tensors = ctx.result(inputs.sensitivity, "tensors", tuple[TensorSensitivity, ...])
    mix, budget_bytes = mix_and_bytes(inputs.budget, header, ctx.stock_mixes(inputs.base, inputs.imatrix))
    ftype = inputs.ftype or mix.ftype
    return _Pacing(
        inputs=inputs,
        ctx=ctx,
        header=header,
        known=damages(tensors, {}),
        constraints=with_unread(inputs.constraints, tensors, mix),
        budget_bytes=budget_bytes,
        timer=Timer(toolchain=ctx.toolchain, folder=ctx.folder, n_threads=ctx.n_threads, ftype=ftype),
        pieces=ctx.pieces(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pacing:
    """Files of one recipe's model, written and timed."""

    inputs: Inputs
    ctx: Context
    header: GgufHeader
    known: Mapping[str, TensorDamage]
    constraints: Constraints
    budget_bytes: int
    timer: Timer
    pieces: Pieces

    def pace(self, layers: tuple[int, ...]) -> Pace:
        """What was found of the model without these layers; an allocation of a budget too small for it is no file."""
        groups, others = choices(self.header, self.known, self.constraints, layers)
        remaining = _Remaining(layers=layers, groups=groups, n_other=others)
        least, most = (size + others for size in least_and_most(groups))
        if least > self.budget_bytes:
            return Pace(wanted=self.inputs.min_tg, layers=layers, n_bytes=None, tried=())
        busy = [0.0]

        def speed(n_bytes: int) -> Estimate:
            timed = self._timed(remaining, n_bytes)
            busy.append(timed.busy)
            return timed.speed

        wanted = self.inputs.min_tg
        n_bytes, tried = most_at_pace(speed, least, min(most, self.budget_bytes), wanted)
        self._forget()
        return Pace(wanted=wanted, layers=layers, n_bytes=n_bytes, tried=tried, busy=max(busy))

    def _timed(self, remaining: _Remaining, n_bytes: int) -> Timed:
        piece = self.pieces.get(f"{TEST}/{remaining.layers}/{n_bytes}", lambda: self._measured(remaining, n_bytes))
        return from_json(Timed, piece)

    def _measured(self, remaining: _Remaining, n_bytes: int) -> Any:
        base, imatrix = self._base(remaining.layers)
        chosen = spread(solve(remaining.groups, n_bytes - remaining.n_other), remaining.groups)
        types = {renumber(name, remaining.layers) or name: q for name, q in chosen.items()}
        return to_json(self.timer.timed(base, imatrix, types))

    def _base(self, layers: tuple[int, ...]) -> tuple[str, str]:
        """The model without these layers and its importance data, by name in the work folder."""
        ctx = self.ctx
        if not layers:
            return ctx.place(self.inputs.base), ctx.place(self.inputs.sensitivity)
        base, imatrix = (f"without-{'-'.join(map(str, layers))}-{what}.gguf" for what in ("base", "imatrix"))
        if not (ctx.folder / base).exists():
            self._forget()
            need_space(ctx.folder, self.header.file_bytes, base)
            write_with(ctx.find(self.inputs.sensitivity), (), ctx.folder / imatrix, layers)
            cut = Cut(layers=layers, tensors={})
            write_pruned(ctx.toolchain, self.header, cut, ctx.folder / base, ctx.sha256(self.inputs.base))
        return base, imatrix

    def _forget(self) -> None:
        """Removes bases that were only timed."""
        for path in self.ctx.folder.glob("without-*.gguf"):
            path.unlink()
