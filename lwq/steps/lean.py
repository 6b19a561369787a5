"""Bits *and* layers under one budget: the searched allocation against allocations without the healed sets of layers.

The unpruned allocation and the stock mix are always candidates; a removal is chosen only where its measured KLD on the
selection text is surely lower, or where the budget cannot hold all layers. Then the pruned base is written, its
importance matrix collected anew, and the file is made of both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lwq.bits.damage import damages
from lwq.bits.knapsack import BudgetError
from lwq.bits.mixes import Mixer, probed
from lwq.bits.output_importance import output_entry, write_with
from lwq.bits.race import difference, is_better
from lwq.bits.stock import mix_and_bytes, settled
from lwq.engine.engine import Engine
from lwq.engine.session import spread_over
from lwq.errors import ModelError
from lwq.gguf.allocation import Allocation
from lwq.gguf.header import read_header
from lwq.gguf.imatrix import read_imatrix
from lwq.gguf.importance import importance_rows
from lwq.gguf.size import planned_tensors
from lwq.gguf.types import bits_per_weight, renumber
from lwq.layers.lean import Lean, lean_candidates, score_lean, verdict
from lwq.layers.pruned_base import Cut, cut_command, prove, read_repairs, write_pruned
from lwq.llama import tools
from lwq.llama.requests import DryRunRequest, TextRequest, Window
from lwq.metrics.arrays import Floats
from lwq.metrics.values import Estimate
from lwq.recipe.budget import Budget
from lwq.recipe.constraints import Constraints
from lwq.record.prune import HealedSet
from lwq.record.search import Search, SearchCandidate, TensorSensitivity
from lwq.steps.step import Context, Given, Made, Origin
from lwq.store.files import link_or_copy

NAME = "lean"
VERSION = 1
USES_TOOLS = True
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
    process_output: bool
    text: Given
    n_ctx: int
    n_windows: int
    file: str
    cut_file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    allocation: Allocation
    tensor_types_file: str | None
    tensor_bytes: int
    n_params: int
    bpw: float
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
    return _Weighing(inputs, ctx).result()


def _won(search: Search, chosen: Lean) -> Search:
    """The search's record where a removal was chosen over all that it found."""
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


