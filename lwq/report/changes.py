"""What differs between two records, and whether figures differ by more than chance."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import fmean
from typing import Final

import numpy as np

from lwq.metrics.arrays import Doubles
from lwq.metrics.paired import MIN_WINDOWS, mean_interval, ratio_interval
from lwq.metrics.speeds import ratio_to
from lwq.metrics.ties import LEVEL, grouped
from lwq.metrics.values import Estimate, Speed, TaskScore, mcnemar
from lwq.record.record import Record, Row
from lwq.report.choices import offered
from lwq.report.numerals import count, fixed, rounded, rounded_percent
from lwq.report.rows import base_row, how_made, text_of

RUN: Final = "run"
_UNIT: Final = 1e-5
"""The last decimal of the tools' running means."""
_HASH: Final = 12
_ABSENT: Final = "–"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that differs."""

    of: str
    """Name of a row, or ``run``."""
    what: str
    before: str
    after: str
    verdict: str = ""
    """Of a figure: whether the difference is more than noise, and how that is known."""


def changes(a: Record, b: Record) -> tuple[Change, ...]:
    """All that differs: what was asked for and given, which rows there are, what each holds and measures."""
    rows_a, rows_b = ({row.name: row for row in record.rows} for record in (a, b))
    found = [*_inputs(a, b)]
    for name in dict.fromkeys((*rows_a, *rows_b)):
        if name in rows_a and name in rows_b:
            found += _row(a, b, rows_a[name], rows_b[name])
        else:
            there = ("in the record", _ABSENT) if name in rows_a else (_ABSENT, "in the record")
            found.append(Change(of=name, what="row", before=there[0], after=there[1]))
    return tuple(found)


def _inputs(a: Record, b: Record) -> Iterator[Change]:
    for what, read in _GIVEN.items():
        yield from _differs(RUN, what, read(a), read(b))
    for role in dict.fromkeys(("calibration", "selection", "evaluation", *_roles(a), *_roles(b))):
        yield from _differs(RUN, f"{role} text", *(_text(record, role) for record in (a, b)))
    sets = ({s.name: f"{len(s.ids)} items, seed {s.seed}" for s in record.task_sets} for record in (a, b))
    before, after = sets
    for name in dict.fromkeys((*before, *after)):
        yield from _differs(RUN, f"task set {name}", before.get(name, _ABSENT), after.get(name, _ABSENT))
    if a.recipe != b.recipe:
        lines = difflib.unified_diff(a.recipe.splitlines(), b.recipe.splitlines(), lineterm="", n=0)
        for line in (line for line in lines if not line.startswith(("---", "+++", "@@")) and line[1:].strip()):
            cells = (line[1:], _ABSENT) if line.startswith("-") else (_ABSENT, line[1:])
            yield Change(of=RUN, what="line of the recipe", before=cells[0], after=cells[1])


_GIVEN: Final[dict[str, Callable[[Record], str]]] = {
    "model": lambda r: r.model.source,
    "model's sha256": lambda r: r.model.sha256[:_HASH],
    "base": lambda r: f"{r.model.base_type}, sha256 {r.model.base_sha256[:_HASH]}",
    "llama.cpp": lambda r: r.toolchain.commit[:_HASH],
    "backend": lambda r: f"{r.toolchain.backend}, {r.toolchain.device}",
    "compiler": lambda r: r.toolchain.compiler,
    "flags": lambda r: " ".join(r.toolchain.flags),
    "lwq": lambda r: r.provenance.lwq_version,
    "machine": lambda r: f"{r.provenance.cpu}, {r.provenance.n_threads} threads",
    "rule of selection": lambda r: f"{r.selection.rule} over {', '.join(r.selection.over)}",
}


def _roles(record: Record) -> tuple[str, ...]:
    return tuple(domain.role for domain in record.domains)


def _text(record: Record, role: str) -> str:
    text = text_of(record, role)
    if text is None:
        return _ABSENT
    return f"{text.source}, {text.n_chunks} windows of {text.n_ctx}, sha256 {text.sha256[:_HASH]}"


def _differs(of: str, what: str, before: str, after: str) -> Iterator[Change]:
    if before != after:
        yield Change(of=of, what=what, before=before, after=after)


def _row(a: Record, b: Record, before: Row, after: Row) -> Iterator[Change]:
    name = before.name
    yield from _differs(name, "how made", how_made(before), how_made(after))
    yield from _differs(name, "bytes", count(before.file_bytes), count(after.file_bytes))
    yield from _differs(name, "sha256", before.sha256[:_HASH], after.sha256[:_HASH])
    yield from _differs(name, "kept", *("yes" if row in offered(r) else "no" for r, row in ((a, before), (b, after))))
    yield from _types(before, after)
    yield from _damage(a, b, before, after)
    yield from _domains(a, b, before, after)
    yield from _more(before, after)
    yield from _tasks(a, b, before, after)
    yield from _speeds(a, b, before, after)


def _types(before: Row, after: Row) -> Iterator[Change]:
    """Tensors whose type is another, counted by what they were and are."""
    old = dict(before.tensor_types)
    moved = Counter((old[n], t) for n, t in after.tensor_types if n in old and old[n] != t)
    for (was, now), n in moved.most_common():
        yield Change(of=before.name, what=f"types of {n} tensor{'s' if n > 1 else ''}", before=was, after=now)


def _domains(a: Record, b: Record, before: Row, after: Row) -> Iterator[Change]:
    """KLD on each further text that both were measured on."""
    old, new = (dict(zip(_roles(record)[1:], row.domains, strict=False)) for record, row in ((a, before), (b, after)))
    for role in dict.fromkeys((*old, *new)):
        if role not in old or role not in new:
            there = ("measured", _ABSENT) if role in old else (_ABSENT, "measured")
            yield Change(of=before.name, what=f"KLD, {role}", before=there[0], after=there[1])
            continue
        windows = (np.array(old[role].window_kld()), np.array(new[role].window_kld()))
        told = _by_windows(*windows) if _text(a, role) == _text(b, role) else ""
        yield from _figure(before.name, f"KLD, {role} (nats)", (old[role].kld, new[role].kld), told)


def _more(before: Row, after: Row) -> Iterator[Change]:
    """How far each goes on like the original, and what contexts take."""
    followed = (f"{fmean(c.agreed):.1f} of {c.n_tokens}" if (c := r.continuation) else _ABSENT for r in (before, after))
    yield from _differs(before.name, "same first tokens", *followed)
    held = (", ".join(f"{count(m.n_ctx)}: {count(m.cache_bytes + m.compute_bytes)}" for m in r.contexts) or _ABSENT
            for r in (before, after))  # fmt: skip
    yield from _differs(before.name, "bytes of contexts", *held)


def _damage(a: Record, b: Record, before: Row, after: Row) -> Iterator[Change]:
    old, new = before.evaluation, after.evaluation
    same = same_windows(a, b)
    kld = (np.array(old.window_kld()), np.array(new.window_kld()))
    yield from _figure(before.name, "KLD (nats)", (old.kld, new.kld), _by_windows(*kld) if same else "")
    ratios = (np.array(old.window_ln_ppl_ratio()), np.array(new.window_ln_ppl_ratio()))
    told = _by_windows(*ratios, ratio=True) if same else ""
    yield from _figure(before.name, "PPL ÷ PPL of the original", (old.ppl_ratio, new.ppl_ratio), told)
    if old.same_top_p != new.same_top_p:
        told = _by_errors(old.same_top_p, new.same_top_p) if same else _OTHER_TEXT
        cells = (rounded_percent(old.same_top_p), rounded_percent(new.same_top_p))
        yield Change(of=before.name, what="same top p (%)", before=cells[0], after=cells[1], verdict=told)


_OTHER_TEXT: Final = "not comparable: another model, text or number of windows"


def same_windows(a: Record, b: Record) -> bool:
    """Whether both measured the same windows of the same text against the same model."""
    texts = (text_of(a, "evaluation"), text_of(b, "evaluation"))
    asked = [(t.sha256, t.n_ctx, t.n_chunks) if t else None for t in texts]
    return asked[0] is not None and asked[0] == asked[1] and a.model.sha256 == b.model.sha256


def _figure(of: str, what: str, pair: tuple[Estimate, Estimate], told: str) -> Iterator[Change]:
    if pair[0] != pair[1]:
        verdict = told or _OTHER_TEXT
        yield Change(of=of, what=what, before=rounded(pair[0]), after=rounded(pair[1]), verdict=verdict)


def _by_windows(before: Doubles, after: Doubles, *, ratio: bool = False) -> str:
    """What a 95 % interval of the windows' differences says."""
    n = len(before)
    if n != len(after) or n < MIN_WINDOWS:
        return f"not judged: at least {MIN_WINDOWS} windows are needed"
    steps = after - before
    if (np.abs(steps) <= (2 * np.arange(1, n + 1) - 1) * _UNIT).all():
        return "within noise: less than the tools' last decimal"
    interval, none = (ratio_interval(steps), 1.0) if ratio else (mean_interval(steps), 0.0)
    assert interval
    held = f"95 % {fixed(interval.low, 5)} … {fixed(interval.high, 5)}"
    return f"within noise ({held})" if interval.holds(none) else f"more than noise ({held})"


