"""What handing steps out costs: 1,000 tiny steps by two real workers, and a fleet of 100 on a clock that costs no time.

The fleet is 100 places, 2,000 steps with durations as they were recorded (of the quickstart's kinds, scaled at random),
and the code that hands steps out; only the clock and the workers are not real. A second fleet, of real threads that
sleep, has the dispatcher too.

Usage: python benchmarks/fleet.py [STEPS] [--alone]
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from lwq.errors import ClusterError
from lwq.plan.dispatch import Dispatcher
from lwq.plan.execution import execute, work_of
from lwq.plan.graph import Pending, longest_chain
from lwq.plan.lineup import Lineup, WorkPlace, wall_seconds
from lwq.plan.plan import AnyStep
from lwq.plan.workers import Assignment, Joined, Outcome
from tests.idle_steps import MACHINE, around, idle

N_WORKERS, N_STEPS = 100, 2_000
SECONDS = {"imatrix": 62.0, "baseline": 40.0, "sensitivity": 410.0, "search": 230.0, "quantize": 6.0, "evaluate": 38.0}
"""Of the quickstart's steps, as a run of it recorded them."""


def fleet_tasks(n_steps: int, seed: int = 7) -> list[Pending]:
    """Models of the usual shape, each up to ten times as large: a base, what is measured of it, five targets."""
    draw, tasks = random.Random(seed), list[Pending]()
    while len(tasks) < n_steps:
        scale, model = draw.uniform(0.5, 10.0), f"m{len(tasks)}"

        def add(kind: str, name: str, *after: str, scale: float = scale, model: str = model) -> str:
            key = f"{model}/{kind}/{name}"
            seconds = SECONDS.get(kind, 1.0) * scale * draw.uniform(0.7, 1.3)
            tasks.append(Pending(key=key, after=frozenset(after), seconds=seconds))
            return key

        base = add("convert", "")
        matrix, logits = add("imatrix", "", base), [add("baseline", f"{i}", base) for i in range(2)]
        probed = add("sensitivity", "", matrix)
        for target in range(5):
            types = add("search", f"{target}", probed)
            file = add("quantize", f"{target}", types)
            for i, stored in enumerate(logits):
                add("evaluate", f"{target}-{i}", file, stored)
    return tasks[:n_steps]


def on_a_clock(tasks: list[Pending]) -> tuple[float, float]:
    """(wall time ÷ what no schedule beats, milliseconds of deciding a task)."""
    lineup = Lineup({})
    for i in range(N_WORKERS):
        lineup.join(WorkPlace(name=f"w{i}", host=f"h{i}", is_here=False))
    began = time.perf_counter()
    wall = wall_seconds(tasks, lineup, lambda task, _: task.seconds)
    spent = time.perf_counter() - began
    bound = max(longest_chain(tasks), sum(task.seconds for task in tasks) / N_WORKERS)
    return wall / bound, 1e3 * spent / len(tasks)


class Sleepers:
    """100 threads that sleep as long as a step lasts, scaled; what comes of it is kept by the real cache."""

    n_failures = 3

    def __init__(self, n: int) -> None:
        self.new = [WorkPlace(name=f"w{i}", host=f"h{i}", is_here=False) for i in range(n)]

    def begin(self) -> None: ...

    def look(self, wanted: frozenset[str]) -> tuple[list[Joined], list[str]]:
        found, self.new = self.new, []
        return [Joined(place=place, room={}) for place in found], []

    def start(self, given: Assignment, tell: Callable[[Outcome], None]) -> None:
        def run() -> None:
            work = work_of(given.step, given.entries, given.around)
            entry, fresh = given.around.cache.build(given.step.module.NAME, given.step.key_value, work)
            tell(Outcome(entry=entry, fresh=fresh))

        threading.Thread(target=run, daemon=True).start()

    def stop(self, place: str, key: str) -> None: ...

    def lack(self) -> ClusterError | None:
        return None

    def close(self, *, leave: bool) -> None: ...


def asleep(root: Path, n_steps: int, scale: float) -> float:
    """Wall time of threads that sleep ÷ what no schedule beats, the cache's writes and the dispatcher included."""
    steps, by_key, tasks = list[AnyStep](), dict[str, AnyStep](), fleet_tasks(n_steps)
    for task in tasks:
        after = [by_key[key] for key in sorted(task.after)]
        step = idle(task.key.replace("/", "-"), *after, seconds=task.seconds * scale)
        by_key[task.key] = step
        steps.append(step)
    seconds = {by_key[task.key].key: task.seconds * scale for task in tasks}
    crew = Dispatcher(Sleepers(N_WORKERS))
    began = time.perf_counter()
    execute(tuple(steps), around(root, crew, seconds=seconds))
    wall = time.perf_counter() - began
    crew.close()
    return wall / max(longest_chain(tasks) * scale, sum(seconds.values()) / N_WORKERS)


def overhead(root: Path, n: int) -> tuple[float, float, float]:
    """Milliseconds a step: of two workers of dask, of one process, and of CPU that the client took for each."""
    from lwq.plan.crews import crew_of

    os.environ["LWQ_HOME"] = str(root / "beside")
    steps = tuple(idle(f"t{i}") for i in range(n))
    began = time.perf_counter()
    execute(steps, around(root / "alone", None))
    alone = time.perf_counter() - began
    with crew_of(MACHINE, "cpu", n_workers=2) as crew:
        execute((idle("first"), idle("second")), around(root / "beside", crew))
        seconds = {step.key: alone / n for step in steps}  # as calibration foretells them
        began, cpu = time.perf_counter(), time.process_time()
        execute(steps, around(root / "beside", crew, seconds=seconds))
        beside, cpu = time.perf_counter() - began, time.process_time() - cpu
    return 1e3 * beside / n, 1e3 * alone / n, 1e3 * cpu / n


def main() -> None:
    numbers = [int(word) for word in sys.argv[1:] if word.isdecimal()]
    ratio, deciding = on_a_clock(fleet_tasks(N_STEPS))
    print(f"on a clock: {ratio:.3f} of the bound, {deciding:.3f} ms to decide a task", flush=True)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        beside, alone, cpu = overhead(Path(name), numbers[0] if numbers else 1_000)
        print(f"a step: {beside:.2f} ms by two workers, {alone:.2f} in one process; {cpu:.2f} ms CPU of the client")
        bound = ratio if "--alone" in sys.argv else asleep(Path(name) / "asleep", N_STEPS, 2e-2)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"fleet: overhead_ms={beside - alone / 2:.2f} client_ms={cpu:.2f} bound={ratio:.3f} asleep={bound:.3f}")


if __name__ == "__main__":
    main()
