"""``lwq allocate``: the best predicted allocation within one budget or many, from one measurement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from pydantic import ValidationError

from lwq.bits.frontier import frontier, totals
from lwq.bits.problem import Problem
from lwq.bits.stock import FTYPES_BY_SIZE, StockMix, mix_and_bytes, stock_mix, with_unread
from lwq.cli.borrowed import borrow
from lwq.cli.job import check_writable
from lwq.cli.measured import CALIBRATION, SOURCE, MeasuredModel, Subject, measure
from lwq.cli.progress import showing
from lwq.cli.pruned_frontier import PruningOffer, show_pruned
from lwq.cli.settings import Settings
from lwq.cli.tables import print_json, print_table
from lwq.errors import UsageError
from lwq.gguf.allocation import Allocation
from lwq.gguf.header import GgufHeader
from lwq.gguf.types import tensor_bytes, type_bpw
from lwq.recipe.budget import Budget, parse_budget
from lwq.recipe.constraints import Constraints
from lwq.recipe.target import Target
from lwq.record.search import stock_name
from lwq.store.files import write_atomic
from lwq.store.temporary import temporary_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Solved:
    """One budget's allocation, predicted."""

    budget: Budget
    problem: Problem
    """With the stock mix's types for tensors that predicting does not read."""
    stock: StockMix
    n_bytes: int
    kld: float
    types: Mapping[str, str]

    @property
    def price(self) -> float:
        """Nats that the last mebibyte of the budget buys."""
        solutions = (self.problem.solved(n) for n in (self.n_bytes * 99 // 100, self.n_bytes))
        low, high = (totals(s.groups, s.chosen) for s in solutions)
        return (low[1] - high[1]) / max(1, high[0] - low[0]) * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocator:
    """Solves budgets for one measured model."""

    measured: MeasuredModel
    problem: Problem
    stock: Callable[[str], StockMix]
    """The stock mix of an ftype."""

    @property
    def header(self) -> GgufHeader:
        return self.problem.header

    def solve(self, budget: Budget) -> Solved:
        """The least predicted damage within a budget."""
        stock, n_bytes = mix_and_bytes(budget, self.header, self.stock)
        tensors = self.problem.tensors
        problem = replace(self.problem, constraints=with_unread(self.problem.constraints, tensors, stock))
        solution = problem.solved(n_bytes)
        used, kld = totals(solution.groups, solution.chosen)
        n_used = used + problem.other_bytes
        return Solved(budget=budget, problem=problem, stock=stock, n_bytes=n_used, kld=kld, types=solution.types)

    def predicted(self, stock: StockMix) -> float:
        """Sum of single damages of a stock mix (with the importance matrix that lwq completes)."""
        return self.problem.predicted(stock.types)


@contextmanager
def _allocator(measured: MeasuredModel, constraints: Constraints) -> Iterator[Allocator]:
    header, toolchain = measured.header, measured.job.machine.toolchain
    problem = Problem(header=header, tensors=measured.sensitivity.tensors, constraints=constraints)
    problem.check()
    with temporary_folder() as folder:
        (folder / "base.gguf").symlink_to(measured.base)
        (folder / "imatrix.gguf").symlink_to(measured.imatrix)

        @cache
        def stock(ftype: str) -> StockMix:
            return stock_mix(toolchain, header, ftype, cwd=folder, model="base.gguf", imatrix="imatrix.gguf")

        yield Allocator(measured=measured, problem=problem, stock=stock)


@click.command("allocate")
@SOURCE
@CALIBRATION
@click.option("--budget", "budgets", multiple=True, help="Q4_K_M, '4.25 bpw' or '12 GiB'; repeatable.")
@click.option("--types", multiple=True, help="ggml types or sets of them (all, no-iq, k, legacy); repeatable.")
@click.option("--min", "min_types", multiple=True, metavar="PATTERN=TYPE", help="No smaller type there; repeatable.")
@click.option("--fix", "fixed", multiple=True, metavar="PATTERN=TYPE", help="This very type there; repeatable.")
@click.option("--tie", "ties", multiple=True, metavar="CLASS,CLASS", help="One type for these classes; repeatable.")
@click.option("--frontier", "whole", is_flag=True, help="Many budgets, and the stock mixes beside them.")
@click.option("--prune", type=click.Choice(["auto"]), help="With --frontier: weigh removing layers against bits.")
@click.option("--explain", metavar="TENSOR", help="What this tensor's next bits would cost and buy.")
@click.option(
    "--from", "record", type=click.Path(path_type=Path), help="The types of this record's files, as they are."
)
@click.option("--out", type=click.Path(path_type=Path), help="Write a tensor-type file for each budget here.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_obj
def allocate_command(settings: Settings, /, source: str, text: str, **options: Any) -> None:
    """Choose types for SOURCE (a recipe or a model) within budgets, by predicted damage.

    Measures sensitivity first if that is not done. Everything printed is predicted; `lwq run` with a budget in
    its recipe also measures the candidates, polishes the best, and compares it with the stock mix.

    With --from nothing is measured: a fine-tune gets the types that were found for the model that it comes from.
    """
    if options["record"]:
        _borrow(settings, Subject(reference=source), options)
        return
    if options["prune"] and not options["whole"]:
        raise UsageError("--prune needs --frontier", hint='a recipe\'s target with prune = "auto" makes the file')
    subject = Subject(reference=source, text=text, types=options["types"] or ("all",))
    budgets, constraints = _asked(subject, options)
    if options["out"]:
        check_writable(options["out"])
    with showing(settings.verbosity) as progress:
        measured = measure(subject, settings, progress, layers=bool(options["prune"]), constraints=constraints)
    with _allocator(measured, constraints) as allocator:
        if options["whole"]:
            _show_frontier(allocator, as_json=options["as_json"])
            return
        solved = [allocator.solve(budget) for budget in budgets]
        if options["explain"]:
            for one in solved:
                _explain(allocator, one, options["explain"])
            return
        _show(allocator, solved, as_json=options["as_json"])
        for one in solved if options["out"] else ():
            _write(allocator, one, options["out"])


def _borrow(settings: Settings, subject: Subject, options: Mapping[str, Any]) -> None:
    choosing = ("budgets", "types", "min_types", "fixed", "ties", "whole", "prune", "explain")
    stated = click.get_current_context().get_parameter_source("text") is ParameterSource.COMMANDLINE
    if stated or any(options[name] for name in choosing):
        raise UsageError(
            "--from takes types as they are: no option that measures or chooses goes with it",
            hint="--out and --json do; the command for the importance matrix names the record's own text",
        )
    if options["out"]:
        check_writable(options["out"])
    borrow(options["record"], subject, settings, options["out"], as_json=options["as_json"])


def _asked(subject: Subject, options: Mapping[str, Any]) -> tuple[list[Budget], Constraints]:
    """Budgets and constraints of the command line, or of the recipe where it says nothing."""
    targets = subject.asked().recipe.targets
    own = [t for t in targets if t.wanted()] if subject.reference.endswith(".toml") else []
    try:
        budgets = [parse_budget(text) for text in options["budgets"]]
        target = Target(
            budget=options["budgets"][0] if budgets else "Q4_K_M",
            types=options["types"] or (own[0].types if own else ("all",)),
            min_types=options["min_types"] or (own[0].min_types if own else ()),
            tensor_types=options["fixed"] or (own[0].tensor_types if own else ()),
            ties=tuple(tuple(tie.split(",")) for tie in options["ties"]) or (own[0].ties if own else ()),
        )
    except ValidationError as error:
        faults = "; ".join(detail["msg"] for detail in error.errors())
        raise UsageError(faults, hint="`lwq allocate --help`") from None
    except ValueError as error:
        raise UsageError(str(error), hint="`lwq allocate --help`") from None
    if not budgets:
        budgets = [b for t in own if (b := t.wanted())]
    if not budgets and not options["whole"]:
        raise UsageError("no budget was given", hint="--budget Q4_K_M, --budget '4.25 bpw' or --frontier")
    return budgets, target.constraints()


def _show(allocator: Allocator, solved: list[Solved], *, as_json: bool) -> None:
    if as_json:
        values = [
            {
                "budget": str(s.budget),
                "n_bytes": s.n_bytes,
                "bpw": 8 * s.n_bytes / allocator.header.n_params,
                "predicted_kld": s.kld,
                "stock": {
                    "ftype": s.stock.ftype,
                    "n_bytes": s.stock.n_bytes,
                    "predicted_kld": allocator.predicted(s.stock),
                },
                "types": dict(s.types),
            }
            for s in solved
        ]
        print_json(values)
        return
    click.echo("predicted: KLD (nats) as the sum of single damages; bytes of all tensors, exact")
    rows = [
        (
            str(s.budget),
            f"{s.n_bytes / 2**20:.2f}",
            f"{8 * s.n_bytes / allocator.header.n_params:.4f}",
            f"{s.kld:.5f}",
            s.stock.ftype,
            f"{s.stock.n_bytes / 2**20:.2f}",
            f"{allocator.predicted(s.stock):.5f}",
            " ".join(f"{q}:{n}" for q, n in Counter(s.types.values()).most_common()),
        )
        for s in solved
    ]
    print_table(("budget", "MiB", "bpw", "KLD", "stock", "its MiB", "its KLD", "tensors by type"), rows)


def _show_frontier(allocator: Allocator, *, as_json: bool) -> None:
    points = frontier(allocator.header, allocator.measured.sensitivity.tensors, allocator.problem.constraints)
    if allocator.measured.sets is not None:
        offer = PruningOffer(
            header=allocator.header,
            known=allocator.problem.damages(),
            constraints=allocator.problem.constraints,
            sets=allocator.measured.sets,
        )
        show_pruned(offer, points, as_json=as_json)
        return
    mixes = sorted((allocator.stock(f) for f in FTYPES_BY_SIZE), key=lambda m: (m.n_bytes, m.ftype))
    rows: list[tuple[int, str, float]] = [(p.n_bytes, "allocation", p.predicted_kld) for p in points]
    rows += [(m.n_bytes, stock_name(m.ftype), allocator.predicted(m)) for m in mixes]
    if as_json:
        print_json([{"name": n, "n_bytes": b, "predicted_kld": k} for b, n, k in sorted(rows)])
        return
    click.echo("predicted: KLD (nats) as the sum of single damages")
    n = allocator.header.n_params
    shown = [(f"{b / 2**20:.2f}", f"{8 * b / n:.4f}", f"{kld:.5f}", name) for b, name, kld in sorted(rows)]
    print_table(("MiB", "bpw", "KLD", "mix"), shown, left=0)


def _explain(allocator: Allocator, solved: Solved, name: str) -> None:
    """Each type of one tensor: its bytes, damage, and what a mebibyte more would buy there and elsewhere."""
    tensor = next((t for t in allocator.problem.targets if t.name == name), None)
    if tensor is None:
        near = [t.name for t in allocator.problem.targets if name in t.name][:4]
        raise UsageError(f"no tensor {name!r} that takes a type", hint=f"try {', '.join(near)}" if near else "")
    damage, chosen, price = allocator.problem.damages()[name], solved.types[name], solved.price
    click.echo(f"{name} within {solved.budget}: {chosen}; the budget's last MiB buys {price:.3g} nats")
    here = (tensor_bytes(tensor.ne, chosen), damage.predicted_or_near(chosen))
    rows = []
    for q in sorted(damage.errors, key=lambda q: (type_bpw(q), q)):
        n_bytes, kld = tensor_bytes(tensor.ne, q), damage.predicted(q)
        more = (n_bytes - here[0]) / 2**20
        rate = f"{(here[1] - kld) / more:.3g}" if more else "chosen" if q == chosen else "same size"
        source = "measured" if q in damage.probes else "predicted"
        rows.append(
            (q, f"{n_bytes / 2**20:.3f}", f"{damage.errors[q]:.3g}", f"{kld:.6f}", source, f"{more:+.3f}", rate)
        )
    print_table(("type", "MiB", "local error", "KLD", "KLD is", "more MiB", "nats per MiB"), rows)


def _write(allocator: Allocator, solved: Solved, folder: Path) -> None:
    """The tensor-type file and the command that obeys it."""
    plan = allocator.stock(solved.budget.ftype or solved.stock.ftype)
    every = tuple((t.name, solved.types.get(t.name, t.target_type)) for t in plan.plan.tensors)
    allocation = Allocation(
        ftype=plan.ftype,
        types=every,
        quantizable=tuple(t.name for t in allocator.problem.targets),
        pruned_layers=(),
        n_fallback=0,
    )
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{solved.budget.label}.tensor_types.txt"
    write_atomic(file, allocation.lines())
    measured = allocator.measured
    click.echo(
        f"llama-quantize --imatrix {measured.importance} --tensor-type-file {file} {measured.base}"
        f" {folder / f'{measured.job.sources.model.name}-{solved.budget.label}.gguf'} {plan.ftype}"
    )
