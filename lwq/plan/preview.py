"""What a recipe will cost and give, before it runs: steps to do, time, disk, sizes of the files."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lwq.bits.stock import StockMix, mix_and_bytes, stock_mix
from lwq.errors import ModelError
from lwq.gguf.data import write_gguf
from lwq.gguf.header import GgufHeader
from lwq.gguf.size import planned_tensors, predicted_file_bytes
from lwq.gguf.types import bits_per_weight
from lwq.layers.pruning import check_count, check_layers, prune_obstacle, without_layers
from lwq.llama import tools
from lwq.llama.requests import DryRunRequest, logits_bytes
from lwq.llama.toolchain import Toolchain
from lwq.plan.lines import sets_wanted
from lwq.recipe.budget import Budget, parse_size
from lwq.recipe.schema import Recipe
from lwq.recipe.target import Target
from lwq.steps.step import Step
from lwq.store.cache import Cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Steps that are not in the cache, and seconds for them where like steps have run before."""

    n_missing: int
    seconds: float | None
    unknown: tuple[str, ...] = ()
    """Kinds of costly steps that are missing and have never run here: not in the seconds."""


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
    obstacle: str | None
    """Why its layers cannot be pruned rightly, or None."""


def forecast(steps: tuple[Step, ...], cache: Cache, work: dict[str, float]) -> Forecast:
    """Missing steps, and their time at the pace of earlier steps of the same kind.

    Args:
        work: label → amount of work, in units that only need to agree within a kind of step.
    """
    missing = [step for step in steps if cache.lookup(step.module.NAME, step.key) is None]
    paces: dict[str, list[float]] = {}
    for entry in cache.entries():
        if entry.work:
            paces.setdefault(entry.step, []).append(entry.seconds / entry.work)
    costly = [step for step in missing if step.label in work]
    known = [step for step in costly if step.module.NAME in paces]
    seconds = sum(statistics.median(paces[step.module.NAME]) * work[step.label] for step in known)
    unknown = dict.fromkeys(step.module.NAME for step in costly if step.module.NAME not in paces)
    told = seconds if known or not costly else None
    return Forecast(n_missing=len(missing), seconds=told, unknown=tuple(unknown))


def planned_files(recipe: Recipe, header: GgufHeader, toolchain: Toolchain) -> tuple[PlannedFile, ...]:
    """Every target's size as llama-quantize predicts it in a dry run on ``header``'s file.

    With an imatrix a few mixtures choose other types; that there is one is all that matters, so a
    one-entry matrix stands for the real one here.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
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


def check_targets(recipe: Recipe, n_layer: int) -> None:
    """Raises ModelError for layers of a recipe, named or counted, that the model cannot lose, before anything runs."""
    allow_edge = recipe.pruning.allow_edge
    for target in recipe.targets:
        check_layers(target.prune_layers, n_layer, allow_edge=allow_edge)
        if isinstance(target.prune, int):
            check_count(target.prune, n_layer, allow_edge=allow_edge)


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
        obstacle=_obstacle(target, header),
    )


def _obstacle(target: Target, header: GgufHeader) -> str | None:
    """Why the layers named by hand cannot go rightly, or None."""
    if not target.prune_layers:
        return None
    said = (header.architecture, header.n_layer, header.metadata, target.prune_layers)
    if not target.is_cut():
        return prune_obstacle(*said)
    try:
        without_layers(*said)
    except ModelError as error:
        return error.message
    return None


def _within(
    name: str, ftype: str, budget: Budget, header: GgufHeader, toolchain: Toolchain, folder: Path
) -> PlannedFile:
    """A file within a budget: it will be no larger than this."""

    def of(label: str) -> StockMix:
        return stock_mix(toolchain, header, label, cwd=folder, model=header.path.name, imatrix="imatrix.gguf")

    mix, n_bytes = mix_and_bytes(budget, header, of)
    around = predicted_file_bytes(header, types=mix.types) - mix.n_bytes
    return PlannedFile(
        name=name,
        ftype=ftype or mix.ftype,
        tensor_bytes=n_bytes,
        file_bytes=n_bytes + around,
        n_params=header.n_params,
        bpw=8 * n_bytes / header.n_params,
        n_fallback=0,
        obstacle=None,
    )


def disk_bytes(recipe: Recipe, header: GgufHeader, files: Iterable[PlannedFile], text_bytes: dict[str, int]) -> int:
    """Bytes that a run adds to the cache at most: base, pruned bases, files, and stored log-probabilities."""
    cuts = {(t.prune_layers, t.prune, t.is_healed()) for t in recipe.targets if t.is_pruned()}
    total = 2 * header.n_params * (1 + len(cuts)) + sum(f.file_bytes for f in files)
    for role, text in recipe.texts().items():
        if role != "calibration":
            n_chunks = text.n_chunks or text_bytes.get(role, 0) // text.n_ctx
            stored = logits_bytes(header.n_vocab, text.n_ctx, n_chunks)
            total += min(stored, parse_size(text.max_logits)) if text.max_logits else stored
    return total


def work_of(recipe: Recipe, header: GgufHeader, text_bytes: dict[str, int]) -> dict[str, float]:
    """Label, or kind of step, → parameters times tokens (or parameters alone) of each costly step."""
    n_params, n_layer = header.n_params, header.n_layer
    base = recipe.base_type.upper()
    rows = [base, *(t.name for t in recipe.targets), *(t.name for t in recipe.third_party)]
    work: dict[str, float] = {"convert": float(n_params)}
    work |= {f"quantize:{t.name}": float(n_params) for t in recipe.targets}
    for role, text in recipe.texts().items():
        tokens = text.n_ctx * (text.n_chunks or text_bytes.get(role, 0) / 4 / text.n_ctx)
        if role == "calibration":
            work["imatrix"] = n_params * tokens
            continue
        work[f"baseline:{role}"] = n_params * tokens
        work |= {f"evaluate:{row}:{role}": n_params * tokens for row in rows}
    if any(t.wanted() for t in recipe.targets):
        work["sensitivity"] = float(n_params * recipe.sensitivity.n_windows * recipe.calibration.n_ctx)
        work |= dict.fromkeys(("search", "lean", "pace"), float(n_params))
    if sets := sets_wanted(recipe):
        window = float(n_params * n_layer * recipe.calibration.n_ctx)
        work["prune"] = window * recipe.pruning.n_windows * (2 + max(sets))
        work["heal"] = window * recipe.pruning.n_fit_windows * len(sets)
    work |= {"cut": float(n_params), "parts": float(n_params)}
    for task in recipe.tasks:
        work |= {f"tasks:{row}:{task.name}": float(n_params * task.n_items * task.n_ctx) for row in rows}
    if recipe.bench.tests:
        work["bench"] = float(n_params * recipe.bench.repetitions * len(recipe.bench.tests) * len(rows))
    return work
