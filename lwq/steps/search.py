"""The allocation of one target within its budget: exact for the predicted damage, then measured against its rivals.

Order: extra probes where the allocation would use a type that no probe was near; the best allocations for a few
growth exponents; a race with the stock mix of the budget and hand-written mixes; swaps that keep the size; what leads
beside the stock mix on the text's other half. The stock mix is never dropped, and ships unless that is surely better.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lwq.bits.confirmation import halves
from lwq.bits.contest import EXPONENTS, N_PROBE_WINDOWS, N_PROBES, N_SWAPS, Choice, Contest, probe
from lwq.bits.damage import with_gains
from lwq.bits.knapsack import BudgetError
from lwq.bits.mixes import Mixer, probed
from lwq.bits.pacing import Gate, Timer
from lwq.bits.problem import Problem
from lwq.bits.race import Runner
from lwq.bits.settled import completed, settle
from lwq.bits.stock import StockMix, budget_bytes, is_refused, mix_and_bytes, unread_types, with_unread
from lwq.engine.engine import Engine
from lwq.engine.session import spread_over
from lwq.gguf.allocation import Allocation
from lwq.gguf.header import read_header
from lwq.gguf.imatrix import read_imatrix
from lwq.gguf.importance import importance_rows
from lwq.llama.requests import DryRunRequest
from lwq.metrics.arrays import Floats
from lwq.recipe.budget import Budget
from lwq.recipe.constraints import Constraints
from lwq.record.search import Pace, Search, TensorSensitivity, budget_and_pace, nothing_fits, stock_name
from lwq.steps.step import Context, Given, Made, Origin
from lwq.values.grams import Gain

NAME = "search"
VERSION = 5
USES_TOOLS = True
IN_PROCESS = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """A hand-written mix of the recipe that is a candidate too, if it fits."""

    name: str
    allocation: Made


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    base: Made
    imatrix: Origin
    """As llama-imatrix wrote it: the stock mix uses this one."""
    sensitivity: Made
    """The step, and the importance matrix with the output tensor that it wrote."""
    budget: Budget
    ftype: str
    """Label of the file; the stock ftype nearest in size when empty."""
    constraints: Constraints
    probe_text: Given
    probe_n_ctx: int
    text: Given
    n_ctx: int
    n_windows: int
    n_confirmation_windows: int
    rivals: tuple[Rival, ...]
    optional: bool
    """A budget that nothing fits is no error: layers may go."""
    grams: Made | None
    """What values are compensated with; None: files have the values that llama-quantize chooses."""
    paced: Made | None
    """The step that measured up to which size files are fast enough, where a least speed is asked for."""
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    allocation: Allocation | None
    """None where ``optional`` and nothing fits."""
    search: Search
    tensor_types_file: str | None = None
    tensor_bytes: int = 0
    n_params: int = 0
    bpw: float = 0.0
    plain_imatrix: bool = False
    """The stock mix was chosen, with the importance matrix that it always uses."""
    compensated: bool = False
    """The file gets compensated values."""


def run(inputs: Inputs, ctx: Context) -> Result:
    """The chosen allocation, its tensor-type file, and how it was found.

    Raises:
        BudgetError: nothing allowed is small enough.
        ModelError: an imatrix of another model; logits that are not finite; a text without two windows.
    """
    setting = _setting(inputs, ctx)
    try:
        choice, contest = _contested(inputs, ctx, setting)
    except BudgetError as error:
        if not inputs.optional:
            raise
        budget = budget_and_pace(str(inputs.budget), setting.paces)
        return Result(allocation=None, search=nothing_fits(budget, setting.stated_bytes, error.message, setting.paces))
    return _written(inputs, ctx, setting, choice, _recorded(inputs, setting, choice, contest))


@dataclass(frozen=True, slots=True, kw_only=True)
class _SearchSetting:
    """What is known before anything is measured."""

    problem: Problem
    importance: Mapping[str, Floats]
    plain: Mapping[str, Floats]
    """The same without the output tensor: what the stock mix uses."""
    stock: StockMix
    stated_bytes: int
    budget_bytes: int
    """What a least speed leaves of them."""
    paces: tuple[Pace, ...]

    @property
    def unweighted(self) -> frozenset[str]:
        """Tensors without data in the importance matrix that the stock mix uses."""
        return frozenset(t.name for t in self.problem.targets if t.name not in self.plain)


def _setting(inputs: Inputs, ctx: Context) -> _SearchSetting:
    header = read_header(ctx.find(inputs.base))
    tensors = ctx.result(inputs.sensitivity, "tensors", tuple[TensorSensitivity, ...])
    if inputs.grams:
        tensors = with_gains(
            tensors, {g.tensor: dict(g.ratios) for g in ctx.result(inputs.grams, "gains", tuple[Gain, ...])}
        )
    measured = {t.tensor for t in tensors}
    targets = tuple(t for t in header.tensors if t.name in measured)
    plain = importance_rows(read_imatrix(ctx.find(inputs.imatrix)).entries, targets)
    paces = ctx.result(inputs.paced, "paces", tuple[Pace, ...]) if inputs.paced else ()
    stock_mix_of = ctx.stock_mixes(inputs.base, inputs.imatrix)

    def writable(mix: StockMix) -> bool:
        return all(t.name in plain or not is_refused(t.name, mix.types[t.name]) for t in targets)

    stated = budget_bytes(inputs.budget, header, stock_mix_of)
    within = paces[0].limit if paces else int
    stock, n_bytes = mix_and_bytes(inputs.budget, header, stock_mix_of, writable, within)
    problem = Problem(header=header, tensors=tensors, constraints=with_unread(inputs.constraints, tensors, stock))
    problem.check()
    return _SearchSetting(
        problem=problem,
        importance=importance_rows(read_imatrix(ctx.find(inputs.sensitivity)).entries, targets),
        plain=plain,
        stock=stock,
        stated_bytes=stated,
        budget_bytes=n_bytes,
        paces=paces,
    )


def _ftype(inputs: Inputs, setting: _SearchSetting) -> str:
    return inputs.ftype or setting.stock.ftype


def _gate(inputs: Inputs, ctx: Context, setting: _SearchSetting) -> Gate | None:
    """What tells whether a mix is fast enough, where that is asked for and the whole model can be."""
    if not inputs.paced or setting.paces[0].n_bytes is None:
        return None
    ftype = _ftype(inputs, setting)
    return Gate(
        timer=Timer(toolchain=ctx.toolchain, folder=ctx.folder, n_threads=ctx.n_threads, ftype=ftype),
        base=ctx.place(inputs.base),
        imatrix=ctx.place(inputs.sensitivity),
        wanted=setting.paces[0].wanted,
        passed=setting.problem.solved(setting.paces[0].n_bytes).types,
        pieces=ctx.pieces(inputs.paced.key),
    )


def _contested(inputs: Inputs, ctx: Context, setting: _SearchSetting) -> tuple[Choice, Contest]:
    """Probes, race, swaps and the choice.

    Raises:
        BudgetError: nothing allowed is small enough, or fast enough.
    """
    if setting.paces and setting.paces[0].is_too_slow:
        raise BudgetError(str(setting.paces[0]), hint="lower min_tg, or allow smaller types")
    problem, base, gate = setting.problem, ctx.find(inputs.base), _gate(inputs, ctx, setting)
    on_done = ctx.counted(N_PROBES + N_SWAPS + 3 * (1 + len(EXPONENTS) + len(inputs.rivals)) + 2)
    with Engine(ctx.toolchain, base, n_ctx=inputs.probe_n_ctx, n_threads=ctx.n_threads) as engine:
        windows = spread_over(engine.cut(ctx.find(inputs.probe_text).read_bytes().decode()), N_PROBE_WINDOWS)
        engine.set_windows(windows, scored=probed(engine.n_ctx))
        pieces = ctx.pieces((inputs.grams or inputs.sensitivity).key)
        probe(problem, setting.budget_bytes, _mixer(inputs, ctx, setting, engine), pieces, on_done)
    fits = setting.stock.n_bytes <= setting.budget_bytes
    contest = Contest(problem=problem, budget_bytes=setting.budget_bytes, stock=_stock(setting), stock_fits=fits)
    with Engine(ctx.toolchain, base, n_ctx=inputs.n_ctx, n_threads=ctx.n_threads) as engine:
        choosing, confirming = halves(engine.cut_file(ctx.find(inputs.text), inputs.text.name))
        engine.set_windows(spread_over(choosing, inputs.n_windows))
        contest.enter(gate.passed if gate else None, _rivals(inputs, ctx, setting))
        mixer = _mixer(inputs, ctx, setting, engine)
        contest.run(mixer, on_done)
        confirming = spread_over(confirming, inputs.n_confirmation_windows)
        contest.confirm(mixer, confirming, on_done, n=None if gate else 1)  # the best may prove too slow
    return contest.choice(gate.too_slow if gate else lambda types: ""), contest


def _mixer(inputs: Inputs, ctx: Context, setting: _SearchSetting, engine: Engine) -> Mixer:
    if not inputs.grams:
        return Mixer(engine, setting.importance)
    values = ctx.compensated_by(inputs.grams, engine.ggml, engine.header)
    return Mixer(engine, setting.importance, compensated=values)


def _stock(setting: _SearchSetting) -> Runner:
    """The stock mix of the budget, with the importance matrix that it always uses."""
    problem, mix = setting.problem, setting.stock
    types = {t.name: mix.types[t.name] for t in problem.targets} | unread_types(problem.tensors, mix)
    return Runner(
        name=stock_name(setting.stock.ftype),
        types=types,
        kind="stock",
        unweighted=setting.unweighted,
        must_finish=True,
        obstacle=problem.obstacle(types, problem.n_bytes(types), setting.budget_bytes),
    )


def _rivals(inputs: Inputs, ctx: Context, setting: _SearchSetting) -> Iterator[Runner]:
    """The hand-written mixes that fit."""
    problem = setting.problem
    names = {t.name for t in problem.targets}
    for rival in inputs.rivals:
        allocation = ctx.result(rival.allocation, "allocation", Allocation)
        if allocation.pruned_layers:
            continue
        types = {name: q for name, q in allocation.types if name in names}
        if not problem.obstacle(types, problem.n_bytes(types), setting.budget_bytes):
            yield Runner(name=rival.name, types=types, kind="hand")


def _recorded(inputs: Inputs, setting: _SearchSetting, choice: Choice, contest: Contest) -> Search:
    return Search(
        budget=budget_and_pace(str(inputs.budget), setting.paces),
        budget_bytes=setting.stated_bytes,
        chosen=choice.chosen.name,
        reason=choice.reason,
        stock_difference=choice.stock_difference,
        candidates=choice.candidates,
        scale=choice.scale,
        exponent=choice.exponent,
        n_probes=len(setting.problem.probes),
        n_swaps=contest.polish.n_tried if contest.polish else 0,
        paces=setting.paces,
        confirmation=choice.confirmation,
    )


def _written(inputs: Inputs, ctx: Context, setting: _SearchSetting, choice: Choice, search: Search) -> Result:
    """The allocation as a tensor-type file that llama-quantize is seen to obey."""
    imatrix = ctx.place(inputs.imatrix if choice.is_stock else inputs.sensitivity)
    request = DryRunRequest(model=ctx.place(inputs.base), ftype=_ftype(inputs, setting), imatrix=imatrix)
    allocation = completed(ctx.toolchain, choice.chosen.types, request, cwd=ctx.folder)
    header = setting.problem.header
    settled, obeyed = settle(ctx.toolchain, header, allocation, request, inputs.file, cwd=ctx.folder)
    if obeyed:
        ctx.ran(obeyed)
    compensated = inputs.grams is not None and choice.chosen.rounding is None
    return Result(plain_imatrix=choice.is_stock, compensated=compensated, search=search, **settled.fields())
