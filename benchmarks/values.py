"""Compensated values against stock values, stock mixes and AutoRound's files, on three texts, at six stock sizes.

Everything runs on the 768-wide reference copy of SmolLM2-135M-Instruct (or ``--model``) through lwq's own steps. Of
the three texts the first two are of domains that were calibrated on, the third is of none. At each size are scored:
the stock mix; lwq's types with stock values; lwq's types with compensated values; and, with ``--autoround FOLDER``,
``FOLDER/FTYPE.gguf`` as AutoRound exports it of the same base (``auto-round --model … --format gguf:q4_k_m``).

The last line holds geometric means over the sizes: of compensated ÷ stock values at equal types for each text, and of
compensated ÷ stock mix, and ÷ AutoRound, over all texts. KLD is scored in process, by the kernels of the written file.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import geometric_mean

import numpy as np
from watching import RECIPE, Done, carry_out, parser

import lwq
from lwq.bits.mixes import Rounding
from lwq.bits.race import difference
from lwq.engine.engine import Engine
from lwq.engine.session import spread_over
from lwq.gguf.data import raw_tensor
from lwq.gguf.header import read_header
from lwq.gguf.imatrix import read_imatrix
from lwq.gguf.importance import importance_rows
from lwq.llama.toolchain import find
from lwq.metrics.divergence import Scores
from lwq.plan.planner import Planner

FTYPES = ("Q2_K", "Q3_K_S", "Q3_K_M", "Q4_K_S", "Q4_K_M", "Q5_K_M")
KINDS = ("convert", "imatrix", "sensitivity", "grams", "allocate")
HELD_BACK = 0.2
"""Share at the end of the second text that is evaluated on, where that text is a packaged one."""


def packaged(name: str) -> str:
    """One of the texts that come with lwq."""
    return (Path(lwq.__file__).parent / "plan" / "texts" / f"{name}.txt").read_text(encoding="utf-8")


def texts_of(options: argparse.Namespace) -> tuple[str, dict[str, str]]:
    """The calibration text, and the texts that are evaluated on by name."""
    calibration = packaged("calibration")
    second = options.second and Path(options.second).read_text(encoding="utf-8")
    if not second:
        prose = packaged("prose")
        at = prose.index("\n", int(len(prose) * (1 - HELD_BACK)))
        calibration, second = calibration + prose[:at], prose[at:]
    if options.calibration != "packaged:calibration":
        calibration = Path(options.calibration).read_text(encoding="utf-8")
    own = packaged("evaluation") if not options.own else Path(options.own).read_text(encoding="utf-8")
    unseen = packaged("code") if not options.unseen else Path(options.unseen).read_text(encoding="utf-8")
    return calibration, {"own": own, "second": second, "unseen": unseen}


class Arena:
    """All mixes of a size on the same windows of three texts."""

    def __init__(self, engine: Engine, done: Done, texts: Mapping[str, str], n_windows: int) -> None:
        self.engine, self.done, self.n_windows = engine, done, n_windows
        self.texts = tuple(texts)
        engine.set_windows(np.concatenate([spread_over(engine.cut(t), n_windows) for t in texts.values()]))
        targets = [t for t in engine.header.tensors if len(t.ne) > 1]
        self.names = [t.name for t in targets]
        plain = importance_rows(read_imatrix(done.entries["imatrix"].path("imatrix.gguf")).entries, targets)
        self.bare = frozenset(n for n in self.names if n not in plain)
        self.mixer = done.mixer(engine)

    def score(self, types: Mapping[str, str], rounding: Rounding, unweighted: frozenset[str] = frozenset()) -> Scores:
        self.mixer.put({n: types[n] for n in self.names}, unweighted, rounding)
        return self.engine.score()

    def of_file(self, path: Path) -> Scores:
        """Of a quantized file of the same base."""
        self.mixer.put({})
        header = read_header(path)
        for name in self.names:
            raw = raw_tensor(header, name)
            self.engine.swap(name, raw.ggml_type, np.ascontiguousarray(raw.data))
        scores = self.engine.score()
        for name in self.names:
            self.engine.restore(name)
        return scores

    def by_text(self, scores: Scores) -> dict[str, Scores]:
        n = self.n_windows
        parts = {name: slice(i * n, (i + 1) * n) for i, name in enumerate(self.texts)}
        return {name: Scores(kld=scores.kld[part], nll=scores.nll[part]) for name, part in parts.items()}

    def at(self, ftype: str, autoround: Path | None) -> dict[str, dict[str, Scores]]:
        """Scores of one size by name and text."""
        ours, stock = (dict(self.done.result(f"allocate:{ftype}{end}").allocation.types) for end in ("_LWQ", ""))
        found = {
            "stock": self.score(stock, "weighted", self.bare),
            "same types": self.score(ours, "weighted"),
            "compensated": self.score(ours, "compensated"),
        }
        if autoround and (file := autoround / f"{ftype}.gguf").exists():
            found["autoround"] = self.of_file(file)
        return {name: self.by_text(scores) for name, scores in found.items()}


def compare(arena: Arena, ftypes: tuple[str, ...], autoround: Path | None) -> None:
    """Prints the scores of all sizes, and the ratios."""
    equal: dict[str, list[float]] = {name: [] for name in arena.texts}
    against: dict[str, list[float]] = {"stock": [], "autoround": []}
    for ftype in ftypes:
        found = arena.at(ftype, autoround)
        ours = found["compensated"]
        for text in arena.texts:
            line = "  ".join(f"{name} {scores[text].mean_kld:.5f}" for name, scores in found.items())
            gap = difference(ours[text], found["same types"][text])
            ratio = ours[text].mean_kld / found["same types"][text].mean_kld
            print(
                f"{ftype:<7} {text:<7} {line}  ratio {ratio:.3f}  {gap.value:+.5f} ±{gap.stderr or 0:.5f}", flush=True
            )
            equal[text].append(ratio)
            for rival, ratios in against.items():
                if rival in found:
                    ratios.append(ours[text].mean_kld / found[rival][text].mean_kld)
    shown = [f"{text}={geometric_mean(ratios):.3f}" for text, ratios in equal.items()]
    shown += [f"vs_{rival}={geometric_mean(r):.3f}" for rival, r in against.items() if r]
    print("values: " + " ".join(shown))


def main() -> None:
    arguments = parser(__doc__)
    for name in ("own", "second", "unseen"):
        arguments.add_argument(f"--{name}", help="a text file to evaluate on instead")
    arguments.add_argument("--autoround", type=Path, help="folder of FTYPE.gguf that AutoRound exported of the base")
    arguments.add_argument("--ftypes", nargs="+", default=FTYPES, choices=FTYPES)
    options = arguments.parse_args()
    ftypes = tuple(options.ftypes)
    calibration, texts = texts_of(options)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "calibration.txt"
        path.write_text(calibration, encoding="utf-8")
        options.calibration = str(path)
        targets = f"[[targets]]\nbudget = {list(ftypes)!r}\n" + "".join(f"[[targets]]\nftype = {f!r}\n" for f in ftypes)
        done = carry_out(options, RECIPE, targets, Planner.plan, KINDS)
        with Engine(find(), done.base, n_ctx=512, n_threads=options.threads) as engine:
            compare(Arena(engine, done, texts, options.windows), ftypes, options.autoround)


if __name__ == "__main__":
    main()
