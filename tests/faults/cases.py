"""Kinds of faults, each drawn at random and tried on a run; what is wrong afterwards, in words."""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import signal
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.faults.stage import MODEL, Ended, Faults, Stage, Started, World
from tests.faults.whole import afterwards, belongings, same, temporary, told

EVER: Final = 1 << 40
_DISK: Final = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EDQUOT, errno.EROFS, errno.EPERM)
_OPS: Final = ("w", "o", "s", "n", "l", "m", "t", "r", "wo", "sn", "womnlst")
_NTH: Final = {"w": 600, "o": 250, "r": 400, "s": 120, "n": 90, "l": 12, "m": 30, "t": 4}
"""About how many such calls a run makes."""
_TOOLS: Final = ("llama-quantize", "llama-perplexity", "llama-imatrix")
NOBODY: Final = 65534


@dataclass(slots=True)
class Case:
    """One case: a world, the draw, and what was found wrong."""

    stage: Stage
    name: str
    chance: random.Random
    real: bool = False
    recipe: str = "basic"
    times: int = 0
    could_tidy: bool = True
    story: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def world(self, *, filled: float = 0.3, own_tools: bool = False) -> World:
        """Nothing is done in it, or all, or a part."""
        state = "fresh" if self.chance.random() > filled + 0.4 else "filled"
        world = self.stage.world(self.name, self.recipe, filled=self.recipe * (state == "filled"), own_tools=own_tools)
        (world.home / "mine.txt").write_text("not lwq's\n")
        if state == "filled" and self.chance.random() > filled:
            for folder in sorted(world.home.glob("steps/[!.]*")):
                if self.chance.random() < 0.4:
                    shutil.rmtree(folder)
                    state = "partly filled"
        if state != "filled" and self.chance.random() < 0.5:
            shutil.rmtree(world.report)
            world.report.mkdir(parents=True)
            (world.report / "my notes.md").write_text("mine too\n")
        self.say(state)
        return world

    def say(self, text: str) -> None:
        self.story.append(text)

    def seconds(self) -> float:
        """When within a run."""
        return self.chance.random() ** 1.5 * self.stage.run_seconds * (8 if self.real else 1)

    def check(self, ended: Ended, world: World, *, codes: tuple[int, ...] = (0, 1, 130)) -> None:
        """Notes what is wrong with how a broken run ended, and with what it made where it ended well."""
        self.say(f"ended {ended.code}")
        self.faults += told(ended, codes=codes)
        if ended.code >= 0 and self.could_tidy:
            self.faults += temporary(world)
        if not ended.code:
            self.faults += same(world, self.recipe, "the broken run")

    def finish(self, world: World, mine: dict[str, str], *, repair: bool = False) -> None:
        self.faults += afterwards(world, self.recipe, mine, repair=repair, real=self.real)

    def broken(self, world: World, faults: Faults, *, codes: tuple[int, ...] = (0, 1, 130)) -> None:
        """A run with faults, and what must hold afterwards."""
        mine = belongings(world)
        self.could_tidy = not faults.rules
        self.say(str([*faults.rules, faults.clock, faults.replay, faults.limits]))
        self.check(world.lwq("run", "tiny.toml", faults=faults, real=self.real), world, codes=codes)
        self.finish(world, mine)


Kind = Callable[[Case], None]


def place(case: Case, world: World) -> Path:
    """Where the disk fails."""
    return case.chance.choice((world.home, world.home / "steps", world.report, world.root / "tmp", world.root))


def rule(case: Case, world: World, ops: str, mode: str, number: int, count: int) -> str:
    """One whose first call is one that a run makes."""
    most = sum(_NTH[op] for op in ops)
    nth = 1 + int(most * case.chance.random() ** 2)
    return f"{ops},{mode},{number},{nth},{count},{place(case, world)}"


