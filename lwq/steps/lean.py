"""Bits *and* layers under one budget: the searched allocation against allocations without the healed sets of layers.

The unpruned allocation and the stock mix are always candidates; a removal is chosen only where its KLD is surely lower
on windows of the selection text that nothing was chosen by, or where the budget cannot hold all layers. Then the pruned
base is written, its importance matrix collected anew, and the file is made of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from lwq.bits.confirmation import Gap
from lwq.bits.damage import TensorDamage, damages
from lwq.bits.knapsack import BudgetError
from lwq.bits.mixes import Mixer
from lwq.bits.output_importance import output_entry, write_with
from lwq.bits.settled import Settled, completed, settle
from lwq.bits.stock import StockMix, mix_and_bytes, with_unread
from lwq.engine.engine import Engine
from lwq.engine.session import spread_over
from lwq.gguf.allocation import Allocation
from lwq.gguf.header import GgufHeader, read_header
from lwq.gguf.imatrix import read_imatrix
from lwq.gguf.importance import importance_rows
from lwq.gguf.types import renumber
from lwq.layers.lean import Lean, Weighing, lean_candidates, verdict
from lwq.layers.pruned_base import Cut, Proof, cut_command, read_repairs, write_proved
from lwq.llama import tools
from lwq.llama.covering import collect_covering
from lwq.llama.requests import DryRunRequest, TextRequest, Window
from lwq.metrics.arrays import Floats
from lwq.recipe.budget import Budget
from lwq.recipe.constraints import Constraints
from lwq.record.prune import HealedSet
from lwq.record.search import Search, SearchCandidate, TensorSensitivity
from lwq.steps.step import Context, Given, Made, Origin
from lwq.store.files import link_or_copy

NAME = "lean"
VERSION = 3
USES_TOOLS = True
IN_PROCESS = True
_N_OUTPUT = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    base: Made
    imatrix: Origin
    sensitivity: Made
    search: Made
    """The best allocation of the whole model, if one fits."""
    heal: Made
    """Sets of layers that may go, healed."""
    budget: Budget
    ftype: str
    constraints: Constraints
    fit_text: Given
    fit_n_ctx: int
    fit_n_chunks: int | None
    min_expert_tokens: int
    process_output: bool
    text: Given
    n_ctx: int
    n_windows: int
    n_confirmation_windows: int
    file: str
    cut_file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result(Settled):
    plain_imatrix: bool
    search: Search
    cut_file: str
    """The pruned base that the file is made of; empty where every layer stays."""
    imatrix_file: str
    """That base's importance matrix."""
    healed: HealedSet | None


def run(inputs: Inputs, ctx: Context) -> Result:
    """The allocation that measured best, of the whole model or of one without some layers.

    Raises:
        BudgetError: not even the model without all sets of layers fits.
    """
    setting = _setting(inputs, ctx)
    candidates = _candidates(inputs, setting)
    best, gap = _measured(inputs, ctx, setting, candidates)
    chosen = best if best and (gap is None or gap.is_lower) else None
    search = replace(
        setting.search,
        pruning=verdict(best, gap, len(candidates), setting.search.chosen),
        candidates=(*setting.search.candidates, *(_recorded(lean, chosen) for lean in candidates)),
    )
    if chosen:
        return _pruned(inputs, ctx, setting, chosen, _won(search, chosen))
    return _unpruned(inputs, ctx, search)


@dataclass(frozen=True, slots=True, kw_only=True)
class _LeanSetting:
    """What is known before anything is measured."""

    header: GgufHeader
    sets: tuple[HealedSet, ...]
    whole: Allocation | None
    """The best allocation with all layers, if one fits."""
    search: Search
    known: Mapping[str, TensorDamage]
    constraints: Constraints
    importance: Mapping[str, Floats]
    stock: StockMix
    budget_bytes: int


