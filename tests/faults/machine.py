"""A cache through random interleavings of all that happens to it; after each the invariant holds."""

from __future__ import annotations

import errno
import os
import random
import signal
from collections.abc import Callable
from typing import Final

from tests.faults.cases import EVER, NOBODY, Case, flip, is_artefact, wait
from tests.faults.stage import Faults, Stage, World
from tests.faults.whole import afterwards, belongings, same, told

N_STEPS: Final = 6


class Machine:
    """A world, the recipe that is asked for now, and whether bytes were changed behind lwq's back."""

    def __init__(self, case: Case) -> None:
        self.case, self.chance = case, case.chance
        self.world: World = case.world(filled=0.2)
        self.mine = belongings(self.world)
        self.is_corrupt = False

    def run(self) -> None:
        ended = self.world.lwq("run", "tiny.toml")
        if self.is_corrupt:
            self.case.faults += told(ended)
        else:
            self.case.faults += told(ended, codes=(0,))
            self.case.faults += same(self.world, self.case.recipe, "a run") if not ended.code else []

    def kill(self) -> None:
        run = self.world.start("run", "tiny.toml")
        wait(run, self.case.seconds())
        run.send(self.chance.choice((signal.SIGKILL, signal.SIGINT, signal.SIGTERM)))
        run.wait()

    def corrupt(self) -> None:
        files = [p for p in sorted(self.world.home.rglob("*")) if is_artefact(p, self.world)]
        if files:
            path = self.chance.choice(files)
            self.case.say(str(path.relative_to(self.world.home)))
            flip(path, self.chance, keep_time=self.chance.random() < 0.5)
            self.is_corrupt = True

    def gc(self) -> None:
        self.case.faults += told(self.world.lwq("cache", "gc", "--yes"), codes=(0,))

    def edit(self) -> None:
        self.case.recipe = "edited" if self.case.recipe == "basic" else "basic"
        self.world.use(self.case.recipe)
        self.mine = belongings(self.world)

    def full_disk(self) -> None:
        nth = 1 + int(400 * self.chance.random() ** 2)
        rules = (f"womlnst,fail,{errno.ENOSPC},{nth},{EVER},{self.world.home}",)
        self.case.faults += told(self.world.lwq("run", "tiny.toml", faults=Faults(rules=rules)))

    def other_user(self) -> None:
        for path in (self.world.work, self.world.report):
            path.chmod(0o777)
        what = self.chance.choice((("run", "tiny.toml"), ("cache", "gc", "--yes"), ("cache", "verify", "--repair")))
        self.case.say(" ".join(what))
        self.case.faults += told(self.world.lwq(*what, faults=Faults(user=NOBODY)))

    def verify(self) -> None:
        self.case.faults += told(self.world.lwq("cache", "verify", "--repair"), codes=(0,))
        self.is_corrupt = False

    def step(self) -> None:
        """One thing that happens, and what holds afterwards, tried on a copy."""
        moves: tuple[Callable[[], None], ...] = (
            self.run, self.kill, self.kill, self.corrupt, self.gc, self.edit, self.full_disk, self.other_user,
            self.verify,
        )  # fmt: skip
        move = self.chance.choice([m for m in moves if m != self.other_user or not os.getuid()])
        self.case.say(move.__name__)
        move()
        look = self.world.copy(f"{self.case.name}-look")
        self.case.faults += afterwards(look, self.case.recipe, self.mine, repair=self.is_corrupt)


def try_sequence(stage: Stage, seed: int, number: int) -> Case:
    """A random sequence, up to the first thing that is wrong."""
    case = Case(stage, f"machine-{number}", random.Random(f"machine {seed}/{number}"))
    machine = Machine(case)
    for _ in range(N_STEPS):
        if not case.faults:
            machine.step()
            case.times += 1
    return case
