"""One bit of anything in the cache changes: it is found before it is used, or by `lwq cache verify`, and that step
alone is done again."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lwq.store.cache import Cache
from lwq.store.verify import harmed
from tests.faults.cases import Case, flip, is_artefact
from tests.faults.stage import Stage, World
from tests.faults.whole import belongings, half_made, left_over, same, told

RICH_EVERY: Final = 10
"""One flip of so many is among pieces and values of measurements in process, with the steps that use them undone."""
_MEASURED: Final = ("grams", "sensitivity", "search", "quantize")
_LATE: Final = ("baseline", "imatrix", "quantize", "evaluate", "contexts", "continuations", "select")
"""What may be undone, so that what it reads is used."""
_OF_TOOLS: Final = 0.06
_OF_NOTES: Final = 0.15


def try_flip(stage: Stage, seed: int, number: int) -> Case:
    """The flip of a number, tried."""
    chance = random.Random(f"flip {seed}/{number}")
    is_rich = number % RICH_EVERY == RICH_EVERY - 1 and "rich" in stage.homes
    recipe = "rich" if is_rich else "basic"
    case = Case(stage, f"flip-{number}", chance, recipe=recipe)
    of_tools = not is_rich and chance.random() < _OF_TOOLS
    world = stage.world(case.name, recipe, filled=recipe, own_tools=of_tools)
    undone = _MEASURED if is_rich else chance.sample(_LATE, chance.randint(0, len(_LATE)))
    for folder in world.home.glob("steps/[!.]*"):
        if folder.name.split("-")[0] in undone:
            shutil.rmtree(folder)
    for path in world.report.glob("*.gguf"):
        path.unlink()
    path = _chosen(world, chance, of_tools=of_tools, is_rich=is_rich)
    before = times(world)
    keep_time = chance.random() < 0.6
    at = flip(path, chance, keep_time=keep_time)
    case.say(f"byte {at} of {path.relative_to(world.home)}{', its time kept' if keep_time else ''}")
    if of_tools:
        ended = world.lwq("run", "tiny.toml")
        case.faults += told(ended, codes=(1,))
        return case
    _use(case, world, path, before, verify=keep_time)
    return case


def _chosen(world: World, chance: random.Random, *, of_tools: bool, is_rich: bool) -> Path:
    """A file of the cache; large ones are as likely as small ones."""
    files = [p for p in sorted(world.home.rglob("*")) if is_artefact(p, world)]
    groups: dict[str, list[Path]] = {}
    for path in files:
        groups.setdefault(path.relative_to(world.home).parts[0], []).append(path)
    if of_tools:
        return chance.choice(groups["toolchains"])
    if is_rich:
        return chance.choice(groups["pieces"])
    notes = sorted(set(groups) - {"steps", "pieces", "toolchains"})
    return chance.choice(groups[chance.choice(notes) if chance.random() < _OF_NOTES else "steps"])


def times(world: World) -> dict[str, int]:
    """When each file of each step was written."""
    return {str(p.relative_to(world.home)): p.stat().st_mtime_ns for p in world.home.glob("steps/*/*") if p.is_file()}


def _use(case: Case, world: World, path: Path, before: dict[str, int], *, verify: bool) -> None:
    """What is silent is looked for first; then a run uses what is there."""
    mine = belongings(world)
    if verify:
        found = [harm.path for harm in harmed(Cache(world.home))]
        case.say("found by verify" if found else "not found by verify")
        if any(not (path == harm or path.is_relative_to(harm)) for harm in found):
            case.faults.append(f"verify found {[str(p) for p in found]}")
        case.faults += told(world.lwq("cache", "verify", "--repair"), codes=(0,))
    ended = world.lwq("run", "tiny.toml")
    case.faults += told(ended, codes=(0,))
    if not ended.code:
        case.faults += same(world, case.recipe, "the run")
    if not verify:  # what the run had no use for, it did not look at
        case.faults += told(world.lwq("cache", "verify", "--repair"), codes=(0,))
    case.faults += half_made(world)
    case.faults += left_over(world)
    own = path.parent.relative_to(world.home).as_posix()
    after = times(world)
    again = sorted({n.split("/")[1] for n in before if not n.startswith(own) and after.get(n) != before[n]})
    if again:
        case.faults.append(f"others were done again: {again}")
    if belongings(world) != mine:
        case.faults.append("the user's files changed")


def beside(stage: Stage, seed: int, n: int) -> Iterator[Case]:
    """Runs with the garbage collector beside them at ``n`` random moments in all; each run, with how often."""
    chance, done, number = random.Random(f"gc {seed}"), 0, 0
    while done < n:
        case = Case(stage, f"gc-{number}", chance)
        world = case.world(filled=0.0)
        mine, run, times_here = belongings(world), world.start("run", "tiny.toml"), 0
        while run.poll() is None:
            case.faults += told(world.lwq("cache", "gc", "--yes"), codes=(0,))
            times_here += 1
        case.say(f"gc {times_here} times")
        case.check(run.wait(), world, codes=(0,))
        if belongings(world) != mine:
            case.faults.append("the user's files changed")
        done, number = done + times_here, number + 1
        case.times = times_here
        yield case
