"""Which type each tensor of a target gets: a stock mix or hand-written patterns, asked of llama-quantize.

The stock tool decides, in a dry run; the answer is compiled to one anchored entry for each tensor it
may convert, and a second dry run with these entries must give the same types.
"""

from __future__ import annotations

from dataclasses import dataclass

from lwq.bits.settled import Settled, settle
from lwq.errors import ModelError, ToolError
from lwq.gguf.allocation import Allocation
from lwq.gguf.header import GgufHeader, read_header
from lwq.gguf.size import planned_tensors
from lwq.layers.pruning import check_layers, prune_obstacle
from lwq.llama import tools
from lwq.llama.requests import DryRunRequest
from lwq.llama.transcripts import DryRun
from lwq.steps.step import Context, Made, Origin

NAME = "allocate"
VERSION = 1
USES_TOOLS = True
IN_PROCESS = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    base: Made
    imatrix: Origin | None
    ftype: str
    tensor_types: tuple[str, ...]
    prune_layers: tuple[int, ...]
    allow_edge: bool
    file: str
    """Name of the tensor-type file to write."""


Result = Settled


def run(inputs: Inputs, ctx: Context) -> Result:
    """The allocation and its tensor-type file."""
    header = read_header(ctx.find(inputs.base))
    layers = check_layers(inputs.prune_layers, header.n_layer, allow_edge=inputs.allow_edge)
    if layers and (why := prune_obstacle(header.architecture, header.n_layer_all, header.metadata, layers)):
        raise ModelError(
            f"{inputs.base.name}: llama-quantize would not prune these layers rightly: {why}",
            hint="heal = true lets lwq write the pruned base where that can be done; else remove prune_layers",
        )
    plan = DryRunRequest(
        model=ctx.place(inputs.base),
        ftype=inputs.ftype,
        imatrix=ctx.place(inputs.imatrix) if inputs.imatrix else None,
        tensor_types=inputs.tensor_types,
        prune_layers=inputs.prune_layers,
    )
    answer = tools.dry_run(ctx.toolchain, plan, cwd=ctx.folder)
    ctx.ran(answer)
    allocation = _allocation(inputs, answer.plan)
    _agree(answer.plan, allocation, header)
    settled, obeyed = settle(ctx.toolchain, header, allocation, plan, inputs.file, cwd=ctx.folder)
    if obeyed:
        ctx.ran(obeyed)
    return settled


def _types(plan: DryRun) -> tuple[tuple[str, str], ...]:
    return tuple((t.name, t.target_type) for t in plan.tensors)


def _allocation(inputs: Inputs, plan: DryRun) -> Allocation:
    return Allocation(
        ftype=inputs.ftype,
        types=_types(plan),
        quantizable=tuple(t.name for t in plan.tensors if t.target_type != t.source_type),
        pruned_layers=inputs.prune_layers,
        n_fallback=plan.n_fallback,
    )


def _agree(plan: DryRun, allocation: Allocation, header: GgufHeader) -> None:
    """The dry run's total and our own table must be the same size (it prints MiB with two decimals)."""
    tensors = planned_tensors(header, types=dict(allocation.types), pruned=allocation.pruned_layers)
    tensor_bytes = sum(t.n_bytes for t in tensors)
    if abs(plan.total_mib - tensor_bytes / 2**20) > 0.0051:
        raise ToolError(
            f"{allocation.ftype}: llama-quantize predicts {plan.total_mib:.2f} MiB of tensors, lwq's table of types "
            f"{tensor_bytes / 2**20:.2f} MiB",
            hint="the llama.cpp in use has other type sizes than the pinned one; see `lwq toolchain doctor`",
        )
