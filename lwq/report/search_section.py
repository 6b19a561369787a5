"""How the bits were chosen: sentences and tables of sensitivity, allocation and candidates, as Markdown."""

from __future__ import annotations

from statistics import median
from typing import Final

from lwq.metrics.speeds import BUSY
from lwq.record.record import Record, Row
from lwq.record.search import Pace, Search, SearchCandidate, Sensitivity, TensorSensitivity
from lwq.report.markdown import code, either, plain
from lwq.report.numerals import NOT_MEASURED, brief, count, estimate, fixed, mib
from lwq.report.rows import searched, text_of
from lwq.report.searches import most_sensitive
from lwq.report.tables import Column, Table, columns, label

N_LISTED: Final = 10
_REMOVALS: Final = (
    "A candidate without layers is the exact best allocation of what stays; its predicted KLD is the measured KLD of"
    " the healed removal plus the plain sum of the damages of types. A removal ships only where by the same rule its"
    " KLD is lower than that of the best candidate with all layers, or where the budget cannot hold them all."
)
_SURE: Final = (
    " ships only if it is surely better. Candidates race on windows of the text's first half, so who leads there leads"
    " partly by chance; it is compared with the stock mix once more, on windows of the second half that nothing was"
    " chosen by. It is surely better where the 95 % interval of its KLD ÷ that of the stock mix lies below 1 there"
    " (windows are the units, paired; a studentized bootstrap that keeps their correlation)."
)
_NOT_SURE: Final = (
    " ships only if its KLD is lower by more than chance makes it on the windows that candidates raced on: the best of"
    " several by these very windows, so that is a rule for choosing and no proof."
)


def probes(probed: Sensitivity) -> str:
    """What a probe is, what alpha is, and on which text."""
    return (
        "A *probe* is the base with one single tensor in a coarser ggml type: the KLD from the base that is measured"
        f" then is that tensor's damage. It is scored in process with the same llama.cpp, on up to"
        f" {count(probed.n_scored)} tokens in {count(probed.n_windows)} windows of {count(probed.n_ctx)} tokens of"
        f" {code(probed.text)}. For each type that the tensor may have, its *local error* is measured too: the relative"
        " error of the tensor's product with real activations. *Alpha* is the KLD of the probe divided by the local"
        " error in the type of the probe: how much damage a local error does there. Alpha times local error predicts"
        f" the damage of this tensor in any other type.{_estimated(probed)}"
    )


def _estimated(probed: Sensitivity) -> str:
    """How many tensors were probed, where not all were, and how far estimates may be off."""
    others = [t.kld for t in probed.tensors if not t.is_probed]
    if not others:
        return ""
    n = len(probed.tensors)
    doubts = [(kld.stderr or 0.0) / kld.value for kld in others if kld.value]
    error = f", with a relative error of {brief(median(doubts))} (the median of theirs)" if doubts else ""
    return (
        f" {count(n - len(others))} of {count(n)} tensors were probed. What the probes of the others would show is"
        " *estimated*, not measured: a tensor's error at the end of its layer, times what the probes of that layer cost"
        f" for each unit of theirs{error}."
    )


def prediction(record: Record) -> str:
    """How damages of tensors become the predicted damage of an allocation, and who else is a candidate."""
    searches = searched(record)
    fitting = tuple((row, s) for row, s in searches if with_all_layers(s))
    fits = tuple(f"{brief(s.scale)} · sum^{brief(s.exponent)} for {plain(row.name)}" for row, s in fitting)
    fitted = f", here {either(fits)}" if fits else ""
    always = all(any(c.kind == "stock" for c in s.candidates) for _, s in searches)
    weighed = any(c.kind == "pruned" for _, s in searches for c in s.candidates)
    removals = f" {_REMOVALS}" if weighed else ""
    stock = (
        "The stock mix of the same size is always" if always else "Where there is a stock mix of the same size, it is"
    )
    return (
        "The predicted KLD of a whole allocation is scale · (sum of the predicted damages of its tensors)^exponent;"
        f" scale and exponent are fitted on mixes that were measured{fitted}. Of all allocations within the budget the"
        " one with the lowest sum is computed exactly, and measured against other candidates on the selection text. "
        f"{stock} a candidate, and ties go to it: {_rule(searches)}{removals}"
    )


def _rule(searches: tuple[tuple[Row, Search], ...]) -> str:
    """What another candidate needs in order to ship, and for which files that could not be asked."""
    without = tuple(plain(row.name) for row, s in searches if not s.confirmation)
    if len(without) == len(searches):
        return f"another{_NOT_SURE}"
    but = f" For {either(without)} there was no such comparison: there another{_NOT_SURE}" if without else ""
    return f"another{_SURE}{but}"


def with_all_layers(search: Search) -> tuple[SearchCandidate, ...]:
    """The candidates that lack no layer."""
    return tuple(c for c in search.candidates if c.kind != "pruned")


def importance(probed: Sensitivity) -> str:
    """Which importance matrix the allocations of lwq use, and what lwq added to it."""
    if not probed.output_tensor:
        return f"The commands of lwq's own allocations use the importance matrix {code(probed.importance_file)}."
    tensor = code(probed.output_tensor)
    left_out = (
        f"llama-imatrix never collects importance data for {tensor}, which here is the output tensor too"
        if "token_embd" in probed.output_tensor
        else f"llama-imatrix collects importance data for {tensor} only when asked"
    )
    return (
        f"{left_out}. lwq collected and added"
        f" them: the importance matrix {code(probed.importance_file)}, written by `lwq sensitivity`, ships beside this"
        " card, and the commands of lwq's own allocations use it."
    )


