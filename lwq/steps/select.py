"""Which files are kept, and why each other is not."""

from __future__ import annotations

from dataclasses import dataclass

from lwq.metrics.fronts import NAMES, Point, front, point, reason
from lwq.metrics.values import Damage, Speed, TaskScore
from lwq.record.record import FileFacts, Selection, Verdict
from lwq.steps.step import Context, Made

NAME = "select"
VERSION = 5
USES_TOOLS = False
IN_PROCESS = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One of our rows: the steps that wrote and measured it."""

    row: str
    file: Made
    damage: Made
    tasks: tuple[Made, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    candidates: tuple[Candidate, ...]
    rule: str
    over: tuple[str, ...]
    """Criteria of the front: ``bytes``, ``kld``, ``tg``, ``tasks``."""
    text: str
    bench: Made | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    selection: Selection


@dataclass(frozen=True, slots=True, kw_only=True)
class _TimedRow:
    """What is needed of a row that was timed."""

    name: str
    speed: tuple[Speed, ...]


def run(inputs: Inputs, ctx: Context) -> Result:
    """A verdict for each candidate, in the recipe's order."""
    timed = ctx.result(inputs.bench, "rows", tuple[_TimedRow, ...]) if inputs.bench else ()
    speeds = {row.name: row.speed for row in timed}
    points = tuple(_point(candidate, ctx, speeds.get(candidate.row, ())) for candidate in inputs.candidates)
    verdicts = _all(points) if inputs.rule == "all" else _on_the_front(points, inputs.over)
    return Result(selection=Selection(rule=inputs.rule, text=inputs.text, verdicts=verdicts, over=inputs.over))


def _point(candidate: Candidate, ctx: Context, speed: tuple[Speed, ...]) -> Point:
    damage = ctx.result(candidate.damage, "damage", Damage)
    facts = ctx.result(candidate.file, "facts", FileFacts)
    scores = tuple(ctx.result(made, "score", TaskScore) for made in candidate.tasks)
    return point(candidate.row, sum(share.n_bytes for share in facts.types), damage, speed, scores)


def _all(points: tuple[Point, ...]) -> tuple[Verdict, ...]:
    return tuple(Verdict(row=p.name, kept=True, reason="every file is kept (rule `all`)") for p in points)


def _kept(over: tuple[str, ...]) -> str:
    if set(over) == {"bytes", "kld"}:
        return "no smaller file is as close to the original"
    return f"no other file beats it by {', '.join(NAMES[name] for name in over)} together"


def _on_the_front(points: tuple[Point, ...], over: tuple[str, ...]) -> tuple[Verdict, ...]:
    """Kept are those that no other is as good as and better; a tie goes to the smaller file."""
    if not points:
        return ()
    beaten = {loser.name: (loser, winner) for loser, winner in front(points, over).beaten}
    verdicts = []
    for p in points:
        why = _kept(over)
        if pair := beaten.get(p.name):
            why = reason(pair[1], pair[0], over)
        verdicts.append(Verdict(row=p.name, kept=p.name not in beaten, reason=why))
    return tuple(verdicts)
