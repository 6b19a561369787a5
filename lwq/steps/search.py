"""The allocation of one target within its budget: exact for the predicted damage, then measured against its rivals.

Order: extra probes where the allocation would use a type that no probe was near; the best allocations for a few
growth exponents; a race with the stock mix of the budget and hand-written mixes; swaps that keep the size. The stock
mix is never dropped, and ships unless something is surely better.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from lwq.bits.damage import TensorDamage, damages, fit_interaction, most_extrapolated, sum_of
from lwq.bits.knapsack import BudgetError, Group, solve
from lwq.bits.mixes import Mixer, probed
from lwq.bits.options import check_ties, groups, spread
from lwq.bits.pacing import Gate, Timer
from lwq.bits.race import Polish, Runner, choose, entered_as, proposals, race, reason, rounds_of
from lwq.bits.stock import StockMix, budget_bytes, is_refused, mix_and_bytes, obstacle, settled
from lwq.engine.engine import Engine
from lwq.engine.session import spread_over
from lwq.gguf.allocation import Allocation
from lwq.gguf.header import GgufHeader, read_header
from lwq.gguf.imatrix import read_imatrix
from lwq.gguf.importance import importance_rows
from lwq.gguf.size import planned_tensors
from lwq.gguf.types import bits_per_weight, tensor_bytes
from lwq.llama.requests import DryRunRequest
from lwq.metrics.arrays import Tokens
from lwq.recipe.budget import Budget
from lwq.recipe.constraints import Constraints
from lwq.record.search import Pace, Search, TensorSensitivity, nothing_fits, said, stock_name
from lwq.steps.step import Context, Given, Made, Origin

NAME = "search"
VERSION = 2
USES_TOOLS = True
EXPONENTS: Final = (1.0, 0.9, 1.1)
N_PROBES: Final = 10
N_SWAPS: Final = 4
N_PROBE_WINDOWS: Final = 2


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
    rivals: tuple[Rival, ...]
    optional: bool
    """A budget that nothing fits is no error: layers may go."""
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


def run(inputs: Inputs, ctx: Context) -> Result:
    """The chosen allocation, its tensor-type file, and how it was found.

    Raises:
        BudgetError: nothing allowed is small enough.
        ModelError: an imatrix of another model; logits that are not finite; a text without two windows.
    """
    search = _Search(inputs, ctx)
    try:
        return search.result()
    except BudgetError as error:
        if not inputs.optional:
            raise
        nothing = nothing_fits(said(str(inputs.budget), search.paces), search.stated_bytes, error.message, search.paces)
        return Result(allocation=None, search=nothing)


@dataclass(slots=True, kw_only=True)
class _Field:
    """Who runs, and what each predicted allocation was made of."""

    runners: list[Runner]
    made_of: dict[str, tuple[dict[str, str], tuple[Group, ...]]] = field(default_factory=dict)


class _Search:
    """One target's search."""

    def __init__(self, inputs: Inputs, ctx: Context) -> None:
        self.inputs, self.ctx = inputs, ctx
        self.header: GgufHeader = read_header(ctx.find(inputs.base))
        self.tensors: tuple[TensorSensitivity, ...] = ctx.result(
            inputs.sensitivity, "tensors", tuple[TensorSensitivity, ...]
        )
        names = {t.tensor for t in self.tensors}
        self.targets = tuple(t for t in self.header.tensors if t.name in names)
        check_ties(self.targets, inputs.constraints)
        self.other_bytes = sum(t.n_bytes for t in self.header.tensors if t.name not in names)
        self.more: dict[tuple[str, str], float] = {}
        self.plain = importance_rows(read_imatrix(ctx.find(inputs.imatrix)).entries, self.targets)
        self.importance = importance_rows(read_imatrix(ctx.find(inputs.sensitivity)).entries, self.targets)
        self.stock_of = ctx.stock_mixes(inputs.base, inputs.imatrix)
        self.paces: tuple[Pace, ...] = ctx.result(inputs.paced, "paces", tuple[Pace, ...]) if inputs.paced else ()
        within = self.paces[0].limit if self.paces else int
        self.stated_bytes = budget_bytes(inputs.budget, self.header, self.stock_of)
        self.stock, self.budget_bytes = mix_and_bytes(inputs.budget, self.header, self.stock_of, self._writable, within)
        self.ftype = inputs.ftype or self.stock.ftype
        self.gate = self._gate()
        self.n_done = 0

    def _gate(self) -> Gate | None:
        """What tells whether a mix is fast enough, where that is asked for and the whole model can be."""
        inputs, ctx = self.inputs, self.ctx
        if not inputs.paced or self.paces[0].n_bytes is None:
            return None
        found = self._groups(1.0)
        return Gate(
            timer=Timer(toolchain=ctx.toolchain, folder=ctx.folder, n_threads=ctx.n_threads, ftype=self.ftype),
            base=ctx.place(inputs.base),
            imatrix=ctx.place(inputs.sensitivity),
            wanted=self.paces[0].wanted,
            passed=spread(solve(found, self.paces[0].n_bytes - self.other_bytes), found),
            pieces=ctx.pieces(inputs.paced.key),
        )

    def _writable(self, mix: StockMix) -> bool:
        return all(t.name in self.plain or not is_refused(t.name, mix.types[t.name]) for t in self.targets)

    # the candidates

    def result(self) -> Result:
        inputs, ctx = self.inputs, self.ctx
        if self.paces and self.paces[0].is_too_slow:
            raise BudgetError(str(self.paces[0]), hint="lower min_tg, or allow smaller types")
        with Engine(ctx.toolchain, ctx.find(inputs.base), n_ctx=inputs.probe_n_ctx, n_threads=ctx.n_threads) as engine:
            self._probe(engine, engine.cut(ctx.find(inputs.probe_text).read_bytes().decode()))
        with Engine(ctx.toolchain, ctx.find(inputs.base), n_ctx=inputs.n_ctx, n_threads=ctx.n_threads) as engine:
            windows = engine.cut_file(ctx.find(inputs.text), inputs.text.name)
            engine.set_windows(spread_over(windows, inputs.n_windows))
            mixer = Mixer(engine, self.importance)
            entered = self._field()
            race(mixer, entered.runners, rounds_of(len(engine.windows)), self._told)
            polish = self._polished(mixer, entered)
        return self._finished(entered, polish)

    def _told(self) -> None:
        self.n_done += 1
        most = N_PROBES + N_SWAPS + 3 * (1 + len(EXPONENTS) + len(self.inputs.rivals))
        self.ctx.progress(min(self.n_done, most), most)

    def _damages(self) -> dict[str, TensorDamage]:
        return damages(self.tensors, self.more)

    def _groups(self, exponent: float) -> tuple[Group, ...]:
        return groups(self.targets, self._damages(), self.inputs.constraints, exponent)

    def _solved(self, exponent: float) -> tuple[dict[str, str], tuple[Group, ...]]:
        found = self._groups(exponent)
        return solve(found, self.budget_bytes - self.other_bytes), found

    def _probe(self, engine: Engine, windows: Tokens) -> None:
        """Measures what the best allocation would use and no probe was near; twice, since it then changes its mind."""
        pieces = self.ctx.pieces(self.inputs.sensitivity.key)
        engine.set_windows(spread_over(windows, N_PROBE_WINDOWS), scored=probed(engine.n_ctx))
        mixer = Mixer(engine, self.importance)
        for _ in range(2):
            chosen, found = self._solved(1.0)
            for name, q in most_extrapolated(spread(chosen, found), self._damages(), N_PROBES // 2):
                value, _ = pieces.get(f"probe of {N_PROBE_WINDOWS}/{name}/{q}", partial(mixer.measured, name, q))
                self.more[name, q] = value
                self._told()

    def _field(self) -> _Field:
        """The stock mix of the budget, the best allocations by exponent, and the hand-written mixes that fit."""
        stock = {t.name: self.stock.types[t.name] for t in self.targets}
        unweighted = frozenset(t.name for t in self.targets if t.name not in self.plain)
        hurdle = self._obstacle(stock, self.stock.n_bytes)
        first = Runner(
            name=stock_name(self.stock.ftype),
            types=stock,
            kind="stock",
            unweighted=unweighted,
            must_finish=True,
            obstacle=hurdle,
        )
        entered = _Field(runners=[first])
        seen: list[dict[str, str]] = []
        for exponent in EXPONENTS:
            chosen, found = self._solved(exponent)
            types = spread(chosen, found)
            if types not in seen:
                seen.append(types)
                name = f"allocation, exponent {exponent:g}"
                entered.runners.append(Runner(name=name, types=types))
                entered.made_of[name] = (chosen, found)
        if self.gate and self.gate.passed not in seen:
            entered.runners.append(Runner(name="allocation that was timed", types=self.gate.passed, must_finish=True))
        entered.runners += list(self._rivals())
        return entered

    def _rivals(self) -> Iterator[Runner]:
        for rival in self.inputs.rivals:
            allocation: Allocation = self.ctx.result(rival.allocation, "allocation", Allocation)
            types = {name: q for name, q in allocation.types if name in {t.name for t in self.targets}}
            if not allocation.pruned_layers and not self._obstacle(types, self._bytes(types)):
                yield Runner(name=rival.name, types=types, kind="hand")

    def _obstacle(self, types: Mapping[str, str], n_bytes: int) -> str:
        if n_bytes > self.budget_bytes:
            return "larger than the budget"
        return obstacle(types, self._groups(1.0), self.inputs.constraints)

    def _bytes(self, types: Mapping[str, str]) -> int:
        return self.other_bytes + sum(tensor_bytes(t.ne, types[t.name]) for t in self.targets)

    def _polished(self, mixer: Mixer, entered: _Field) -> Polish | None:
        """The best allocation after size-neutral swaps, entered as a runner if any swap stayed."""
        left = [r for r in entered.runners if r.name in entered.made_of and not r.dropped]
        if not left:
            return None
        best = min(left, key=lambda r: r.kld)
        chosen, found = entered.made_of[best.name]
        spare = self.budget_bytes - self._bytes(best.types)
        mixer.put(best.types)
        assert best.scores
        by_name = {g.name: g for g in found}
        polish = Polish(mixer=mixer, groups=by_name, chosen=dict(chosen), scores=best.scores, on_done=self._told)
        polish.run(proposals(chosen, found, spare, N_SWAPS), spare)
        if polish.n_kept:
            name = f"{best.name}, {polish.n_kept} swap{'s' if polish.n_kept > 1 else ''}"
            entered.runners.append(Runner(name=name, types=spread(polish.chosen, found), scores=polish.scores))
        return polish

    # the choice

    def _finished(self, entered: _Field, polish: Polish | None) -> Result:
        stock = entered.runners[0]
        winner, gap = choose(entered.runners, self.gate.too_slow if self.gate else lambda types: "")
        sums = {r.name: sum_of(r.types, self._damages()) for r in entered.runners}
        raced = [r for r in entered.runners if r.scores]
        fitted = fit_interaction([sums[r.name] for r in raced], [r.kld for r in raced])
        search = Search(
            budget=said(str(self.inputs.budget), self.paces),
            budget_bytes=self.stated_bytes,
            chosen=winner.name,
            reason=reason(winner, stock, gap, self.stock.n_bytes <= self.budget_bytes),
            stock_difference=None if winner is stock else gap,
            candidates=tuple(
                entered_as(r, winner, self._bytes(r.types), fitted.damage_of_mix(sums[r.name])) for r in entered.runners
            ),
            scale=fitted.scale,
            exponent=fitted.exponent,
            n_probes=len(self.more),
            n_swaps=polish.n_tried if polish else 0,
            paces=self.paces,
        )
        return self._written(winner.types, search, plain=winner is stock)

    def _written(self, types: Mapping[str, str], search: Search, *, plain: bool) -> Result:
        """The allocation as a tensor-type file that llama-quantize is seen to obey."""
        inputs, ctx = self.inputs, self.ctx
        imatrix = ctx.place(inputs.imatrix if plain else inputs.sensitivity)
        request = DryRunRequest(model=ctx.place(inputs.base), ftype=self.ftype, imatrix=imatrix)
        allocation, obeyed = settled(ctx.toolchain, types, request, inputs.file, cwd=ctx.folder)
        ctx.ran(obeyed)
        tensors = planned_tensors(self.header, types=dict(allocation.types))
        return Result(
            allocation=allocation,
            tensor_types_file=inputs.file,
            tensor_bytes=sum(t.n_bytes for t in tensors),
            n_params=sum(t.n_elements for t in tensors),
            bpw=bits_per_weight(tensors),
            plain_imatrix=plain,
            search=search,
        )