def _by_errors(before: Estimate, after: Estimate) -> str:
    """What a z-test says, as if the two had been measured on other items."""
    if not (before.stderr and after.stderr):
        return "not judged: no standard error"
    (compared,) = grouped({"before": before, "after": after}, "before").comparisons
    return f"{'more than' if compared.is_told_apart else 'within'} noise (z-test, p {compared.p:.2g})"


def _tasks(a: Record, b: Record, before: Row, after: Row) -> Iterator[Change]:
    asked = [{s.name: (s.kind, s.sha256, s.ids) for s in record.task_sets} for record in (a, b)]
    scores = {score.name: score for score in before.tasks}
    for new in after.tasks:
        old = scores.get(new.name)
        if old and (old.score != new.score or old.outcomes != new.outcomes):
            paired = asked[0].get(new.name) == asked[1].get(new.name) is not None
            told = _by_items(old, new) if paired else _by_errors(old.score, new.score)
            cells = (rounded_percent(old.score), rounded_percent(new.score))
            yield Change(of=before.name, what=f"{new.name} (%)", before=cells[0], after=cells[1], verdict=told)


def _by_items(before: TaskScore, after: TaskScore) -> str:
    if not before.outcomes or len(before.outcomes) != len(after.outcomes):
        return _by_errors(before.score, after.score)
    p = mcnemar(before.right(), after.right())
    return f"{'more than' if p < LEVEL else 'within'} noise (McNemar, p {p:.2g})"


def _speeds(a: Record, b: Record, before: Row, after: Row) -> Iterator[Change]:
    """Speeds of two runs share no rounds, so each is judged by its ratio to its own run's base."""
    bases = [base.speed if (base := base_row(record)) else () for record in (a, b)]
    old = {speed.test: speed for speed in before.speed}
    for new in after.speed:
        was = old.get(new.test)
        if was and was.samples != new.samples:
            cells = (rounded(was.tokens_per_second), rounded(new.tokens_per_second))
            told = _beside_bases((was, new), bases) if before.origin != "base" else "not judged: the base itself"
            yield Change(of=before.name, what=f"{new.test} (t/s)", before=cells[0], after=cells[1], verdict=told)


def _beside_bases(pair: tuple[Speed, Speed], bases: list[tuple[Speed, ...]]) -> str:
    ratios = [ratio_to(speed, base) for speed, base in zip(pair, bases, strict=True)]
    was, now = ratios
    if was is None or now is None:
        return "not judged: not measured in turns with the base"
    apart = now.low > was.high or now.high < was.low
    held = f"{fixed(was.value, 2)} and {fixed(now.value, 2)} of the base's"
    return f"more than noise ({held}; intervals apart)" if apart else f"within noise ({held})"