class _Weighing:
    """One target's choice."""

    def __init__(self, inputs: Inputs, ctx: Context) -> None:
        self.inputs, self.ctx = inputs, ctx
        self.header = read_header(ctx.find(inputs.base))
        self.sets: tuple[HealedSet, ...] = ctx.result(inputs.heal, "sets", tuple[HealedSet, ...])
        fits = ctx.entries[inputs.search.key].result["allocation"] is not None
        self.whole: Allocation | None = ctx.result(inputs.search, "allocation", Allocation) if fits else None
        self.search: Search = ctx.result(inputs.search, "search", Search)
        tensors: tuple[TensorSensitivity, ...] = ctx.result(
            inputs.sensitivity, "tensors", tuple[TensorSensitivity, ...]
        )
        self.known = damages(tensors, {})
        entries = read_imatrix(ctx.find(inputs.sensitivity)).entries
        self.importance = importance_rows(entries, self.header.tensors)
        stock = ctx.stock_mixes(inputs.base, inputs.imatrix)
        self.stock, self.budget_bytes = mix_and_bytes(inputs.budget, self.header, stock)
        self.paces = self.search.paces
        self.imatrix = f"{inputs.cut_file.removesuffix('.gguf')}-imatrix.gguf"
        self.completed = f"{inputs.cut_file.removesuffix('.gguf')}-imatrix-output.gguf"
        self.n_done = 0

    def _told(self) -> None:
        self.n_done += 1
        self.ctx.progress(min(self.n_done, 3 * len(self.sets)), 3 * len(self.sets))

    def result(self) -> Result:
        inputs = self.inputs
        found = list(
            lean_candidates(self.header, self.known, inputs.constraints, self.budget_bytes, self.sets, self.paces)
        )
        if not found and self.whole is None:
            slow = [p for p in self.paces if p.is_too_slow]
            why = str(max(slow, key=lambda p: p.fastest.value)) if slow else "the smallest allowed types take more"
            raise BudgetError(
                f"the budget is {self.budget_bytes:,} bytes of tensors; {why}, even without"
                f" {max((len(s.layers) for s in self.sets), default=0)} layers",
                hint=f"raise the budget, allow smaller types, {'lower min_tg, ' if slow else ''}or let more layers go"
                " ([pruning] max_layers)",
            )
        best, gap = self._measured(found)
        chosen = best if best and (gap is None or is_better(gap)) else None
        told = verdict(best, gap, len(found), self.search.chosen)
        candidates = (*self.search.candidates, *(self._candidate(lean, chosen) for lean in found))
        said = replace(self.search, pruning=told, candidates=candidates)
        return self._pruned(chosen, _won(said, chosen)) if chosen else self._unpruned(said)

    def _measured(self, found: list[Lean]) -> tuple[Lean | None, Estimate | None]:
        """The best pruned candidate, and its KLD less that of the unpruned choice (None where that does not fit)."""
        inputs, ctx = self.inputs, self.ctx
        if not found:
            return None, None
        with Engine(ctx.toolchain, self.header.path, n_ctx=inputs.n_ctx, n_threads=ctx.n_threads) as engine:
            engine.set_windows(spread_over(engine.cut(ctx.find(inputs.text).read_bytes().decode()), inputs.n_windows))
            rival = None
            if self.whole:
                mixer = Mixer(engine, self.importance)
                mixer.put({n: q for n, q in self.whole.types if n in self.known}, self._unweighted())
                rival = engine.score()
            for lean in found:
                score_lean(engine, self.importance, lean, self._repairs(lean), rival, self._told)
        best = min(found, key=lambda r: (bool(r.dropped), r.scores.mean_kld if r.scores else float("inf")))
        assert best.scores
        return best, difference(best.scores, rival) if rival else None

    def _unweighted(self) -> frozenset[str]:
        """Tensors without data in the stock mix's own importance matrix, if that mix was chosen."""
        if not self.ctx.result(self.inputs.search, "plain_imatrix", bool):
            return frozenset()
        plain = importance_rows(read_imatrix(self.ctx.find(self.inputs.imatrix)).entries, self.header.tensors)
        return frozenset(name for name in self.known if name not in plain)

    def _repairs(self, lean: Lean) -> dict[str, Floats]:
        file = lean.healed.file
        return read_repairs(self.ctx.entries[self.inputs.heal.key].path(file)) if file else {}

    def _candidate(self, lean: Lean, chosen: Lean | None) -> SearchCandidate:
        assert lean.scores
        return SearchCandidate(
            name=lean.name,
            n_bytes=lean.n_bytes,
            predicted_kld=lean.predicted,
            kld=lean.scores.estimate(),
            n_windows=len(lean.scores.kld),
            verdict="chosen" if lean is chosen else lean.dropped or "not surely better than with all layers",
        )

    def _unpruned(self, said: Search) -> Result:
        entry = self.ctx.entries[self.inputs.search.key]
        link_or_copy(entry.path(self.inputs.search.name), self.ctx.folder / self.inputs.file)
        assert self.whole
        return Result(
            allocation=self.whole,
            tensor_types_file=self.inputs.file,
            tensor_bytes=int(entry.result["tensor_bytes"]),
            n_params=int(entry.result["n_params"]),
            bpw=float(entry.result["bpw"]),
            plain_imatrix=bool(entry.result["plain_imatrix"]),
            search=said,
            cut_file="",
            imatrix_file="",
            healed=None,
        )

    # a pruned file

    def _pruned(self, lean: Lean, said: Search) -> Result:
        self._write_base(lean)
        self._collect()
        inputs, ctx = self.inputs, self.ctx
        header = read_header(ctx.folder / inputs.cut_file)
        types = {renumber(name, lean.healed.layers): q for name, q in lean.types.items()}
        renamed = {t.name: types[t.name] for t in header.tensors if t.name in types}
        request = DryRunRequest(model=inputs.cut_file, ftype=self._label(lean), imatrix=self.completed)
        allocation, _ = settled(ctx.toolchain, renamed, request, inputs.file, cwd=ctx.folder)
        tensors = planned_tensors(header, types=dict(allocation.types))
        return Result(
            allocation=allocation,
            tensor_types_file=inputs.file,
            tensor_bytes=sum(t.n_bytes for t in tensors),
            n_params=sum(t.n_elements for t in tensors),
            bpw=bits_per_weight(tensors),
            plain_imatrix=False,
            search=said,
            cut_file=inputs.cut_file,
            imatrix_file=self.completed,
            healed=lean.healed,
        )

    def _label(self, lean: Lean) -> str:
        """The ftype that was asked for, or that of the largest stock mix within the file's size."""
        if self.inputs.ftype or not self.paces:
            return self.inputs.ftype or self.stock.ftype
        of = self.ctx.stock_mixes(self.inputs.base, self.inputs.imatrix)
        return mix_and_bytes(self.inputs.budget, self.header, of, within=lambda _: lean.n_bytes)[0].ftype

    def _write_base(self, lean: Lean) -> None:
        ctx, inputs, n_ctx = self.ctx, self.inputs, self.inputs.fit_n_ctx
        cut, out = Cut(layers=lean.healed.layers, tensors=self._repairs(lean)), ctx.folder / inputs.cut_file
        ctx.commands.append(cut_command(self.header, inputs.base.name, cut.layers, lean.healed.file, inputs.cut_file))
        write_pruned(ctx.toolchain, self.header, cut, out, ctx.sha256(inputs.base))
        with Engine(
            ctx.toolchain, self.header.path, n_ctx=n_ctx, n_threads=ctx.n_threads, scored=probed(n_ctx)
        ) as engine:
            windows = engine.cut(ctx.find(inputs.fit_text).read_bytes().decode())[:1]
            if not len(windows):
                raise ModelError(f"{inputs.fit_text.name}: has no window of {n_ctx} tokens")
            engine.set_windows(windows)
            prove(engine, cut, out, windows[0], ctx.toolchain)

    def _collect(self) -> None:
        """The pruned base's own importance matrix, with its output tensor."""
        ctx, inputs = self.ctx, self.inputs
        request = TextRequest(
            model=inputs.cut_file,
            text=ctx.place(inputs.fit_text),
            window=Window(n_ctx=inputs.fit_n_ctx, n_chunks=inputs.fit_n_chunks),
            output=self.imatrix,
        )
        ctx.ran(
            tools.imatrix(
                ctx.toolchain,
                request,
                cwd=ctx.folder,
                threads=ctx.n_threads,
                process_output=inputs.process_output,
            )
        )
        base = ctx.folder / inputs.cut_file
        with Engine(ctx.toolchain, base, n_ctx=inputs.fit_n_ctx, n_threads=ctx.n_threads) as engine:
            windows = engine.cut(ctx.find(inputs.fit_text).read_bytes().decode())
            engine.set_windows(windows[:1])
            found = output_entry(
                engine, spread_over(windows, _N_OUTPUT), read_imatrix(ctx.folder / self.imatrix).entries
            )
        write_with(ctx.folder / self.imatrix, found, ctx.folder / self.completed)
