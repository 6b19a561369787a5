"""What must hold after any fault: nothing of the user's is lost, nothing half-made is taken for whole, and a plain run
gives what an unbroken run gives."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lwq.store.cache import Cache
from lwq.store.files import is_running
from lwq.store.verify import harmed
from tests.faults.stage import Ended, World, outcome

_MADE: Final = ("reports/tiny/",)
MINE: Final = "reports/tiny/my notes.md"
_ASKED: Final = (0, 1, 130)


def belongings(world: World) -> dict[str, str]:
    """What is the user's, by path: hash of its bytes."""
    found = {}
    for path in sorted(world.work.rglob("*")):
        name = path.relative_to(world.work).as_posix()
        if path.is_file() and (name == MINE or not name.startswith(_MADE)):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    for path in world.root.glob("the home/mine.*"):
        found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def told(ended: Ended, *, codes: tuple[int, ...] = _ASKED) -> Iterator[str]:
    """What is wrong with how a broken run ended: it ends in its own words, which name a way out."""
    if "Traceback" in ended.err or "a fault of lwq" in ended.err or "lwq: unexpected" in ended.err:
        yield f"crashed: {ended.err[-1500:]}"
    elif ended.code not in codes:
        yield f"ended with {ended.code}: {ended.err[-600:]}"
    elif ended.code == 1 and ("lwq: " not in ended.err or "hint: " not in ended.err):
        yield f"names no way out: {ended.err[-600:]}"


def same(world: World, recipe: str, after: str) -> Iterator[str]:
    """How a finished run differs from an unbroken one."""
    try:
        record, files = outcome(world.report)
    except (OSError, ValueError) as error:
        yield f"{after}: no record: {error}"
        return
    whole, expected = world.stage.whole[recipe]
    if record != whole:
        names = [k for k in whole if record.get(k) != whole[k]]
        yield f"{after}: another record: {', '.join(names)}"
    if files != expected:
        yield f"{after}: other GGUFs: {[n for n in {*files, *expected} if files.get(n) != expected.get(n)]}"


def half_made(world: World) -> Iterator[str]:
    """What of the cache is not as it was made, though nobody but lwq wrote there."""
    cache = Cache(world.home)
    folders = [p for p in cache.steps.glob("[!.]*") if p.is_dir()]
    for folder in folders:
        if not (folder / "step.json").exists():
            yield f"{folder.name} has no step.json"
    for harm in harmed(cache):
        if harm.path.suffix != ".jsonl":  # half-written lines of killed runs, which are ignored
            yield f"{harm.path.name}: {harm.what}"


def left_over(world: World) -> Iterator[str]:
    """What killed runs left and nobody removed."""
    steps = world.home / "steps"
    yield from (f"left: {p.name}" for p in steps.glob(".*") if p.is_dir())
    yield from (f"left: {p.name}" for p in (world.home / "at-work").glob("*") if p.name != "removal.lock")
    for folder in (world.home, world.work):
        for path in folder.rglob(".*.tmp"):
            if not is_running(int(path.name.split(".")[-2].partition("-")[0])):
                yield f"left: {path.relative_to(world.root)}"
    folders = (p for kind in (".calibration-*", "twins/lwq-*", ".wheel-*") for p in world.home.glob(kind))
    yield from (f"left: {p.name}" for p in folders)
    yield from (f"crash log: {p.read_text()[-1500:]}" for p in world.home.glob("log/crash-*"))


def temporary(world: World) -> Iterator[str]:
    """What a process that ended by itself left among temporary files; the system removes what killed ones left."""
    yield from (f"left: tmp/{p.name}" for p in (world.root / "tmp").glob("*"))


def afterwards(
    world: World, recipe: str, mine: dict[str, str], *, repair: bool = False, real: bool = False
) -> list[str]:
    """What is wrong after a fault.

    Args:
        mine: what the user had before.
        repair: bytes were changed under the cache's feet.
    """
    faults = [] if repair else list(half_made(world))
    if repair:
        ended = world.lwq("cache", "verify", "--repair")
        faults += told(ended, codes=(0,))
    ended = world.lwq("run", "tiny.toml", real=real)
    faults += told(ended, codes=(0,))
    if not ended.code:
        faults += same(world, recipe, "the next run")
    faults += half_made(world)
    faults += told(world.lwq("cache", "gc", "--yes"), codes=(0,))
    faults += left_over(world)
    now = belongings(world)
    if lost := sorted(n for n in {*mine, *now} if mine.get(n) != now.get(n)):
        faults.append(f"of the user's: {', '.join(lost)}")
    return faults


def wait_for_end(pids: list[int], seconds: float = 10) -> None:
    """Until none of the processes is there."""
    end = time.monotonic() + seconds
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < end:
        time.sleep(0.01)
