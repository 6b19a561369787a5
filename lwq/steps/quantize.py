"""One file of the family, written by stock llama-quantize and proved to be what was planned."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from lwq.engine import generation
from lwq.engine.bindings import load_bindings
from lwq.engine.ggml import Ggml
from lwq.gguf.allocation import Allocation
from lwq.gguf.data import check_against
from lwq.gguf.header import GgufHeader, read_header
from lwq.gguf.imatrix import read_imatrix
from lwq.gguf.reader import Scalar
from lwq.gguf.rewrite import fitting_label, overwrite
from lwq.gguf.size import imatrix_kv, planned_tensors, predicted_file_bytes
from lwq.gguf.types import FTYPES, UNQUANTIZED, TensorInfo
from lwq.llama import tools
from lwq.llama.requests import QuantizeRequest
from lwq.record.record import FileFacts
from lwq.record.values import BareExperts, CompensatedValues, KeptStock
from lwq.steps.step import Context, Made, Origin, file_facts
from lwq.store.files import need_space

NAME = "quantize"
VERSION = 3
USES_TOOLS = True
IN_PROCESS = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    base: Made
    imatrix: Origin | None
    completed: Made | None
    """The importance matrix with the output tensor: for an allocation that was found with it."""
    may_be_cut: bool
    """The step that allocated may have made a pruned base and its importance matrix; then the file is made of them."""
    allocation: Made
    grams: Made | None
    """What values are compensated with, unless the allocation is of a mix that keeps its stock values."""
    file: str
    quantized_by: str
    licence: str
    """As the recipe states it; empty: the file keeps the base's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    facts: FileFacts
    predicted_file_bytes: int
    compensated: CompensatedValues | None = None
    """None: all values are llama-quantize's own."""


def run(inputs: Inputs, ctx: Context) -> Result:
    """The written file: types as allocated, size as predicted to the byte; a pruned one also generates."""
    base, used = _origins(inputs, ctx)
    header = read_header(ctx.find(base))
    allocation: Allocation = ctx.result(inputs.allocation, "allocation", Allocation)
    types, pruned = dict(allocation.types), allocation.pruned_layers
    planned = planned_tensors(header, types=types, pruned=pruned)
    own_keys = {**own_metadata(inputs, ctx, base, allocation), **_general(inputs, ctx, header, planned, allocation)}
    keys: dict[str, Scalar] = {**own_keys, **_imatrix_keys(used, ctx)}
    predicted = predicted_file_bytes(header, types=types, pruned=pruned, set_kv=keys)
    need_space(ctx.folder, predicted, inputs.file)
    request = QuantizeRequest(
        model=ctx.place(base),
        output=inputs.file,
        ftype=allocation.ftype,
        imatrix=ctx.place(used) if used else None,
        tensor_types_file=ctx.place(inputs.allocation) if allocation.quantizable else None,
        prune_layers=allocation.pruned_layers,
        override_kv=own_keys,
    )
    ctx.ran(tools.quantize(ctx.toolchain, request, cwd=ctx.folder, threads=ctx.n_threads, on_progress=ctx.progress))
    output = ctx.folder / inputs.file
    check_against(output, planned, file_bytes=predicted)
    compensated = _compensated(inputs, ctx, header, output) if _is_compensated(inputs, ctx) else None
    if allocation.pruned_layers or "lwq.pruned_layers" in header.metadata:
        generation.check_generates(ctx.toolchain, output)
    return Result(facts=file_facts(read_header(output)), predicted_file_bytes=predicted, compensated=compensated)


def _is_compensated(inputs: Inputs, ctx: Context) -> bool:
    """A search says whether what it chose has compensated values; llama-quantize's own mixes have what is asked for."""
    if not inputs.grams:
        return False
    return inputs.completed is None or ctx.result(inputs.allocation, "compensated", bool)


