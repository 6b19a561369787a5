"""How often lwq's 95 % intervals hold the truth, in simulated runs whose truth is known.

KLD: windows with skewed values (gamma, shape 4) whose neighbours correlate by 0.3. PPL ratio: likelihood ratios of
windows with heavy tails (Student, 5 degrees of freedom), correlated likewise. Average: five task sets whose items have
difficulties of their own; two files that answer most items alike, one a little better, and the interval of the
difference of their averages.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from lwq.metrics.arrays import Doubles
from lwq.metrics.paired import average_difference, mean_interval, ratio_interval
from lwq.metrics.values import Interval

N_WINDOWS = (12, 40, 120)
N_ITEMS = (100, 750)
N_SETS = 5
CORRELATION = 0.3
SHAPE = 4.0
DEGREES = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    options = parser.parse_args()
    kld = [share("kld", n, options.runs, kld_run) for n in N_WINDOWS]
    ppl = [share("ppl", n, options.runs, ppl_run) for n in N_WINDOWS]
    average = [share("average", n, options.runs, average_run) for n in N_ITEMS]
    figures = (f"{name}={np.mean(shares):.3f}" for name, shares in (("kld", kld), ("ppl", ppl), ("average", average)))
    print("interval_coverage: " + " ".join(figures))


def share(name: str, n: int, n_runs: int, run: Callable[[int, np.random.Generator], bool]) -> float:
    """Share of runs whose interval holds the truth."""
    rng = np.random.default_rng(n)
    held = float(np.mean([run(n, rng) for _ in range(n_runs)]))
    what = "items a set" if name == "average" else "windows"
    print(f"{name:<8} {n:4} {what}: {held:.3f} of {n_runs}", flush=True)
    return held


def kld_run(n: int, rng: np.random.Generator) -> bool:
    from scipy.special import gammaincinv, ndtr

    values = gammaincinv(SHAPE, ndtr(correlated(n, rng))) * 0.01
    return holds(mean_interval(values, rng=rng), SHAPE * 0.01)


def ppl_run(n: int, rng: np.random.Generator) -> bool:
    from scipy.special import ndtr, stdtrit

    ln_ratios = 0.02 + 0.01 * stdtrit(DEGREES, ndtr(correlated(n, rng)))
    return holds(ratio_interval(ln_ratios, rng=rng), float(np.exp(0.02)))


def average_run(n: int, rng: np.random.Generator) -> bool:
    """The better file gets 3 % of the items right that the other gets wrong, and loses 1 %."""
    a, b = {}, {}
    for i in range(N_SETS):
        common = rng.random(n) < 0.3 + 0.1 * i
        differs = rng.random(n)
        a[str(i)] = tuple(np.where(differs < 0.03, True, np.where(differs > 0.99, False, common)).tolist())
        b[str(i)] = tuple(np.where(differs < 0.03, False, np.where(differs > 0.99, True, common)).tolist())
    return holds(average_difference(a, b, rng=rng).interval, 0.03 - 0.01)


def correlated(n: int, rng: np.random.Generator) -> Doubles:
    """Standard normal values whose neighbours correlate."""
    noise = rng.normal(size=n)
    for i in range(1, n):
        noise[i] = CORRELATION * noise[i - 1] + np.sqrt(1 - CORRELATION**2) * noise[i]
    return noise


def holds(interval: Interval | None, truth: float) -> bool:
    assert interval
    return interval.holds(truth)


if __name__ == "__main__":
    main()