def sensitive(probed: Sensitivity) -> Table:
    """The tensors with the largest alpha."""
    shown = most_sensitive(probed.tensors, N_LISTED)
    titles: tuple[str, ...] = ("Probe's KLD (nats, measured)", "Alpha (measured)")
    if probed.n_estimated:
        titles = ("Probe's KLD (nats)", "Alpha", "These are")
    return Table(
        caption=f"The most sensitive of {count(len(probed.tensors))} tensors: those with the largest alpha.",
        columns=(
            Column(title="Tensor", right=False, code=True),
            Column(title="Probe's type", right=False, code=True),
            *columns(*titles),
        ),
        rows=tuple(
            (t.tensor, t.probe_type, estimate(t.kld, 6), brief(t.alpha), *(_origin(t) if probed.n_estimated else ()))
            for t in shown
        ),
    )


def _origin(tensor: TensorSensitivity) -> tuple[str]:
    return ("measured" if tensor.is_probed else "estimated",)


def outcome(row: Row, search: Search) -> str:
    """The budget, how much was tried, and why what ships does so."""
    tried = f"{_some(search.n_probes, 'more probe')}, {_some(search.n_swaps, 'swap')} of types within it"
    kept = (
        f" **The stock mix was not beaten**: no allocation was surely better, so {plain(row.name)} has the types of"
        f" {plain(search.chosen)}."
        if search.ships_stock
        else ""
    )
    return (
        f"**{plain(label(row))}.** Budget: {plain(search.budget)}, {count(search.budget_bytes)} bytes of tensors."
        f" Tried for it: {tried}. Chosen: {plain(search.chosen)}.{kept} {_reason(search)}"
        f"{_weighed(row, search)}{_paced(search)}"
    )


def _paced(search: Search) -> str:
    """Where a least speed was asked for: up to which sizes there is one, with and without layers."""
    if not search.paces:
        return ""
    sizes = "; ".join(f"{_which(pace.layers)} {_pace(pace)}" for pace in search.paces if pace.tried)
    busy = max(pace.busy for pace in search.paces)
    warned = f" Others used up to {fixed(100 * busy, 0)} % of the CPUs meanwhile." if busy > BUSY else ""
    asked = (
        "The speed asked for is that of `tg128` on the machine of this run, measured on files of falling sizes; one is"
        " fast enough where the mean of its runs less 1.64 standard errors is"
    )
    return f" {asked}: {sizes}.{warned}"


def _which(layers: tuple[int, ...]) -> str:
    if not layers:
        return "with all layers"
    return f"without layer{'s' if len(layers) > 1 else ''} {', '.join(map(str, layers))}"


def _pace(pace: Pace) -> str:
    if pace.n_bytes is None:
        return plain(str(pace))
    speed = next(speed for size, speed in pace.tried if size == pace.n_bytes)
    return f"{mib(pace.n_bytes)} MiB make {estimate(speed, 2)} tokens per second"


def _reason(search: Search) -> str:
    """Why the mix was chosen; where layers went, why the best mix with all layers had been."""
    beaten = search.pruned_layers and with_all_layers(search)
    return f"Of the candidates with all layers: {plain(search.reason)}" if beaten else plain(search.reason)


def _weighed(row: Row, search: Search) -> str:
    """Whether removing layers pays, and what a file without some is made of."""
    base = (
        f" It is made of the pruned base {code(row.parts.base_file)}, with that base's own importance matrix."
        if search.pruned_layers and row.parts
        else ""
    )
    return f" {plain(search.pruning)}{base}" if search.pruning else base


def _some(n: int, thing: str) -> str:
    return f"{count(n) if n else 'no'} {thing}{'' if n == 1 else 's'}"


def candidates(record: Record, row: Row, search: Search) -> Table:
    """Every candidate, predicted and measured, and what became of it."""
    text = text_of(record, "selection")
    on = f" ({code(text.file)})" if text else ""
    gap = search.stock_difference
    whose = "the best candidate with all layers" if search.pruned_layers else "what was chosen"
    paired = (
        f" Measured KLD of {whose} less that of the stock mix, paired over windows: {estimate(gap, 6)} nats."
        if gap and not search.ships_stock
        else ""
    )
    return Table(
        caption=f"Candidates for {plain(row.name)}; MiB are of all tensors, measured is on the selection text{on}, in"
        f" the race; ± takes quarters of windows for independent.{paired}{_confirmed(search)}",
        columns=(
            Column(title="Candidate", right=False),
            *columns("MiB", "KLD predicted (nats)", "KLD measured (nats)", "Windows"),
            Column(title="Verdict", right=False),
        ),
        rows=tuple(_candidate(c, search.chosen) for c in search.candidates),
    )


def _confirmed(search: Search) -> str:
    """Who led the race against the stock mix, on windows that nothing was chosen by."""
    found = search.confirmation
    if not found:
        return ""
    low, high = (fixed(end, 3) for end in (found.interval.low, found.interval.high))
    return (
        f" On {count(found.n_windows)} windows that nothing was chosen by, the KLD of what led the race ÷ that of the"
        f" stock mix is {fixed(found.quotient, 3)} (95 %: {low} to {high})."
    )


def _candidate(candidate: SearchCandidate, chosen: str) -> tuple[str, ...]:
    """A line; what had been chosen before a removal beat it is not called chosen."""
    beaten = candidate.verdict == "chosen" and candidate.name != chosen
    verdict = "best with all layers" if beaten else candidate.verdict
    measured = (NOT_MEASURED, "–")
    if candidate.kld is not None:
        measured = (estimate(candidate.kld, 6), count(candidate.n_windows))
    return candidate.name, mib(candidate.n_bytes), fixed(candidate.predicted_kld, 6), *measured, verdict
