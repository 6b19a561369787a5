"""Sentences of the card that depend on the record's figures, as Markdown."""

from __future__ import annotations

from typing import Final

from lwq.metrics.fronts import NAMES
from lwq.metrics.paired import MIN_WINDOWS
from lwq.metrics.values import Estimate
from lwq.record.record import Record, Row, TextFacts
from lwq.report.choices import offered
from lwq.report.domain_section import closest, worst_of
from lwq.report.markdown import code, either, plain
from lwq.report.numerals import fixed, hub_size, rounded
from lwq.report.rows import base_row, chosen_on, is_compensated, text_of

_RULES: Final = {
    "pareto": "A file is left out if another of ours is at least as good by {over}, and better by one of them."
    " Differences count where they are told apart (95 %, paired by window, item or round); a tie goes to the"
    " smaller file.",
    "all": "Every file is kept.",
}


def top(record: Record) -> str:
    """The family in one sentence: how many files, from which size to which, at which damage."""
    made = [row for row in record.rows if row.origin == "ours"]
    if not made:
        return "No file was made; the tables hold what was measured of others' files."
    ours = offered(record) or made
    low = closest(record, ours)
    small = min(ours, key=lambda row: row.file_bytes)
    files = "One file" if len(ours) == 1 else f"{len(ours)} files"
    files += f" (of {len(made)} that were made)" if len(made) > len(ours) else ""
    head = f"{files} quantized with llama.cpp, each measured against the {plain(record.model.base_type.upper())} base."
    if len(ours) == 1:
        return f"{head} It is {_in_brief(small)}.{worst_of(record, small)}"
    if small is low:
        return f"{head} The smallest is also the closest to the base: {_in_brief(small)}.{worst_of(record, small)}"
    ends = f" The smallest is {_in_brief(small)}; the closest to the base is {_in_brief(low)}."
    return f"{head}{ends}{worst_of(record, low)}"


def method(record: Record) -> str:
    """What wrote the files and what measured them; others' files were only measured."""
    whose = " of ours" if any(row.origin == "third-party" for row in record.rows) else ""
    timed = ", speeds by llama-bench" if any(row.speed for row in record.rows) else ""
    cut = tuple(plain(row.name) for row in record.rows if _from_pruned_base(row))
    but = f" ({either(cut)} from a base without some layers, which lwq wrote)" if cut else ""
    changed = tuple(plain(row.name) for row in record.rows if is_compensated(row))
    then = f"; over the values of {either(changed)} lwq wrote compensated ones" if changed else ""
    return (
        f"Every file{whose} was written from the base{but} by llama-quantize{then}; damage is measured by"
        f" llama-perplexity{timed}."
    )


def _from_pruned_base(row: Row) -> bool:
    """Whether llama-quantize was given the pruned base, and not the original with layers to leave out."""
    written = (*row.commands, *(row.twin.commands if row.twin else ()))
    return row.parts is not None and any(row.parts.base_file in command.argv for command in written)


def _in_brief(row: Row) -> str:
    damage = row.evaluation
    return (
        f"{plain(row.name)} ({hub_size(row.file_bytes)}, KLD {rounded(damage.kld)} nats, same top p"
        f" {fixed(100 * damage.same_top_p.value, 1)} %)"
    )


def _with_error(measured: Estimate, decimals: int, error_decimals: int) -> str:
    text = fixed(measured.value, decimals)
    return text if measured.stderr is None else f"{text} ±{fixed(measured.stderr, error_decimals)}"


def floor(record: Record) -> str:
    """What the base scores against its own stored log-probs, and what that means."""
    return (
        f"The base against its own stored log-probs has a KLD of {_with_error(record.floor, 6, 6)} nats: this is the"
        " floor, what storing them in 16 bits costs (rounding can put it a hair below zero). It is not subtracted"
        " from the other rows."
    )


def stored_base(record: Record) -> str:
    """Why PPL(base) of the KLD pass differs from the base's own perplexity."""
    own = f"The pass that stored the log-probs printed PPL {_with_error(record.baseline.ppl, 4, 5)} for the base."
    base = base_row(record)
    if base is None:
        return own
    damage = base.evaluation
    return (
        f"{own} Read back from storage, PPL(base) is {fixed(damage.ppl_base.value, 6)}: no token is stored as less"
        " likely than e⁻¹⁶ times the likeliest, so the unlikeliest count for less. Ratios and differences of perplexity"
        f" are taken against that figure; the base's own ratio, {fixed(damage.ppl_ratio.value, 6)}, is where theirs"
        " start."
    )


def selection(record: Record) -> str:
    """The rule, and on which text it was judged."""
    over = either(tuple(NAMES.get(criterion) or plain(criterion) for criterion in record.selection.over))
    rule = _RULES.get(record.selection.rule, f"Rule: {plain(record.selection.rule)}.").format(over=over)
    role = chosen_on(record)
    if role is None:
        return rule
    text = text_of(record, role)
    name = f" ({code(text.file)})" if text else ""
    where = "the same that the tables above report" if role == "evaluation" else "which no table above is measured on"
    return f"{rule} Judged on the {plain(role)} text{name}, {where}.{_doubts(record, text)}"


def _doubts(record: Record, text: TextFacts | None) -> str:
    """What is less sure there than it looks: KLD of few windows, files whose types the same text chose."""
    if record.selection.rule != "pareto" or "kld" not in record.selection.over or not text:
        return ""
    doubts = ""
    if text.n_chunks < MIN_WINDOWS:
        doubts = f" Its {text.n_chunks} windows are too few for an interval, so KLD was judged by the means alone."
    if chosen := tuple(plain(row.name) for row in record.rows if row.search):
        doubts += f" The types of {either(chosen)} were chosen by part of it, which flatters their KLD there a little."
    return doubts


def texts(record: Record) -> str:
    """Whether the texts are disjoint, as far as the record can tell."""
    if len({text.sha256 for text in record.texts}) < len(record.texts):
        return "Two of these texts are the same file; see the warnings."
    apart = []
    if text_of(record, "calibration"):
        apart.append("what the importance matrix was collected on")
    if chosen_on(record) not in (None, "evaluation"):
        apart.append("what files were chosen on")
    kept_apart = f": {_none_is(apart)} what the tables above report" if apart else ""
    but = (
        " The files were chosen on the evaluation text; see the warnings." if chosen_on(record) == "evaluation" else ""
    )
    return f"The texts are different files, one for each role{kept_apart}.{but}"


def _none_is(things: list[str]) -> str:
    return f"neither {' nor '.join(things)} is" if len(things) > 1 else f"{things[0]} is not"
