"""The default's three probes a layer against probing every tensor: cost, damages, and the files that come of them.

Both sensitivity steps run one after the other on the 768-wide reference copy (or ``--model``). Alphas are compared over
the tensors that the first did not probe. For each size both allocate as the search step does before it races: with
further probes where it is the least sure, and exactly. The mixes are scored on the evaluation text, paired over its
windows. ``cost`` is the ratio of the steps' seconds, ``kld`` the largest ratio of KLDs.

``--files`` compares a probe in process with the same probe made with files instead.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from allocation import RECIPE, shown
from probe_with_files import compare_with_files
from watching import Done, carry_out, parser

from lwq.bits.contest import N_PROBE_WINDOWS, probe
from lwq.bits.mixes import Mixer, probed
from lwq.bits.problem import Problem
from lwq.bits.race import difference
from lwq.bits.stock import stock_mix
from lwq.engine.engine import Engine
from lwq.engine.session import spread_over
from lwq.gguf.header import read_header
from lwq.gguf.imatrix import read_imatrix
from lwq.gguf.importance import importance_rows
from lwq.llama.toolchain import find
from lwq.plan.planner import Planner
from lwq.recipe.constraints import TYPE_SETS, Constraints
from lwq.store.pieces import Pieces

FTYPES = ("Q3_K_S", "Q4_K_M", "Q6_K")
WAYS = {"all": 'probes = "all"\nn_windows = 3', "layers": ""}
"""What the recipe says of each way; three windows were the default while every tensor was probed."""
STEPS = ("convert", "imatrix", "sensitivity")
Mixes = dict[str, dict[str, str]]
"""Size → tensor → type."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way of probing: its step, done, and the best predicted mixes that come of it."""

    done: Done
    mixes: Mixes

    @property
    def seconds(self) -> float:
        return self.done.entries["sensitivity"].seconds

    def values(self, of: str) -> dict[str, float]:
        """Tensor → ``alpha``, or whether ``is_probed``."""
        return {t.tensor: getattr(t, of) for t in self.done.result("sensitivity").tensors}


def probed_by(coverage: str, options: argparse.Namespace, known: Pieces) -> Way:
    """The step, and the mixes: further probes are shared where both ways ask for the same."""
    head = RECIPE + f"[sensitivity]\n{WAYS[coverage]}\n"
    done = carry_out(options, head, "[[targets]]\nbudget = 'Q4_K_M'\nvalues = 'stock'\n", Planner.plan, STEPS)
    header, found = read_header(done.base), done.result("sensitivity")
    importance = importance_rows(
        read_imatrix(done.entries["sensitivity"].path(found.file)).entries,
        [t for t in header.tensors if len(t.ne) > 1],
    )
    mixes: Mixes = {}
    with Engine(find(), done.base, n_ctx=512, n_threads=options.threads) as engine:
        windows = spread_over(engine.cut(done.texts["calibration"]), N_PROBE_WINDOWS)
        engine.set_windows(windows, scored=probed(engine.n_ctx))
        mixer = Mixer(engine, importance)
        for ftype, n_bytes in sizes(done).items():
            problem = Problem(header=header, tensors=found.tensors, constraints=Constraints(types=TYPE_SETS["all"]))
            probe(problem, n_bytes, mixer, known, lambda: None)
            mixes[ftype] = problem.solved(n_bytes).types
            print(f"{coverage}, {ftype}: allocated", flush=True)
    return Way(done=done, mixes=mixes)


def sizes(done: Done) -> dict[str, int]:
    """Stock mix → bytes of all tensors."""
    imatrix = done.entries["imatrix"].path("imatrix.gguf")
    with TemporaryDirectory() as name:
        for file, path in (("base.gguf", done.base), ("imatrix.gguf", imatrix)):
            (Path(name) / file).symlink_to(path)
        of = partial(stock_mix, find(), read_header(done.base), cwd=Path(name), model="base.gguf")
        return {f: of(f, imatrix="imatrix.gguf").n_bytes for f in FTYPES}


def ranks(values: list[float]) -> np.ndarray:
    return np.argsort(np.argsort(values))


def compare_damages(full: Way, some: Way) -> float:
    """Prints how far estimates are off; Spearman's rank correlation over the tensors that are estimated."""
    true, found, is_probed = full.values("alpha"), some.values("alpha"), some.values("is_probed")
    names = [n for n in true if not is_probed[n] and true[n] > 0 and found[n] > 0]
    off = np.log([found[n] / true[n] for n in names])
    print(f"{len(true) - len(names)} of {len(true)} tensors probed; log of estimated alpha ÷ measured alpha:", end=" ")
    print(f"mean {off.mean():+.3f}, standard deviation {off.std():.3f}, largest {np.abs(off).max():.3f}")
    return float(np.corrcoef(ranks([true[n] for n in names]), ranks([found[n] for n in names]))[0, 1])


def compare_mixes(full: Way, some: Way, options: argparse.Namespace) -> float:
    """Prints KLDs on the evaluation text at each size; the largest ratio."""
    entry = some.done.entries["sensitivity"]
    header = read_header(full.done.base)
    entries = read_imatrix(entry.path(some.done.result("sensitivity").file)).entries
    importance = importance_rows(entries, [t for t in header.tensors if len(t.ne) > 1])
    ratios = []
    with Engine(find(), full.done.base, n_ctx=512, n_threads=options.threads) as engine:
        engine.set_windows(spread_over(engine.cut(full.done.texts["evaluation"]), options.windows))
        mixer = Mixer(engine, importance)
        for ftype in FTYPES:
            scores = []
            for way in (full, some):
                mixer.put(way.mixes[ftype])
                scores.append(engine.score())
            gap = difference(scores[1], scores[0])
            ratios.append(scores[1].mean_kld / scores[0].mean_kld)
            print(f"{ftype:<7} all {shown(scores[0])}  layers {shown(scores[1])}  ratio {ratios[-1]:.3f}", end="  ")
            print(f"layers less all {gap.value:+.5f} ±{gap.stderr or 0:.5f}", flush=True)
    return max(ratios)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--files", action="store_true", help="a probe in process against one with files")
    arguments.add_argument("--ctx", type=int, default=512, help="tokens of a window, with --files")
    options = arguments.parse_args()
    if options.files:
        compare_with_files(min(options.windows, 2), options.ctx)
        return
    with TemporaryDirectory() as name:
        known = Pieces(Path(name) / "probes.jsonl")
        full, some = (probed_by(coverage, options, known) for coverage in WAYS)
    rank, kld = compare_damages(full, some), compare_mixes(full, some, options)
    print(f"all {full.seconds:.0f} s, layers {some.seconds:.0f} s")
    print(f"sensitivity: cost={some.seconds / full.seconds:.3f} rank={rank:.3f} kld={kld:.3f}")


if __name__ == "__main__":
    main()
