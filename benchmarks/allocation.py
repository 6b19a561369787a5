"""lwq's files against stock mixes and against an allocator that knows weight errors only, at twelve stock sizes.

Everything runs on the 768-wide reference copy of SmolLM2-135M-Instruct (or ``--model``) through lwq's own steps:
importance matrix and probes on the calibration text, choice on the selection text, and the KLD printed here on the
evaluation text, which nothing was fitted to. Mixes are scored in process, in the types and by the kernels of the
written file (a test proves that the file's KLD is the same).

The opponent works in the way of llama.cpp's proposal for ``--target-bpw`` (PR #15550): the error of each tensor in
each type, weighted by the importance matrix of llama-imatrix, summed over tensors and minimised within the same bytes;
no forward pass. It is given the better, on the evaluation text itself, of two forms: errors as they are, and relative
to each tensor's energy. With ``--plus``, a second one, ``opponent+``, has lwq's importance data for the embedding.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean

import numpy as np
from watching import RECIPE, Done, carry_out, parser

from lwq.bits.knapsack import Group, Option, solve
from lwq.bits.mixes import Mixer, Rounding
from lwq.bits.race import difference
from lwq.engine.engine import Engine
from lwq.engine.session import spread_over
from lwq.gguf.data import read_tensor
from lwq.gguf.header import GgufHeader, read_header
from lwq.gguf.imatrix import read_imatrix
from lwq.gguf.importance import importance_rows
from lwq.gguf.types import fits_rows, tensor_bytes
from lwq.llama.toolchain import find
from lwq.metrics.divergence import Scores
from lwq.plan.planner import Planner

FTYPES = (
    "Q3_K_S", "Q3_K_M", "Q3_K_L", "IQ3_S", "IQ3_M", "IQ4_XS", "IQ4_NL", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K",
)  # fmt: skip
N_ROWS = 256


@dataclass(frozen=True, kw_only=True)
class Searched:
    """What the steps chose for the sizes, and the time it took."""

    base: Path
    header: GgufHeader
    imatrix: Path
    allocations: Mapping[str, Mapping[str, str]]
    done: Done
    compensated: Mapping[str, bool]
    stock: Mapping[str, Mapping[str, str]]
    cold_seconds: float
    further_seconds: float
    evaluation: str


def search(options: argparse.Namespace, ftypes: tuple[str, ...]) -> Searched:
    """Runs lwq's steps up to the allocations of all sizes, and the stock mixes of the same sizes."""
    targets = f"[[targets]]\nbudget = {list(ftypes)!r}\n" + "".join(f"[[targets]]\nftype = {f!r}\n" for f in ftypes)
    done = carry_out(options, RECIPE, targets, Planner.plan, ("convert", "imatrix", "sensitivity", "grams", "allocate"))
    ours, stock = ({f: done.result(f"allocate:{f}{end}") for f in ftypes} for end in ("_LWQ", ""))
    seconds = [done.entries[f"allocate:{f}_LWQ"].seconds for f in ftypes]
    return Searched(
        base=done.base,
        header=read_header(done.base),
        imatrix=done.entries["imatrix"].path("imatrix.gguf"),
        allocations={f: dict(ours[f].allocation.types) for f in ftypes},
        done=done,
        compensated={f: ours[f].compensated for f in ftypes},
        stock={f: dict(stock[f].allocation.types) for f in ftypes},
        cold_seconds=sum(done.entries[label].seconds for label in ("imatrix", "sensitivity", "grams")) + seconds[0],
        further_seconds=max(seconds[1:], default=0.0),
        evaluation=done.texts["evaluation"],
    )