def _setting(inputs: Inputs, ctx: Context) -> _LeanSetting:
    header = read_header(ctx.find(inputs.base))
    fits = ctx.entries[inputs.search.key].result["allocation"] is not None
    tensors = ctx.result(inputs.sensitivity, "tensors", tuple[TensorSensitivity, ...])
    stock, budget_bytes = mix_and_bytes(inputs.budget, header, ctx.stock_mixes(inputs.base, inputs.imatrix))
    return _LeanSetting(
        header=header,
        sets=ctx.result(inputs.heal, "sets", tuple[HealedSet, ...]),
        whole=ctx.result(inputs.search, "allocation", Allocation) if fits else None,
        search=ctx.result(inputs.search, "search", Search),
        known=damages(tensors, {}),
        constraints=with_unread(inputs.constraints, tensors, stock),
        importance=importance_rows(read_imatrix(ctx.find(inputs.sensitivity)).entries, header.tensors),
        stock=stock,
        budget_bytes=budget_bytes,
    )


def _candidates(inputs: Inputs, setting: _LeanSetting) -> list[Lean]:
    """The best predicted allocation without each set of layers, where one fits.

    Raises:
        BudgetError: none fits, nor one with all layers.
    """
    header, known, paces = setting.header, setting.known, setting.search.paces
    limit = setting.budget_bytes
    candidates = list(lean_candidates(header, known, setting.constraints, limit, setting.sets, paces))
    if candidates or setting.whole:
        return candidates
    slow = [p for p in paces if p.is_too_slow]
    why = str(max(slow, key=lambda p: p.fastest.value)) if slow else "the smallest allowed types take more"
    raise BudgetError(
        f"the budget is {limit:,} bytes of tensors; {why}, even without"
        f" {max((len(s.layers) for s in setting.sets), default=0)} layers",
        hint=f"raise the budget, allow smaller types, {'lower min_tg, ' if slow else ''}or let more layers go"
        " ([pruning] max_layers)",
    )


def _measured(
    inputs: Inputs, ctx: Context, setting: _LeanSetting, candidates: list[Lean]
) -> tuple[Lean | None, Gap | None]:
    """The best pruned candidate, and its KLD less that of the unpruned choice (None where that does not fit)."""
    if not candidates:
        return None, None
    with Engine(ctx.toolchain, setting.header.path, n_ctx=inputs.n_ctx, n_threads=ctx.n_threads) as engine:
        weighing = Weighing(
            engine=engine,
            importance=setting.importance,
            put_whole=partial(_put_whole, inputs, ctx, setting, engine) if setting.whole else None,
            repairs=partial(_repairs, inputs, ctx),
            on_done=ctx.counted(3 * len(setting.sets)),
        )
        text = engine.cut(ctx.find(inputs.text).read_bytes().decode())
        return weighing.weigh(candidates, text, inputs.n_windows, inputs.n_confirmation_windows)


def _put_whole(inputs: Inputs, ctx: Context, setting: _LeanSetting, engine: Engine) -> None:
    """The best allocation with all layers, with the importance matrix that it was found with."""
    assert setting.whole
    unweighted: frozenset[str] = frozenset()
    if ctx.result(inputs.search, "plain_imatrix", bool):
        plain = importance_rows(read_imatrix(ctx.find(inputs.imatrix)).entries, setting.header.tensors)
        unweighted = frozenset(name for name in setting.known if name not in plain)
    mix = {name: q for name, q in setting.whole.types if name in setting.known}
    Mixer(engine, setting.importance).put(mix, unweighted)


def _repairs(inputs: Inputs, ctx: Context, lean: Lean) -> dict[str, Floats]:
    file = lean.healed.file
    return read_repairs(ctx.entries[inputs.heal.key].path(file)) if file else {}


def _recorded(lean: Lean, chosen: Lean | None) -> SearchCandidate:
    assert lean.scores
    return SearchCandidate(
        name=lean.name,
        n_bytes=lean.n_bytes,
        predicted_kld=lean.predicted,
        kld=lean.scores.estimate(),
        n_windows=len(lean.scores.kld),
        verdict="chosen" if lean is chosen else lean.dropped or "not surely better than with all layers",
    )


def _won(search: Search, chosen: Lean) -> Search:
    """The search's record where a removal was chosen over all that it had."""
    candidates = (
        replace(c, verdict="best with all layers") if c.name == search.chosen else c for c in search.candidates
    )
    return replace(
        search,
        chosen=chosen.name,
        stock_difference=None,
        pruned_layers=chosen.healed.layers,
        candidates=tuple(candidates),
    )


