"""Types turned into an allocation: completed, written as a tensor-type file, and seen to be obeyed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from lwq.errors import ToolError
from lwq.gguf.allocation import Allocation
from lwq.gguf.header import GgufHeader
from lwq.gguf.size import planned_tensors
from lwq.gguf.types import bits_per_weight
from lwq.llama import tools
from lwq.llama.requests import DryRunRequest, Planned
from lwq.llama.toolchain import Toolchain
from lwq.store.files import write_atomic


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """An allocation that llama-quantize obeys, and what its file's tensors come to."""

    allocation: Allocation
    tensor_types_file: str | None
    """None where nothing is converted (an F16 copy)."""
    tensor_bytes: int
    n_params: int
    bpw: float

    def fields(self) -> dict[str, Any]:
        """By name, for a step's result that holds more."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


def completed(toolchain: Toolchain, types: Mapping[str, str], request: DryRunRequest, *, cwd: Path) -> Allocation:
    """These types as an allocation of a base, with the ftype's own for tensors that they leave out."""
    plan = tools.dry_run(toolchain, request, cwd=cwd).plan
    every = tuple((t.name, types.get(t.name, t.target_type)) for t in plan.tensors)
    own = tuple(name for name, _ in every if name in types)
    return Allocation(ftype=request.ftype, types=every, quantizable=own, pruned_layers=(), n_fallback=0)


def settle(
    toolchain: Toolchain, header: GgufHeader, allocation: Allocation, request: DryRunRequest, file: str, *, cwd: Path
) -> tuple[Settled, Planned | None]:
    """The allocation as a tensor-type file in ``cwd``, and the dry run in which llama-quantize obeyed it.

    Args:
        header: of the base, before layers go.
        request: the dry run that gave the types of what is not decided, without the file.

    Raises:
        ToolError: llama-quantize would write another type.
    """
    obeyed = None
    if allocation.quantizable:
        write_atomic(cwd / file, allocation.lines())
        obeyed = _obeyed(toolchain, allocation, request.with_file(file), cwd)
    tensors = planned_tensors(header, types=dict(allocation.types), pruned=allocation.pruned_layers)
    return Settled(
        allocation=allocation,
        tensor_types_file=file if allocation.quantizable else None,
        tensor_bytes=sum(t.n_bytes for t in tensors),
        n_params=sum(t.n_elements for t in tensors),
        bpw=bits_per_weight(tensors),
    ), obeyed


def _obeyed(toolchain: Toolchain, allocation: Allocation, request: DryRunRequest, cwd: Path) -> Planned:
    """The dry run with the file, whose types are those of the allocation."""
    answer = tools.dry_run(toolchain, request, cwd=cwd)
    written = {t.name: t.target_type for t in answer.plan.tensors}
    if wrong := [name for name, q in allocation.types if written.get(name) != q]:
        raise ToolError(f"llama-quantize did not obey {request.tensor_types_file} for {wrong[0]}")
    return answer
