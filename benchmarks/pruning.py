"""Which layers to remove, and what healing brings: lwq's choice against the indices of the literature.

Everything runs on the 768-wide reference copy of SmolLM2-135M-Instruct (or ``--model``) through lwq's own steps:
scores, sets and repairs from the calibration text, healing judged on the selection text, and the KLD printed here
measured on the evaluation text, against the whole model, without quantization. Rivals may not remove the first or the
last layer either: lowest Block Influence, the run with the least angular distance, the layers that change the
importance matrix least (highest CosSim), layers 4, 5, … as the reference card has it, and random sets.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Mapping

import numpy as np
from watching import Done, carry_out, parser

from lwq.bits.race import difference
from lwq.engine.engine import Engine
from lwq.engine.session import spread_over
from lwq.layers.mending import Mender
from lwq.layers.pruned_base import read_repairs
from lwq.layers.scores import lowest, nearest_run
from lwq.llama.toolchain import find
from lwq.metrics.divergence import Scores
from lwq.metrics.values import Estimate
from lwq.plan.planner import Planner
from lwq.record.prune import HealedSet, LayerScore, RemovedSet

N_RANDOM = 10
RECIPE = """
name = "pruning-benchmark"
model = {model!r}
[calibration]
text = {calibration!r}
n_ctx = 512
n_chunks = 100
[selection]
text = {selection!r}
n_ctx = 512
[evaluation]
text = {evaluation!r}
n_ctx = 512
"""


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--counts", type=int, nargs="+", default=[1, 2, 3, 5])
    options = arguments.parse_args()
    targets = "".join(f'[[targets]]\nname = "k{k}"\nftype = "Q8_0"\nprune = {k}\n' for k in options.counts)
    done = carry_out(options, RECIPE, targets, Planner.cuts, ("convert", "imatrix", "prune", "heal"))
    compare(Measured(done), options)


class Measured:
    """What lwq's steps measured."""

    def __init__(self, done: Done) -> None:
        prune = done.result("prune")
        self.layers: tuple[LayerScore, ...] = prune.layers
        self.sets: tuple[RemovedSet, ...] = prune.sets
        self.barred = {layer for layer, _ in prune.barred}
        self.healed: Mapping[int, HealedSet] = {len(h.layers): h for h in done.result("heal").sets}
        self.base, self.entry, self.texts = done.base, done.entries, done.texts

    def rivals(self, k: int) -> dict[str, list[tuple[int, ...]]]:
        """Name → sets of ``k`` layers."""
        allowed = [s.layer for s in self.layers if s.layer not in self.barred]
        bi = {s.layer: s.block_influence for s in self.layers if s.layer in allowed}
        alike = {s.layer: -(s.cossim or 0.0) for s in self.layers if s.layer in allowed}
        draw = random.Random(k)
        return {
            "block influence": [lowest(bi, k)],
            "angular distance": [nearest_run(self.layers, k, allowed)],
            "imatrix cossim": [lowest(alike, k)],
            "layers 4, 5, …": [tuple(range(4, 4 + k))],
            f"mean of {N_RANDOM} random": [tuple(sorted(draw.sample(allowed, k))) for _ in range(N_RANDOM)],
        }


def compare(measured: Measured, options: argparse.Namespace) -> None:
    """Prints the KLD of all sets, and the ratios."""
    began = time.monotonic()
    ratios, heals = {}, {}
    with Engine(find(), measured.base, n_ctx=512, n_threads=options.threads) as engine:
        fit = spread_over(engine.cut(measured.texts["calibration"]), 32)
        engine.set_windows(spread_over(engine.cut(measured.texts["evaluation"]), options.windows))
        for k in options.counts:
            ours = scored(engine, measured.sets[k - 1].layers, {})
            print(f"k={k}  lwq {measured.sets[k - 1].layers}: {shown(ours)}", flush=True)
            rivals = {name: [scored(engine, s, {}) for s in sets] for name, sets in measured.rivals(k).items()}
            for (name, scores), sets in zip(rivals.items(), measured.rivals(k).values(), strict=True):
                mean = float(np.mean([s.mean_kld for s in scores]))
                which = f"{sets[0]}: {shown(scores[0])}" if len(sets) == 1 else f": {mean:.5f}"
                gap = f"  lwq less it {shown_gap(difference(ours, scores[0]))}" if len(sets) == 1 else ""
                print(f"      {name} {which}{gap}", flush=True)
            best = min(float(np.mean([s.mean_kld for s in scores])) for scores in rivals.values())
            ratios[k] = ours.mean_kld / best
            heals[k] = healing(engine, measured, k, ours)
        if 2 in options.counts:
            mender = Mender(engine=engine, fit=fit, published=True)
            published, _ = mender.heal(measured.sets[1].layers)
            print(f"k=2  published closed form, even judged on this text: {published.after.value:.5f}", flush=True)
    print(f"scored in {time.monotonic() - began:.0f} s")
    all_k = " ".join(f"k{k}={ratio:.3f}" for k, ratio in ratios.items())
    print(f"pruning: {all_k} heal_k2={heals.get(2, float('nan')):.3f}")


def healing(engine: Engine, measured: Measured, k: int, plain: Scores) -> float:
    """KLD of the healed set to that of the plain one."""
    healed = measured.healed[k]
    repairs = read_repairs(measured.entry["heal"].path(healed.file)) if healed.file else {}
    scores = scored(engine, healed.layers, repairs)
    gap = difference(scores, plain)
    names = ", ".join(t.tensor.removesuffix(".ffn_down.weight").removeprefix("blk.") for t in healed.tensors)
    print(f"      healed (ffn_down of layers {names}): {shown(scores)}  change {shown_gap(gap)}", flush=True)
    return scores.mean_kld / plain.mean_kld


def scored(engine: Engine, layers: tuple[int, ...], repairs: Mapping[str, np.ndarray]) -> Scores:
    """Scores of the model without these layers, with these tensors put in."""
    names = [name for layer in layers for name in engine.skip_layer(layer)]
    for name, values in repairs.items():
        ggml_type = engine.header.find(name)[1].ggml_type
        engine.swap(name, ggml_type, engine.ggml.quantize(values, ggml_type, None, engine.n_threads))
    try:
        return engine.score(*names, *repairs)
    finally:
        engine.restore()


def shown_gap(gap: Estimate) -> str:
    return f"{gap.value:+.5f}" + (f" ±{gap.stderr:.5f}" if gap.stderr is not None else "")


def shown(scores: Scores) -> str:
    return f"KLD {scores.mean_kld:.5f} ±{scores.kld_stderr():.5f} PPL {scores.ppl:.3f}"


if __name__ == "__main__":
    main()