def _unpruned(inputs: Inputs, ctx: Context, search: Search) -> Result:
    """The searched allocation as it was."""
    link_or_copy(ctx.entries[inputs.search.key].path(inputs.search.name), ctx.folder / inputs.file)
    return Result(
        plain_imatrix=ctx.result(inputs.search, "plain_imatrix", bool),
        search=search,
        cut_file="",
        imatrix_file="",
        healed=None,
        **ctx.read(inputs.search, Settled).fields(),
    )


def _pruned(inputs: Inputs, ctx: Context, setting: _LeanSetting, lean: Lean, search: Search) -> Result:
    """The pruned base, its importance matrix, and the allocation of what stays."""
    _write_base(inputs, ctx, setting, lean)
    imatrix = _collect(inputs, ctx)
    header = read_header(ctx.folder / inputs.cut_file)
    types = {renumber(name, lean.healed.layers): q for name, q in lean.types.items()}
    renamed = {t.name: types[t.name] for t in header.tensors if t.name in types}
    request = DryRunRequest(model=inputs.cut_file, ftype=_label(inputs, ctx, setting, lean), imatrix=imatrix)
    allocation = completed(ctx.toolchain, renamed, request, cwd=ctx.folder)
    settled, _ = settle(ctx.toolchain, header, allocation, request, inputs.file, cwd=ctx.folder)
    return Result(
        plain_imatrix=False,
        search=search,
        cut_file=inputs.cut_file,
        imatrix_file=imatrix,
        healed=lean.healed,
        **settled.fields(),
    )


def _label(inputs: Inputs, ctx: Context, setting: _LeanSetting, lean: Lean) -> str:
    """The ftype that was asked for, or that of the largest stock mix within the file's size."""
    if inputs.ftype or not setting.search.paces:
        return inputs.ftype or setting.stock.ftype
    stock_mix_of = ctx.stock_mixes(inputs.base, inputs.imatrix)
    return mix_and_bytes(inputs.budget, setting.header, stock_mix_of, within=lambda _: lean.n_bytes)[0].ftype


def _write_base(inputs: Inputs, ctx: Context, setting: _LeanSetting, lean: Lean) -> None:
    header, layers = setting.header, lean.healed.layers
    ctx.commands.append(cut_command(header, inputs.base.name, layers, lean.healed.file, inputs.cut_file))
    cut = Cut(layers=layers, tensors=_repairs(inputs, ctx, lean))
    text = ctx.find(inputs.fit_text).read_bytes().decode()
    proof = Proof(text=text, name=inputs.fit_text.name, n_ctx=inputs.fit_n_ctx, n_threads=ctx.n_threads)
    write_proved(ctx.toolchain, header, cut, ctx.folder / inputs.cut_file, ctx.sha256(inputs.base), proof)


def _collect(inputs: Inputs, ctx: Context) -> str:
    """The pruned base's own importance matrix, with its output tensor, by name."""
    stem = inputs.cut_file.removesuffix(".gguf")
    plain, with_output = f"{stem}-imatrix.gguf", f"{stem}-imatrix-output.gguf"
    request = TextRequest(
        model=inputs.cut_file,
        text=ctx.place(inputs.fit_text),
        window=Window(n_ctx=inputs.fit_n_ctx, n_chunks=inputs.fit_n_chunks),
        output=plain,
    )
    collect = partial(
        tools.imatrix,
        ctx.toolchain,
        cwd=ctx.folder,
        threads=ctx.n_threads,
        process_output=inputs.process_output,
    )
    for each in collect_covering(collect, request, inputs.min_expert_tokens, ctx.folder).runs:
        ctx.ran(each)
    base = ctx.folder / inputs.cut_file
    with Engine(ctx.toolchain, base, n_ctx=inputs.fit_n_ctx, n_threads=ctx.n_threads) as engine:
        windows = engine.cut(ctx.find(inputs.fit_text).read_bytes().decode())
        engine.set_windows(windows[:1])
        entries = read_imatrix(ctx.folder / plain).entries
        added = output_entry(engine, spread_over(windows, _N_OUTPUT), entries)
    write_with(ctx.folder / plain, added, ctx.folder / with_output)
    return with_output
