"""Which files are kept, and why each other is not."""

from __future__ import annotations

from dataclasses import dataclass

from lwq.metrics import Damage, Estimate
from lwq.record import FileFacts, Selection, Verdict
from lwq.steps import Context, Made

NAME = "select"
VERSION = 1
USES_TOOLS = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One of our rows: the steps that wrote and measured it."""

    row: str
    file: Made
    damage: Made


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    candidates: tuple[Candidate, ...]
    rule: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    selection: Selection


@dataclass(frozen=True, slots=True, kw_only=True)
class _Point:
    row: str
    n_bytes: int
    kld: Estimate


def run(inputs: Inputs, ctx: Context) -> Result:
    """A verdict for each candidate, in the recipe's order."""
    points = tuple(_point(candidate, ctx) for candidate in inputs.candidates)
    verdicts = tuple(verdict(point, points, inputs.rule) for point in points)
    return Result(selection=Selection(rule=inputs.rule, text=inputs.text, verdicts=verdicts))


def _point(candidate: Candidate, ctx: Context) -> _Point:
    damage = ctx.result(candidate.damage, "damage", Damage)
    facts = ctx.result(candidate.file, "facts", FileFacts)
    n_bytes = sum(share.n_bytes for share in facts.types)
    return _Point(row=candidate.row, n_bytes=n_bytes, kld=damage.kld)


def verdict(point: _Point, points: tuple[_Point, ...], rule: str) -> Verdict:
    """Kept on the Pareto front of tensor bytes (not metadata) and mean KLD; a tie in KLD goes to the smaller file."""
    if rule == "all":
        return Verdict(row=point.row, kept=True, reason="every file is kept (rule `all`)")
    better = [p for p in points if p is not point and _beats(p, point)]
    if not better:
        return Verdict(row=point.row, kept=True, reason="no smaller file is as close to the original")
    best = min(better, key=lambda p: (p.kld.value, p.n_bytes, p.row))
    saved = point.n_bytes - best.n_bytes
    size = f"{saved:,} bytes smaller" if saved else "of the same size"
    reason = f"{best.row} is {size} and closer (KLD {best.kld.value:.6f} against {point.kld.value:.6f} nats)"
    return Verdict(row=point.row, kept=False, reason=reason)


def _beats(a: _Point, b: _Point) -> bool:
    if a.n_bytes > b.n_bytes or a.kld.value > b.kld.value:
        return False
    return (a.n_bytes, a.kld.value) != (b.n_bytes, b.kld.value) or a.row < b.row
