"""Layers as a run would score, remove and heal them: figures plausible for SmolLM2-135M."""

from __future__ import annotations

import math
from dataclasses import replace

from lwq.metrics.values import Estimate
from lwq.record.command import Command
from lwq.record.prune import HealedSet, HealedTensor, LayerScore, PrunedParts, PruningFacts, RemovedSet
from lwq.record.record import Verdict
from lwq.record.search import Search, SearchCandidate
from tests.sample_damage import damage
from tests.sample_search import N_LAYER

_NATS = "nats"
_EDGE = "cannot go: the first and the last layer are barred"
BY_HAND_BASE = "SmolLM2-135M-Instruct-Q4_K_M-pruned-F16.gguf"
HEALED_BASE = "SmolLM2-135M-Instruct-pruned2-F16.gguf"
VERDICTS = (
    Verdict(row="Q4_K_M-pruned", kept=False, reason="IQ4_XS is 12,000,992 bytes smaller and closer"),
    Verdict(row="Q4_K_M-healed", kept=False, reason="IQ4_XS is 9,445,312 bytes smaller and closer"),
)
STAYS = (
    "Every layer stays: on the 8 windows of the selection text that candidates raced on (not confirmed on others), the"
    " KLD of the best of 2 removals (without layer 20) is 358 % above that of after 3 swaps (+0.118204 ±0.004117 nats"
    " of KLD, paired)."
)


def _nats(value: float, stderr: float) -> Estimate:
    return Estimate(value=value, stderr=stderr, unit=_NATS)


def _score(layer: int) -> LayerScore:
    """Dear at both ends; the indices see the slope towards the end and miss what lies between."""
    ends = 9.4 * math.exp(-1.7 * layer) + 2.6 * math.exp((layer - N_LAYER + 1) / 0.7)
    kld = round(0.21 + ends + 0.16 * math.sin(1.9 * layer) ** 2 - (0.06 if layer == 20 else 0.0), 6)
    influence = round(0.031 + 0.42 * math.exp(-layer / 3) + 0.09 * math.exp((layer - 29) / 1.5) - 0.0004 * layer, 6)
    return LayerScore(
        layer=layer,
        block_influence=influence,
        lim=round(influence - 1, 6),
        zd=round(0.1412 + 0.004 * math.sin(layer), 6),
        cossim=None if layer == 0 else round(0.93 + 0.05 * math.sin(0.45 * layer), 6),
        angular=tuple(round(math.acos(1 - influence) / math.pi * n**0.6, 6) for n in range(1, 1 + min(8, 30 - layer))),
        kld=_nats(kld, round(kld / 41, 6)),
        ppl=round(21.4 * math.exp(0.9 * kld), 4),
        attention_kld=_nats(round(0.34 * kld, 6), round(kld / 95, 6)),
        ffn_kld=_nats(round(0.58 * kld, 6), round(kld / 60, 6)),
    )


def _repair(layer: int, method: str, ridge: float, kld: float, gain: float) -> HealedTensor:
    return HealedTensor(
        tensor=f"blk.{layer}.ffn_down.weight",
        method=method,
        ridge=ridge,
        kld=_nats(kld, round(kld / 40, 6)),
        gain=_nats(gain, round(-gain / 9, 6)),
    )


def healed_set() -> HealedSet:
    """Two layers, of which three repairs win back almost a half."""
    return HealedSet(
        layers=(20, 23),
        file="healed-2.gguf",
        before=_nats(0.612408, 0.014903),
        after=_nats(0.338217, 0.009018),
        gain=_nats(-0.274191, 0.010377),
        tensors=(
            _repair(19, "refit", 0.3, 0.401733, -0.210675),
            _repair(22, "refit", 0.1, 0.352114, -0.049619),
            _repair(24, "transform", 0.05, 0.338217, -0.013897),
        ),
        note="",
    )


def pruning() -> PruningFacts:
    """Scores of all layers, sets of up to three, two of them healed, one in vain."""
    one = HealedSet(
        layers=(20,), file="healed-1.gguf", before=_nats(0.243911, 0.007108), after=_nats(0.151189, 0.004402),
        gain=_nats(-0.092722, 0.005221), tensors=(_repair(19, "refit", 0.3, 0.151189, -0.092722),), note="",
    )  # fmt: skip
    three = HealedSet(
        layers=(14, 20, 23), file="", before=_nats(1.207745, 0.027733), after=_nats(1.207745, 0.027733),
        gain=_nats(0.0, 0.0), tensors=(), note="no repair lowered the KLD",
    )  # fmt: skip
    return PruningFacts(
        n_windows=4,
        n_set_windows=8,
        n_scored=512,
        base_ppl=21.411873,
        layers=tuple(map(_score, range(N_LAYER))),
        barred=((0, f"layer 0 {_EDGE}"), (29, f"layer 29 {_EDGE}")),
        sets=(
            RemovedSet(layers=(20,), kld=_score(20).kld, ppl=_score(20).ppl),
            RemovedSet(layers=(20, 23), kld=_nats(0.590071, 0.016612), ppl=37.2208),
            RemovedSet(layers=(14, 20, 23), kld=_nats(1.170932, 0.029407), ppl=62.9117),
        ),
        healed=(one, healed_set(), three),
    )


def parts(name: str) -> PrunedParts:
    """The two parts of a pruned row's damage."""
    is_healed = name == "Q4_K_M-healed"
    return PrunedParts(
        base_file=HEALED_BASE if is_healed else BY_HAND_BASE,
        prune=damage(f"{name}, prune part"),
        quant=damage(f"{name}, quant part"),
        healed=healed_set() if is_healed else None,
    )


def weighed(found: Search) -> Search:
    """The search with removals among its candidates, none of which was surely better."""
    removals = (
        SearchCandidate(
            name="without layer 20", n_bytes=103660992, predicted_kld=0.171402, n_windows=8,
            kld=_nats(0.151189, 0.004402), verdict="not surely better than with all layers",
        ),
        SearchCandidate(
            name="without layers 20, 23", n_bytes=103667136, predicted_kld=0.349011, n_windows=2,
            kld=_nats(0.344871, 0.018814),
            verdict="behind the best unpruned candidate after 2 windows",
        ),
        *(
            SearchCandidate(
                name=f"without layer {layer}", n_bytes=103660992, predicted_kld=predicted, n_windows=2,
                kld=_nats(kld, 0.011), verdict="behind the best unpruned candidate after 2 windows",
            )
            for layer, predicted, kld in ((5, 0.219812, 0.208114), (10, 0.220418, 0.231507), (23, 0.231129, 0.219936))
        ),
    )  # fmt: skip
    return replace(found, pruning=STAYS, candidates=found.candidates + removals)


def cut_commands() -> tuple[Command, ...]:
    """How the healed base is made again, and its importance matrix."""
    repairs = ("--repairs", "healed-2.gguf", "--out", HEALED_BASE)
    collect = ("llama-imatrix", "-m", HEALED_BASE, "-f", "calibration.txt", "-o", "imatrix-pruned.gguf")
    return (
        Command(step="cut", argv=("lwq", "prune", "SmolLM2-135M-Instruct-F16.gguf", "--layers", "20,23", *repairs)),
        Command(step="imatrix", argv=collect),
    )
