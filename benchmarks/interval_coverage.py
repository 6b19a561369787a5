"""How often lwq's 95 % intervals hold the truth, in simulated runs whose truth is known.

KLD: windows with skewed values (gamma, shape 4) whose neighbours correlate by 0.3. PPL ratio: likelihood ratios of
windows with heavy tails (Student, 5 degrees of freedom), correlated likewise. Average: five task sets whose items have
difficulties of their own; two files that answer most items alike, one a little better, and the interval of the
difference of their averages.

Surely wrong: races as a search holds them, decided by its own code, in which no candidate is better than stock. Levels
of windows are those of KLD above, shared by all mixes; what a mix differs by is a share of the level, with heavy tails
and correlation. Two worlds, the worse of which counts: eight candidates as good as stock; seven such and one that fits
the first half of the text (0.7 of stock) and is worse on the second (1.05).
Power: one candidate is better by that much.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from drawn_races import STOCK, decided

from lwq.metrics.arrays import Doubles
from lwq.metrics.paired import average_difference, mean_interval, quotient_interval, ratio_interval
from lwq.metrics.values import Interval

N_WINDOWS = (12, 40, 120)
N_ITEMS = (100, 750)
N_SETS = 5
CORRELATION = 0.3
SHAPE = 4.0
DEGREES = 5.0
N_TEXT, N_RACE, N_CONFIRMING = 46, 6, 12
"""Windows of 512 tokens in `packaged:selection`, and the recipe's defaults."""
N_SHORT = 14
"""A text that is too short to confirm on."""
N_CANDIDATES = 8
SPREAD = 0.08
"""Standard deviation of a mix's own share of a window's KLD."""
GAINS = (0.1, 0.2, 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    options = parser.parse_args()
    runs = {"kld": kld_run, "ppl": ppl_run, "quotient": quotient_run, "average": average_run}
    held = {
        name: np.mean([share(name, n, options.runs, run) for n in (N_ITEMS if name == "average" else N_WINDOWS)])
        for name, run in runs.items()
    }
    worlds = (("level", 1.0), ("fitted", 1.05))
    wrong = max(claimed(name, options.runs, elsewhere=elsewhere) for name, elsewhere in worlds)
    power = [f"power_{100 * gain:.0f}={claimed('gain', options.runs, gain):.3f}" for gain in GAINS]
    claimed("short", options.runs, n_text=N_SHORT)
    shares = " ".join(f"{name}={value:.3f}" for name, value in held.items())
    print(f"coverage: {shares} surely_wrong={wrong:.3f} {' '.join(power)}")


def share(name: str, n: int, n_runs: int, run: Callable[[int, np.random.Generator], bool]) -> float:
    """Share of runs whose interval holds the truth."""
    rng = np.random.default_rng(n)
    held = float(np.mean([run(n, rng) for _ in range(n_runs)]))
    what = "items a set" if name == "average" else "windows"
    print(f"{name:<8} {n:4} {what}: {held:.3f} of {n_runs}", flush=True)
    return held


def claimed(name: str, n_runs: int, gain: float = 0.0, elsewhere: float = 1.0, n_text: int = N_TEXT) -> float:
    """Share of races in which a candidate is called surely better.

    Args:
        gain: of the first candidate, everywhere.
        elsewhere: its KLD ÷ stock's on the second half of the text, where it fits the first half; 1: it does not.
    """
    rng = np.random.default_rng(N_CANDIDATES)
    ends = [decided(drawn(rng, gain, elsewhere, n_text), N_RACE, N_CONFIRMING) for _ in range(n_runs)]
    sure, led = (float(np.mean([of(end) for end in ends])) for of in (lambda end: end.is_sure, lambda end: end.led))
    ships = float(np.mean([end.chosen != STOCK for end in ends]))
    what = f"one better by {gain:.0%}" if gain else "none better"
    print(
        f"{name:<8} {n_text:4} windows, {what}: surely better in {sure:.3f} of {n_runs} races, ships in {ships:.3f};"
        f" leads by 1.96 errors in the race in {led:.3f}",
        flush=True,
    )
    return sure


def drawn(rng: np.random.Generator, gain: float, elsewhere: float, n: int) -> dict[str, Doubles]:
    """KLD of each quarter of each window, of the stock mix and the candidates."""
    from scipy.special import gammaincinv, ndtr

    level = gammaincinv(SHAPE, ndtr(correlated(n, rng)))[:, None] * rng.gamma(SHAPE, 1 / SHAPE, size=(n, 4))
    shares = np.ones((1 + N_CANDIDATES, n, 1))
    shares[1] -= gain
    if elsewhere != 1.0:
        shares[1, : n // 2], shares[1, n // 2 :] = 0.7, elsewhere
    own = np.stack([own_shares(n, rng) for _ in shares])
    kld = 0.01 * level * (shares + own)
    return {STOCK: kld[0]} | {f"candidate {i}": each for i, each in enumerate(kld[1:], start=1)}


def own_shares(n: int, rng: np.random.Generator) -> Doubles:
    """What a mix differs by on each quarter of each window: half of its variance is its windows', correlated."""
    from scipy.special import ndtr, stdtrit

    unit = np.sqrt((DEGREES - 2) / DEGREES)
    windows = stdtrit(DEGREES, ndtr(correlated(n, rng)))[:, None]
    quarters = rng.standard_t(DEGREES, size=(n, 4)) * 2  # their mean varies as a window does
    shares: Doubles = SPREAD * unit * (windows + quarters) / np.sqrt(2)
    return shares


def kld_run(n: int, rng: np.random.Generator) -> bool:
    from scipy.special import gammaincinv, ndtr

    values = gammaincinv(SHAPE, ndtr(correlated(n, rng))) * 0.01
    return holds(mean_interval(values, rng=rng), SHAPE * 0.01)


def quotient_run(n: int, rng: np.random.Generator) -> bool:
    """KLD of a mix that loses 0.8 of what another does, as they are drawn for races."""
    kld = drawn(rng, 0.2, 1.0, n)
    return holds(quotient_interval(kld["candidate 1"].mean(axis=1), kld[STOCK].mean(axis=1), rng=rng), 0.8)


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
