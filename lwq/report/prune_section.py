"""Which layers could go, at which damage, and what healing brought: sentences and tables, as Markdown."""

from __future__ import annotations

import re
from typing import Final

from lwq.record.prune import HealedSet, LayerScore, PruningFacts, RemovedSet
from lwq.record.record import Record
from lwq.report.layer_ranks import barred_layers
from lwq.report.markdown import code, either, plain
from lwq.report.numerals import NOT_MEASURED, brief, count, estimate, fixed
from lwq.report.rows import chosen_on, healed_on, layers, text_of
from lwq.report.tables import Column, Table, columns

_SUBJECT: Final = re.compile(r"^layers? [\d, ]+(?:of '[^']*' )?cannot go: ")


def measured(record: Record, pruning: PruningFacts) -> str:
    """What was left out, on which text, and what the scores beside the measurement are worth."""
    text = text_of(record, "calibration")
    on = f" of {count(text.n_ctx)} tokens of {code(text.file)}" if text else ""
    return (
        "Each layer was left out alone, as if it were the identity, and the KLD from the whole model was measured in"
        f" process, on {count(pruning.n_scored)} scored tokens in {count(pruning.n_windows)} windows{on}. The whole"
        f" model's PPL on these tokens is {fixed(pruning.base_ppl, 4)}. What a layer's attention alone or its FFN alone"
        " is worth is shown, but not offered: llama-quantize removes whole layers only. BI, LIM, ZD, CosSim and d(1)"
        " are scores of the literature (see the metrics below): the sets that they name race beside the others, but"
        " what decides is the measured KLD."
    )


def barred(pruning: PruningFacts) -> str:
    """Which layers may not go, by reason."""
    if not pruning.barred:
        return "Every layer may go."
    by_reason: dict[str, list[int]] = {}
    for layer, why in pruning.barred:
        by_reason.setdefault(_SUBJECT.sub("", why), []).append(layer)
    reasons = (f"{layers(tuple(numbers))} ({plain(why)})" for why, numbers in by_reason.items())
    return f"Barred, so in no set: {'; '.join(reasons)}."


def scores(pruning: PruningFacts) -> Table:
    """What removing each layer costs, beside the scores of the literature."""
    kept = barred_layers(pruning)
    return Table(
        caption="What removing each layer costs, measured on the calibration text, and scores of the literature.",
        columns=(
            Column(title="Layer", right=False),
            *columns("KLD (nats)", "PPL", "Attention alone out (KLD)", "FFN alone out (KLD)"),
            *columns("BI", "LIM", "ZD (%)", "CosSim", "d(1)"),
        ),
        rows=tuple(_score(s, is_barred=s.layer in kept) for s in pruning.layers),
    )


def _score(score: LayerScore, *, is_barred: bool) -> tuple[str, ...]:
    return (
        f"{score.layer} (barred)" if is_barred else str(score.layer),
        estimate(score.kld, 6),
        fixed(score.ppl, 4),
        estimate(score.attention_kld, 6),
        estimate(score.ffn_kld, 6),
        fixed(score.block_influence, 4),
        fixed(score.lim, 4),
        fixed(100 * score.zd, 2),
        "–" if score.cossim is None else fixed(score.cossim, 4),
        fixed(score.angular[0], 4) if score.angular else "–",
    )


def sets(record: Record, pruning: PruningFacts) -> Table | None:
    """The best set found of each size, before and after healing; None where none was looked for."""
    removed = {s.layers: s for s in pruning.sets}
    repaired = {s.layers: s for s in pruning.healed}
    every = sorted({*removed, *repaired}, key=lambda numbers: (len(numbers), numbers))
    if not every:
        return None
    role = healed_on(record)
    return Table(
        caption="The best set found of each size, by KLD on up to"
        f" {count(pruning.n_set_windows)} windows (not all sets were tried). Healing is on the"
        f" {role} text; its gain is KLD after less KLD before, paired: negative is better;"
        " ± takes quarters of windows for independent.",
        columns=(
            *(Column(title=title, right=False) for title in ("Layers", "Removed")),
            *columns("KLD (calibration, nats)", "PPL (calibration)"),
            *columns(f"KLD before healing ({role}, nats)", f"KLD after ({role}, nats)", "Gain (nats)"),
            *columns("Repaired tensors"),
            *(Column(title=title, right=False) for title in ("Methods", "Note")),
        ),
        rows=tuple(_set(numbers, removed.get(numbers), repaired.get(numbers)) for numbers in every),
    )


