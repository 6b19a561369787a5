"""Which values each file holds: compensated ones or llama-quantize's own, and what the latter would have cost."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator

from lwq.record.record import Record, Row
from lwq.record.values import CompensatedValues, StockTwin
from lwq.report.markdown import code, either, plain
from lwq.report.numerals import count, fixed, rounded, rounded_ppl
from lwq.report.rows import is_compensated
from lwq.report.tables import MODEL, Table, columns, label


def meaning(record: Record) -> str:
    """What compensated values are; empty where no file could have any."""
    if not any(row.compensated for row in record.rows):
        return ""
    return (
        "*Stock values* are those that llama-quantize chooses. *Compensated values* are other numbers in the same ggml"
        " types, so in the same bytes: what rounding one weight of a row gets wrong is made up for by those that"
        " follow, by which inputs occur together in the calibration text. They were written over the values of a file"
        " that llama-quantize wrote; every llama.cpp reads them alike. Where that did not help on held-out"
        " tokens, a tensor keeps its stock values."
    )


def files(record: Record) -> Iterator[str]:
    """One sentence for each file that could get compensated values, as Markdown."""
    for row in record.rows:
        if row.compensated:
            yield f"**{plain(label(row))}.** Values: {_held(row.compensated)}{_beside(row.twin)}."


def _held(values: CompensatedValues) -> str:
    n = values.n_tensors + len(values.kept)
    held = f"compensated in {count(values.n_tensors)} of {count(n)} tensors"
    if values.without_tokens:
        n_experts = sum(len(bare.experts) for bare in values.without_tokens)
        where = f"{count(len(values.without_tokens))} of them"
        held += f" (but for {count(n_experts)} experts in {where}, which no token reached)"
    if not values.kept:
        return held
    reasons = Counter(kept.why.partition(":")[0] for kept in values.kept).most_common()
    each = tuple(f"{plain(why)} ({count(k)})" for why, k in reasons)
    return f"{held}; stock in {count(len(values.kept))}: {either(each)}"


def _beside(twin: StockTwin | None) -> str:
    if twin is None:
        return ""
    command = next((c.argv for c in twin.commands if c.step == "quantize"), ())
    kld = rounded(twin.evaluation.kld)
    return f". With stock values, same types and bytes, KLD {kld} nats: {code(shlex.join(command))}"


def table(record: Record) -> Table | None:
    """Damage of files beside that of their stock-valued twins; None where no file has one."""
    rows = [(row, row.twin) for row in record.rows if row.twin]
    if not rows:
        return None
    return Table(
        caption="Same types, stock values. Each file beside the one of the very same types and size that llama-quantize"
        " alone writes, on the evaluation text.",
        columns=(
            MODEL,
            *columns("μKLD (nats)", "μKLD with stock values (nats)", "Ratio", "μPPL", "μPPL with stock values"),
        ),
        rows=tuple(_line(row, twin) for row, twin in rows),
    )


def _line(row: Row, twin: StockTwin) -> tuple[str, ...]:
    kld, stock = row.evaluation.kld, twin.evaluation.kld
    return (
        label(row),
        rounded(kld),
        rounded(stock),
        fixed(kld.value / stock.value, 3) if stock.value > 0 else "–",
        rounded_ppl(row.evaluation),
        rounded_ppl(twin.evaluation),
    )


def again(record: Record) -> str:
    """How files with compensated values are made again; empty where there are none."""
    names = tuple(plain(row.name) for row in record.rows if is_compensated(row))
    if not names:
        return ""
    run = code(f"lwq run {shlex.quote(f'{record.name}.toml')}")
    return (
        f"llama.cpp alone does not write {either(names)}; {run} does, bit for bit, from the recipe beside this card."
        " Nothing is drawn at random, and other numbers of threads give the same bytes. It takes this lwq with the"
        " packages of its lock, and this llama.cpp built for this kind of CPU: others round other last digits, so that"
        " some codes come out otherwise."
    )