def disk(case: Case) -> None:
    """Calls fail, once, for a while or from then on."""
    world, rules = case.world(), []
    for _ in range(case.chance.choice((1, 1, 2))):
        count = case.chance.choice((1, 1, 5, EVER))
        rules.append(rule(case, world, case.chance.choice(_OPS), "fail", case.chance.choice(_DISK), count))
    case.broken(world, Faults(rules=tuple(rules)))


def full(case: Case) -> None:
    """A disk that is full, or a quota that is used up, from some write on; some tools do not look."""
    world = case.world()
    nth, number = 1 + int(600 * case.chance.random() ** 2), case.chance.choice((errno.ENOSPC, errno.EDQUOT))
    part = f"w,short,0,{max(1, nth - 1)},1,{world.root}"
    replay = f"{case.chance.choice(_TOOLS)} careless" if case.chance.random() < 0.6 else ""
    ever = case.chance.choice((EVER, EVER, 20))
    case.broken(world, Faults(rules=(part, f"wmlt,fail,{number},{nth},{ever},{place(case, world)}"), replay=replay))


def short(case: Case) -> None:
    """Writes that write a part, as the system may at any time; nothing is lost by it."""
    world = case.world()
    count = case.chance.choice((1, 50, EVER))
    case.broken(world, Faults(rules=(rule(case, world, "w", "short", 0, count),)))


def killed_at_boundary(case: Case) -> None:
    """kill -9 right before or behind what publishes something."""
    world = case.world()
    ops, mode = case.chance.choice(("s", "n", "l", "snl", "t", "m", "o")), case.chance.choice(("before", "after"))
    case.broken(
        world, Faults(rules=(rule(case, world, ops, mode, signal.SIGKILL, 1),)), codes=(0, 1, 130, -signal.SIGKILL)
    )


def stopped_at_boundary(case: Case) -> None:
    """^C, or a polite end, right before or behind what publishes something."""
    world = case.world()
    ops, mode = case.chance.choice(("s", "n", "l", "snl", "o", "w")), case.chance.choice(("before", "after"))
    number = case.chance.choice((signal.SIGINT, signal.SIGTERM))
    case.broken(world, Faults(rules=(rule(case, world, ops, mode, number, case.chance.choice((1, 1, 3))),)))


def killed_at_random(case: Case) -> None:
    """kill -9 at any time."""
    world = case.world()
    mine, run = belongings(world), world.start("run", "tiny.toml", real=case.real)
    seconds = case.seconds()
    case.say(f"killed after {seconds:.3f} s")
    wait(run, seconds)
    run.send(signal.SIGKILL)
    case.check(run.wait(), world, codes=(0, -signal.SIGKILL))
    case.finish(world, mine)


