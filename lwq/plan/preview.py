"""What a recipe will give, before it runs: sizes of its files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from lwq.bits.stock import StockMix, is_refused, mix_and_bytes, stock_mix, without_data
from lwq.errors import ModelError
from lwq.gguf.header import GgufHeader
from lwq.gguf.size import planned_tensors, predicted_file_bytes
from lwq.gguf.types import TensorInfo, bits_per_weight, split_name
from lwq.gguf.write import write_gguf
from lwq.layers.pruning import check_layers, prune_obstacle, without_layers
from lwq.llama import tools
from lwq.llama.requests import DryRunRequest
from lwq.llama.toolchain import Toolchain
from lwq.recipe.budget import Budget
from lwq.recipe.schema import Recipe
from lwq.recipe.target import Target
from lwq.store.files import os_errors
from lwq.store.temporary import temporary_folder

_REPACKED: Final = ("q4_0", "q4_K", "q2_K", "iq4_nl")
"""Source: ggml/src/ggml-cpu/repack.cpp ``ggml_repack_get_optimal_repack_type``, on x86."""
_LOOKED_UP: Final = "token_embd.weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFile:
    """A file as it will be: predicted, not measured."""

    name: str
    ftype: str
    tensor_bytes: int
    file_bytes: int
    n_params: int
    bpw: float
    n_fallback: int
    obstacle: str
    """Why it cannot be made, and the way out; empty where nothing stands against it."""
    repacked_bytes: int
    """Of matrices whose type the CPU's kernels want in another order; half, where types are still to be found."""
    n_further: int = 0
    """Tensors of blocks that predict further tokens."""
    further_bytes: int = 0


def repacked_bytes(tensors: Iterable[TensorInfo]) -> int:
    """Of matrices whose type the CPU's kernels want in another order, which takes memory beside the mapped file."""
    return sum(t.n_bytes for t in tensors if t.ggml_type in _REPACKED and t.name != _LOOKED_UP)


def planned_files(recipe: Recipe, header: GgufHeader, toolchain: Toolchain) -> tuple[PlannedFile, ...]:
    """Every target's size as llama-quantize predicts it in a dry run on ``header``'s file.

    With an imatrix a few mixtures choose other types; that there is one is all that matters, so a
    one-entry matrix stands for the real one here.
    """
    with temporary_folder() as folder, os_errors("try a dry run", folder):
        for shard in header.shards:
            (folder / shard.path.name).symlink_to(shard.path.resolve())
        first = next(t for t in header.tensors if len(t.ne) > 1)
        entry = {
            f"{first.name}.in_sum2": np.ones((1, first.ne[0]), np.float32),
            f"{first.name}.counts": np.ones((1, 1), np.float32),
        }
        metadata = {"general.type": "imatrix", "imatrix.datasets": ["-"]}
        write_gguf(folder / "imatrix.gguf", {**metadata, "imatrix.chunk_count": 1, "imatrix.chunk_size": 512}, entry)
        edge = recipe.pruning.allow_edge
        return tuple(_planned(t, _gone(t, header, allow_edge=edge), header, toolchain, folder) for t in recipe.targets)


def check_files(files: Iterable[PlannedFile]) -> None:
    """Raises ModelError for files that cannot be made, before anything runs."""
    if told := [f"{file.name}: cannot be made: {file.obstacle}" for file in files if file.obstacle]:
        raise ModelError("\n".join(told))


def _gone(target: Target, header: GgufHeader, *, allow_edge: bool) -> tuple[int, ...]:
    """The layers that go; where they are still to be chosen, as many from the second on, which are as large."""
    n = target.prune if isinstance(target.prune, int) else 0
    return check_layers(target.prune_layers or range(1, 1 + n), header.n_layer, allow_edge=allow_edge)


def _planned(
    target: Target, layers: tuple[int, ...], header: GgufHeader, toolchain: Toolchain, folder: Path
) -> PlannedFile:
    if budget := target.wanted():
        return _within(target.name, target.ftype, budget, header, toolchain, folder)
    request = DryRunRequest(
        model=header.path.name,
        ftype=target.ftype,
        imatrix="imatrix.gguf" if target.imatrix else None,
        tensor_types=target.tensor_types,
        prune_layers=layers,
    )
    plan = tools.dry_run(toolchain, request, cwd=folder).plan
    types = {t.name: t.target_type for t in plan.tensors}
    tensors = planned_tensors(header, types=types, pruned=layers)
    return PlannedFile(
        name=target.name,
        ftype=target.ftype,
        tensor_bytes=sum(t.n_bytes for t in tensors),
        file_bytes=predicted_file_bytes(header, types=types, pruned=layers),
        n_params=sum(t.n_elements for t in tensors),
        bpw=bits_per_weight(tensors),
        n_fallback=plan.n_fallback,
        obstacle=_obstacle(target, header) or _without_data(header, types),
        repacked_bytes=repacked_bytes(tensors),
        **_further(tensors, header.n_layer - len(layers)),
    )


def _further(tensors: Iterable[TensorInfo], n_layer: int) -> dict[str, int]:
    """Tensors behind the layers of the next token, and their bytes."""
    beyond = [t for t in tensors if t.layer is not None and t.layer >= n_layer]
    return {"n_further": len(beyond), "further_bytes": sum(t.n_bytes for t in beyond)}


def _without_data(header: GgufHeader, types: Mapping[str, str]) -> str:
    """What stands against types that need importance data of blocks that no text reaches."""
    beyond = [(n, q) for n, q in types.items() if (split_name(n)[0] or 0) >= header.n_layer > 0 and is_refused(n, q)]
    if not beyond:
        return ""
    layer, (name, ggml_type) = split_name(beyond[0][0])[0], beyond[0]
    return (
        f"{name} would be {ggml_type}, which needs importance data, and no text reaches block {layer}: it predicts"
        f" further tokens; add tensor_types = ['blk\\.{layer}\\.={without_data(name, ggml_type)}'], or set"
        ' mtp = "drop"'
    )


def _obstacle(target: Target, header: GgufHeader) -> str:
    """Why the layers named by hand cannot go rightly; empty where they can."""
    if not target.prune_layers:
        return ""
    model_and_layers = (header.architecture, header.n_layer_all, header.metadata, target.prune_layers)
    if not target.is_cut():
        why = prune_obstacle(*model_and_layers)
        way_out = "heal = true lets lwq write the pruned base where that can be done"
        return f"llama-quantize would not prune these layers rightly: {why}; {way_out}" if why else ""
    try:
        without_layers(*model_and_layers)
    except ModelError as error:
        return f"{error.message} ({error.hint})"
    return ""


def _within(
    name: str, ftype: str, budget: Budget, header: GgufHeader, toolchain: Toolchain, folder: Path
) -> PlannedFile:
    """A file within a budget: it will be no larger than this."""

    def stock_mix_of(label: str) -> StockMix:
        return stock_mix(toolchain, header, label, cwd=folder, model=header.path.name, imatrix="imatrix.gguf")

    mix, n_bytes = mix_and_bytes(budget, header, stock_mix_of)
    around = predicted_file_bytes(header, types=mix.types) - mix.n_bytes
    return PlannedFile(
        name=name,
        ftype=ftype or mix.ftype,
        tensor_bytes=n_bytes,
        file_bytes=n_bytes + around,
        n_params=header.n_params,
        bpw=8 * n_bytes / header.n_params,
        n_fallback=0,
        obstacle="",
        repacked_bytes=n_bytes // 2,
        **_further(planned_tensors(header, types=mix.types), header.n_layer),
    )
