"""What several recipes take together, and what all of it takes side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click

from lwq.cli.ahead import Seen
from lwq.cli.progress import clock
from lwq.cli.settings import Settings
from lwq.cli.workers import Pool
from lwq.outlook.expected import Expected, to_write_together
from lwq.outlook.wall import Crewing, WallTime, wall_time
from lwq.plan.greeting import room_of
from lwq.plan.shares import n_threads_of
from lwq.plan.twins import Alike, alike
from lwq.store.files import human_bytes


def wall_of(seen: Sequence[Seen], settings: Settings, pool: Pool) -> WallTime | None:
    """How long all take side by side; None where the time of nothing is known."""
    steps, seconds, twins = list(_to_do(seen)), dict[str, float](), dict[str, Alike]()
    for one in seen:
        if one.ahead and one.job:
            seconds |= one.ahead.forecast.by_key
            twins |= alike(one.job.plan)
    if not seconds:
        return None
    n_threads, is_one = settings.n_threads(), not pool.scheduler
    crew = Crewing(
        n_workers=pool.workers,
        n_threads=n_threads,
        n_threads_each=n_threads_of(pool.workers, n_threads) if is_one else n_threads,
        room=room_of(settings.toolchain()),
        is_one_machine=is_one,
    )
    needs = {step.step.key: {"memory": step.peak.resident, "device": step.peak.device} for step in steps}
    return wall_time([step.step for step in steps], twins, seconds, needs, crew)


def print_together(seen: Sequence[Seen], wall: WallTime | None, pool: Pool) -> None:
    """Prints sums over several recipes, steps that they share once, and the time side by side."""
    if len(seen) > 1:
        known = [(one.job, one.ahead) for one in seen if one.job and one.ahead]
        n_bytes = to_write_together((job, ahead.steps) for job, ahead in known)
        free = f", {human_bytes(known[0][1].free_bytes)} free" if known else ""
        click.echo(f"\nall together, steps that recipes share once: {human_bytes(n_bytes)} to write{free}")
        if seconds := sum(_seconds(seen).values()):
            click.echo(f"time of all: about {clock(seconds)} one after another")
    if wall:
        where = "machines as fast as this one" if pool.scheduler else "workers of this machine"
        told = f"side by side: about {clock(wall.seconds)} on {pool.workers} {where}"
        alone = f"{clock(wall.one_by_one)} one after another"
        click.echo(f"{told}; {alone}, {clock(wall.longest_chain)} the longest chain of steps")


def _to_do(seen: Iterable[Seen]) -> Iterable[Expected]:
    """Steps that are to do, each once."""
    found = {s.step.key: s for one in seen if one.ahead for s in one.ahead.steps if s.done is None}
    return found.values()


def _seconds(seen: Iterable[Seen]) -> dict[str, float]:
    return {key: n for one in seen if one.ahead for key, n in one.ahead.forecast.by_key.items()}