class Opponent:
    """Allocates by weighted errors of the weights alone."""

    def __init__(
        self, mixer: Mixer, header: GgufHeader, names: list[str], types: tuple[str, ...], bare: frozenset[str]
    ):
        ne = {n: header.find(n)[1].ne for n in names}
        self.bytes = {n: {q: tensor_bytes(ne[n], q) for q in types if fits_rows(ne[n], q)} for n in names}
        self.errors = {n: self._errors(mixer, header, n, types, weighted=n not in bare) for n in names}

    @staticmethod
    def _errors(
        mixer: Mixer, header: GgufHeader, name: str, types: tuple[str, ...], *, weighted: bool
    ) -> dict[str, tuple[float, float]]:
        """Type → (error, relative error), both weighted by importance where there is any."""
        values = read_tensor(header, name)
        rows = np.ascontiguousarray(values[:: max(1, len(values) // N_ROWS)][:N_ROWS])
        row = mixer.importance[name][0] if weighted else None
        weights = np.ones(rows.shape[1], np.float32) if row is None else row
        ggml, errors = mixer.engine.ggml, {}
        for q in types:
            if (row is None and ggml.needs_importance(q)) or not fits_rows((rows.shape[1],), q):
                continue
            back = ggml.dequantize(ggml.quantize(rows, q, row, mixer.engine.n_threads), q, rows.shape[1])
            error = float(((rows - back) ** 2 * weights).sum()) * len(values) / len(rows)
            energy = float((rows**2 * weights).sum()) * len(values) / len(rows)
            errors[q] = (error, error / energy if energy else 0.0)
        return errors

    def allocate(self, n_bytes: int, form: int) -> dict[str, str]:
        groups = [
            Group(
                name=n,
                members=(n,),
                options=tuple(Option(label=q, n_bytes=self.bytes[n][q], damage=e[form]) for q, e in errors.items()),
            )
            for n, errors in self.errors.items()
        ]
        return solve(groups, n_bytes)


def main() -> None:
    arguments = parser(__doc__)
    rivals = arguments.add_mutually_exclusive_group()
    rivals.add_argument("--plus", action="store_true", help="score opponent+ too")
    rivals.add_argument("--alone", action="store_true", help="score stock mixes and lwq's only, in half the time")
    arguments.add_argument("--ftypes", nargs="+", default=FTYPES, choices=FTYPES)
    options = arguments.parse_args()
    ftypes = tuple(options.ftypes)
    searched = search(options, ftypes)
    cold, further = searched.cold_seconds / 60, searched.further_seconds
    print(f"one size from nothing: {cold:.1f} min; the slowest further size {further:.0f} s")
    with Engine(find(), searched.base, n_ctx=512, n_threads=options.threads) as engine:
        engine.set_windows(spread_over(engine.cut(searched.evaluation), options.windows))
        n_opponents = 0 if options.alone else 1 + options.plus
        compare(Arena(engine, searched, n_opponents), ftypes)


class Arena:
    """All mixes of a size on the same windows."""

    def __init__(self, engine: Engine, searched: Searched, n_opponents: int) -> None:
        self.engine, self.searched = engine, searched
        self.targets = [t for t in searched.header.tensors if len(t.ne) > 1]
        self.names = [t.name for t in self.targets]
        plain = importance_rows(read_imatrix(searched.imatrix).entries, self.targets)
        self.mixer = searched.done.mixer(engine)
        self.bare = frozenset(n for n in self.names if n not in plain)
        used = {q for mix in searched.allocations.values() for n, q in mix.items() if n in self.names}
        types = tuple(sorted(used | {"q3_K"}))
        asked = (("opponent", self.bare), ("opponent+", frozenset[str]()))[:n_opponents]
        self.opponents = {
            label: Opponent(self.mixer, searched.header, self.names, types, bare) for label, bare in asked
        }

    def n_bytes(self, mix: Mapping[str, str]) -> int:
        return sum(tensor_bytes(t.ne, mix[t.name]) for t in self.targets)

    def score(self, mix: Mapping[str, str], unweighted: frozenset[str], rounding: Rounding = "weighted") -> Scores:
        self.mixer.put({n: mix[n] for n in self.names}, unweighted, rounding)
        return self.engine.score()

    def ours(self, ftype: str) -> Scores:
        """What the search chose: with compensated values, unless that was the stock mix."""
        if self.searched.compensated[ftype]:
            return self.score(self.searched.allocations[ftype], frozenset(), "compensated")
        return self.score(self.searched.allocations[ftype], self.bare)

    def scores_at(self, ftype: str) -> dict[str, Scores]:
        """Scores by name at one size: stock, lwq, and the better form of each opponent."""
        searched, n_bytes = self.searched, self.n_bytes(self.searched.stock[ftype])
        assert self.n_bytes(searched.allocations[ftype]) <= n_bytes
        scores = {
            "stock": self.score(searched.stock[ftype], self.bare),
            "lwq": self.ours(ftype),
        }
        for label, rival in self.opponents.items():
            unweighted = self.bare if label == "opponent" else frozenset[str]()
            forms = [self.score(rival.allocate(n_bytes, form), unweighted) for form in (0, 1)]
            scores[label] = min(forms, key=lambda s: s.mean_kld)
        return scores


def compare(arena: Arena, ftypes: tuple[str, ...]) -> None:
    """Prints the scores of all sizes, and the ratios."""
    klds: dict[str, dict[str, float]] = {}
    for f in ftypes:
        scores = arena.scores_at(f)
        klds[f] = {name: s.mean_kld for name, s in scores.items()}
        used, allowed = (arena.n_bytes(mix[f]) / 2**20 for mix in (arena.searched.allocations, arena.searched.stock))
        gap = difference(scores["lwq"], scores["stock"])
        line = "  ".join(f"{name} {shown(s)}" for name, s in scores.items())
        ratio = klds[f]["lwq"] / klds[f]["stock"]
        print(f"{f:<7} {used:7.2f} of {allowed:7.2f} MiB  {line}  lwq/stock {ratio:.3f}", end="  ")
        print(f"lwq-stock {gap.value:+.5f} ±{gap.stderr or 0:.5f}", flush=True)
    ratios = {f: k["lwq"] / k["stock"] for f, k in klds.items()}
    mean, worst, first = geometric_mean(ratios.values()), max(ratios.values()), ratios.get("Q3_K_S", math.nan)
    against = [k["lwq"] / k["opponent"] for k in klds.values() if "opponent" in k]
    end = f" vs_weight_error={geometric_mean(against):.3f}" if against else ""
    print(f"allocation: geomean={mean:.3f} worst={worst:.3f} q3_k_s={first:.3f}{end}")


def shown(scores: Scores) -> str:
    return f"{scores.mean_kld:.5f} ±{scores.kld_stderr():.5f}"


if __name__ == "__main__":
    main()