def wait(run: Started, seconds: float) -> None:
    """So long, or until it ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and run.poll() is None:
        time.sleep(0.002)


def storm(case: Case) -> None:
    """Bursts of signals, as of somebody who holds ^C down; some tools do not listen."""
    world = case.world()
    deaf = f"{case.chance.choice(_TOOLS)} {case.chance.choice(('deaf', 'slow'))}" if case.chance.random() < 0.4 else ""
    mine, run = belongings(world), world.start("run", "tiny.toml", faults=Faults(replay=deaf), real=case.real)
    signals = [case.chance.choice((signal.SIGINT, signal.SIGTERM)) for _ in range(case.chance.randint(1, 8))]
    seconds = case.seconds()
    case.say(f"{deaf}, after {seconds:.3f} s {[s.name for s in signals]}")
    wait(run, seconds)
    for number in signals:
        run.send(number)
        wait(run, case.chance.choice((0.0, 0.001, 0.05)))
    before_lwq_listens = (-signal.SIGINT, -signal.SIGTERM)
    case.check(run.wait(), world, codes=(0, 130, *before_lwq_listens))
    case.finish(world, mine)


def clock(case: Case) -> None:
    """The wall clock jumps, and files are of another time than they were."""
    world = case.world()
    jump = case.chance.choice((1, 3600, 86400 * 400)) * case.chance.choice((1, -1))
    touched = [p for p in sorted(world.home.glob("steps/*/*")) if case.chance.random() < 0.2 and not p.is_symlink()]
    for path in touched:
        when = case.chance.choice((0, 1, time.time() + 1e6, 4_000_000_000))
        os.utime(path, (when, when))
    case.say(f"{len(touched)} files touched")
    case.broken(world, Faults(clock=f"{case.chance.randint(1, 400)},{jump}"))


def together(case: Case) -> None:
    """Two runs of one recipe at once, and the garbage collector beside them."""
    world = case.world()
    mine, runs = belongings(world), [world.start("run", "tiny.toml") for _ in range(2)]
    while any(run.poll() is None for run in runs):
        wait(runs[0], case.chance.random() * 0.3)
        case.faults += told(world.lwq("cache", "gc", "--yes"), codes=(0,))
    for run in runs:
        case.check(run.wait(), world, codes=(0,))
    case.finish(world, mine)


def read_only(case: Case) -> None:
    """A cache that cannot be written to: mounted so, or of another user; from the beginning, or from some moment on."""
    world = case.world(filled=0.5)
    if case.chance.random() < 0.5:
        nth = case.chance.choice((1, 1, 40, 200))
        case.broken(world, Faults(rules=(f"womnlst,fail,{errno.EROFS},{nth},{EVER},{world.home}",)))
        return
    for path in (world.work, world.report, world.root / "tmp"):
        path.chmod(0o777)
    mine = belongings(world)
    case.say("as another user")
    case.check(world.lwq("run", "tiny.toml", faults=Faults(user=NOBODY)), world)
    case.finish(world, mine)


def vanished(case: Case) -> None:
    """The cache, or a part of it, is removed or moved away while a run is at work."""
    world = case.world()
    what = case.chance.choice(("", "steps", "pieces", "ledger", "at-work", "locks", "hashes.sqlite", "orders.sqlite"))
    mine, run = belongings(world), world.start("run", "tiny.toml")
    wait(run, case.seconds())
    gone = world.home / what if what else world.home
    case.say(f"{gone.name} vanished")
    if gone.exists():
        gone.rename(world.root / "gone")
    case.check(run.wait(), world)
    if not what and (world.root / "gone").exists():
        shutil.rmtree(world.home, ignore_errors=True)
        (world.root / "gone").rename(world.home)
    case.finish(world, mine)


def flipped(case: Case) -> None:
    """Bytes of anything in the cache change, before or during a run."""
    world = case.world(filled=0.6)
    mine = belongings(world)
    files = [
        p for p in sorted(world.home.rglob("*")) if is_artefact(p, world) and not os.path.samefile(p, _model(world))
    ]
    run = world.start("run", "tiny.toml") if case.chance.random() < 0.5 else None
    if run:
        wait(run, case.seconds())
    chosen = case.chance.sample(files, min(len(files), case.chance.randint(1, 4)))
    for path in chosen:
        if path.exists() and path.stat().st_size:
            flip(path, case.chance, keep_time=case.chance.random() < 0.5)
    case.say(f"changed {[str(p.relative_to(world.home)) for p in chosen]} {'during a run' if run else ''}")
    if run:
        case.faults += told(run.wait())
    case.finish(world, mine, repair=True)


def _model(world: World) -> Path:
    return world.work / MODEL


def is_artefact(path: Path, world: World) -> bool:
    """A file of the cache that has content and lies in the world itself."""
    away = ("toolchains", "compiled")
    outside = path.relative_to(world.home).parts[0] in away and (world.home / path.relative_to(world.home).parts[0])
    if path.is_symlink() or path.name.startswith("mine.") or (outside and outside.is_symlink()):
        return False
    return path.is_file() and "compiled" not in path.parts and path.suffix != ".lock" and path.stat().st_size > 0


def flip(path: Path, chance: random.Random, *, keep_time: bool) -> int:
    """Another bit in one byte of a file; where."""
    before, data = path.stat(), bytearray(path.read_bytes())
    at = chance.randrange(len(data))
    data[at] ^= 1 << chance.randrange(8)
    path.chmod(before.st_mode | stat.S_IWUSR)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data[at : at + 1])
    path.chmod(before.st_mode)
    if keep_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return at


def replaced(case: Case) -> None:
    """The toolchain's programs and libraries are changed, removed or swapped, before or during a run."""
    world = case.world(own_tools=True)
    mine, kept = belongings(world), world.root / "kept"
    shutil.copytree(world.home / "toolchains", kept, symlinks=True)
    files = [p for p in sorted(world.home.glob("toolchains/*/bin/*")) if not p.is_symlink()]
    path, what = case.chance.choice(files), case.chance.choice(("flip", "remove", "script", "empty"))
    run = world.start("run", "tiny.toml") if case.chance.random() < 0.5 else None
    if run:
        wait(run, case.seconds())
    case.say(f"{path.name}: {what} {'during a run' if run else ''}")
    copy = path.with_name("new")
    shutil.copy2(path, copy)
    if what == "flip":
        flip(copy, case.chance, keep_time=False)
    elif what == "script":
        copy.write_text("#!/bin/sh\necho what is this >&2\nexit 1\n")
    elif what == "empty":
        copy.write_bytes(b"")
    path.unlink()
    copy.unlink() if what == "remove" else copy.rename(path)
    ended = run.wait() if run else world.lwq("run", "tiny.toml")
    case.say(f"ended {ended.code}")
    case.faults += told(ended)
    if not run and not ended.code:
        case.faults.append("a changed toolchain was used")
    for tools in ("toolchains",):
        shutil.rmtree(world.home / tools)
        shutil.copytree(kept, world.home / tools, symlinks=True)
    shutil.rmtree(kept)
    case.finish(world, mine, repair=True)