def _set(numbers: tuple[int, ...], removed: RemovedSet | None, healed: HealedSet | None) -> tuple[str, ...]:
    calibrated = (estimate(removed.kld, 6), fixed(removed.ppl, 4)) if removed else (NOT_MEASURED, "–")
    healing: tuple[str, ...] = ("not healed", "–", "–", "–", "–", "–")
    if healed:
        methods = ", ".join(dict.fromkeys(t.method for t in healed.tensors))
        klds = (estimate(healed.before, 6), estimate(healed.after, 6), estimate(healed.gain, 6))
        healing = (*klds, count(len(healed.tensors)), methods or "–", healed.note or "–")
    return (str(len(numbers)), ", ".join(map(str, numbers)), *calibrated, *healing)


def healed_sets(record: Record) -> tuple[HealedSet, ...]:
    """All sets that healing was tried on: those that were found, then those that rows name by hand."""
    by_hand = tuple(row.parts.healed for row in record.rows if row.parts and row.parts.healed)
    return tuple(dict.fromkeys((*(record.pruning.healed if record.pruning else ()), *by_hand)))


def repairs(record: Record) -> Table | None:
    """Every tensor that was repaired, in the order in which repairs were accepted; None without any."""
    rows = tuple(
        (
            ", ".join(map(str, healed.layers)),
            t.tensor,
            t.method,
            brief(t.ridge),
            estimate(t.kld, 6),
            estimate(t.gain, 6),
        )
        for healed in healed_sets(record)
        for t in healed.tensors
    )
    if not rows:
        return None
    return Table(
        caption=f"Repaired tensors, under their names in the original. KLD is on the {healed_on(record)} text, with"
        " this repair and those before it; gain is what this repair changed, paired.",
        columns=(
            Column(title="Layers removed", right=False),
            *(Column(title=title, right=False, code=True) for title in ("Tensor", "Method")),
            *columns("Ridge", "KLD (nats)", "Gain (nats)"),
        ),
        rows=rows,
    )


def honesty(record: Record) -> str:
    """On which text sets were found and repairs judged, and what that makes of their figures; "" without sets."""
    removed = record.pruning.sets if record.pruning else ()
    healed = healed_sets(record)
    sentences = []
    if removed:
        sentences.append(
            "Sets were found on the calibration text: each is the lowest of many there, which flatters its KLD."
        )
    if healed:
        sentences.append(_judged(record))
    return " ".join(sentences)


def _judged(record: Record) -> str:
    role = healed_on(record)
    text = text_of(record, role)
    name = f" ({code(text.file)})" if text else ""
    start = (
        f"Healing was judged on the {role} text{name}: a repair stayed only where it lowered the KLD there by 1.64"
        " standard errors (quarters of windows taken for independent), with the best of a few ridges"
    )
    if role == "evaluation":
        return (
            f"{start}. It is the text that the tables above report, so all figures of"
            f" {_healed_rows(record)} are a little flattered; see the warnings."
        )
    also = ", and so are healed files in the verdicts on that text" if chosen_on(record) == role else ""
    return f"{start}, so the KLD after healing is a little flattered too{also}. The evaluation text judged no repair."


def _healed_rows(record: Record) -> str:
    names = tuple(plain(row.name) for row in record.rows if row.parts and row.parts.healed)
    return either(names) if names else "healed files"