def _compensated(inputs: Inputs, ctx: Context, base: GgufHeader, output: Path) -> CompensatedValues:
    """Puts compensated values into the written file, tensor by tensor, and reads them back."""
    assert inputs.grams
    ggml = Ggml(load_bindings(ctx.toolchain).llama_cpp._lib)
    values, written = ctx.compensated_by(inputs.grams, ggml, base), read_header(output)
    kept, bare, n_changed = [], [], 0
    for i, tensor in enumerate(written.tensors):
        ctx.progress(i, len(written.tensors))
        if len(tensor.ne) < 2 or tensor.ggml_type in UNQUANTIZED:
            continue
        data = values.stored(tensor.name, tensor.ggml_type)
        verdict = values.verdict(tensor.name, tensor.ggml_type)
        if data is None:
            kept.append(KeptStock(tensor=tensor.name, why=verdict.kept))
            continue
        overwrite(written, tensor.name, data)
        n_changed += 1
        if verdict.without_tokens:
            bare.append(BareExperts(tensor=tensor.name, experts=tuple(verdict.without_tokens)))
    return CompensatedValues(n_tensors=n_changed, kept=tuple(kept), without_tokens=tuple(bare))


def _general(
    inputs: Inputs, ctx: Context, base: GgufHeader, planned: tuple[TensorInfo, ...], allocation: Allocation
) -> dict[str, str | int]:
    """Keys of the base that would say something untrue of the file."""
    keys: dict[str, str | int] = {}
    if inputs.licence and inputs.licence != base.text("general.license"):
        keys["general.license"] = inputs.licence
    if (label := base.text("general.size_label")) and allocation.pruned_layers:
        keys["general.size_label"] = fitting_label(label, planned)
    if inputs.completed and not ctx.result(inputs.allocation, "plain_imatrix", bool):
        keys["general.file_type"] = FTYPES[mostly(allocation)][0]
    return keys


def mostly(allocation: Allocation) -> str:
    """The ftype of the type that most of its tensors have, as llama.cpp guesses it where no key tells.

    Source: src/llama-model-loader.cpp, ``ftype_max``.
    """
    types = dict(allocation.types)
    if not (counts := Counter(types[name] for name in allocation.quantizable)):
        return allocation.ftype
    label = counts.most_common(1)[0][0].upper()
    if FTYPES.get(allocation.ftype, (0, ""))[1].upper() == label:
        return allocation.ftype
    return next((name for name in (label, f"{label}_M") if name in FTYPES), allocation.ftype)


def own_metadata(inputs: Inputs, ctx: Context, base: Made, allocation: Allocation) -> dict[str, str | int]:
    """The keys that lwq adds: what the file was made from, with which llama.cpp and which types."""
    keys: dict[str, str | int] = {
        "lwq.base_sha256": ctx.sha256(base),
        "lwq.llama_cpp_commit": ctx.toolchain.commit,
        "lwq.tensor_types_sha256": hashlib.sha256(allocation.lines().encode()).hexdigest(),
    }
    if allocation.pruned_layers:
        keys["lwq.pruned_layers"] = ",".join(map(str, allocation.pruned_layers))
    if inputs.quantized_by:
        keys["general.quantized_by"] = inputs.quantized_by
    return keys


def _origins(inputs: Inputs, ctx: Context) -> tuple[Made, Origin | None]:
    """The base and the importance matrix that the allocation was found with.

    A search that chose the stock mix chose it with the importance matrix that stock mixes use.
    """
    step, key = inputs.allocation.step, inputs.allocation.key
    if inputs.may_be_cut and (file := ctx.result(inputs.allocation, "cut_file", str)):
        imatrix = ctx.result(inputs.allocation, "imatrix_file", str)
        return Made(step=step, key=key, name=file), Made(step=step, key=key, name=imatrix)
    if inputs.completed is None or ctx.result(inputs.allocation, "plain_imatrix", bool):
        return inputs.base, inputs.imatrix
    return inputs.base, inputs.completed


def _imatrix_keys(used: Origin | None, ctx: Context) -> dict[str, Scalar]:
    if used is None:
        return {}
    imatrix = read_imatrix(ctx.find(used))
    return imatrix_kv(
        file_name=used.name,
        datasets=imatrix.datasets,
        n_entries=len(imatrix.entries),
        n_chunks=imatrix.n_chunks,
    )