def memory(case: Case) -> None:
    """So much memory and no more."""
    world = case.world()
    which = case.chance.choice((resource.RLIMIT_AS, resource.RLIMIT_DATA))
    n_bytes = int(2 ** case.chance.uniform(20, 29))
    case.broken(world, Faults(limits=((which, n_bytes),)))


def files_limit(case: Case) -> None:
    """Few open files, or none larger than so much."""
    world = case.world()
    limit = case.chance.choice(
        ((resource.RLIMIT_NOFILE, case.chance.randint(8, 40)), (resource.RLIMIT_FSIZE, 1 << case.chance.randint(8, 21)))
    )
    case.broken(world, Faults(limits=(limit,)))


def odd_tool(case: Case) -> None:
    """A tool that floods its pipe, prints what is no UTF-8, crashes, is killed, fails, or says nothing."""
    world = case.world(filled=0.0)
    what = case.chance.choice(("flood", "garbled", "garbled", "crash", "killed", "fails", "silent", "deaf"))
    case.broken(world, Faults(replay=f"{case.chance.choice(_TOOLS)} {what}"))


KINDS: Final[tuple[Kind, ...]] = (
    disk, full, short, killed_at_boundary, stopped_at_boundary, killed_at_random, storm, disk, clock, together,
    read_only, full, vanished, killed_at_boundary, flipped, replaced, memory, disk, odd_tool, killed_at_random,
    files_limit, stopped_at_boundary,
)  # fmt: skip
_REAL: Final[tuple[Kind, ...]] = (killed_at_random, disk, storm, full)
REAL_EVERY: Final = 50
"""One case of so many has the real tools and a process of its own."""


def try_one(stage: Stage, seed: int, number: int) -> Case:
    """The case of a number, tried."""
    is_real = number % REAL_EVERY == REAL_EVERY - 1
    kinds = _REAL if is_real else KINDS
    kind = kinds[(number // REAL_EVERY if is_real else number) % len(kinds)]
    case = Case(stage, f"{kind.__name__}-{number}", random.Random(f"{seed}/{number}"), real=is_real)
    kind(case)
    return case


def all_cases(stage: Stage, seed: int, n: int) -> Iterator[Case]:
    """The first ``n`` cases of a seed."""
    for number in range(n):
        yield try_one(stage, seed, number)
