"""What differs is named, and noise is told from what is more than that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

import numpy as np
import pytest

from lwq.metrics.values import Damage, Estimate, Speed
from lwq.record.record import Domain, Record, Row
from lwq.report.changes import RUN, Change, changes
from tests.sample_record import sample_record

NAME = "Q4_K_M"


def _running(windows: Sequence[float]) -> tuple[float, ...]:
    return tuple(total / n for n, total in enumerate(accumulate(windows), 1))


def _with_row(record: Record, name: str = NAME, **changed: object) -> Record:
    rows = tuple(replace(r, **changed) if r.name == name else r for r in record.rows)  # type: ignore[arg-type]
    return replace(record, rows=rows)


def _row(record: Record, name: str = NAME) -> Row:
    return next(row for row in record.rows if row.name == name)


def _moved(damage: Damage, steps: Sequence[float]) -> Damage:
    """The damage with each window's KLD moved by that much."""
    windows = np.add(damage.window_kld(), steps)
    return replace(damage, kld=replace(damage.kld, value=float(windows.mean())), chunk_kld=_running(list(windows)))


def _told(before: Record, after: Record, what: str, name: str = NAME) -> Change:
    (found,) = (c for c in changes(before, after) if (c.of, c.what) == (name, what))
    return found


def test_a_record_does_not_differ_from_itself() -> None:
    assert changes(sample_record(), sample_record()) == ()


def test_inputs_that_differ_are_named() -> None:
    a = sample_record()
    b = replace(
        a,
        recipe=a.recipe + 'note = "new"\n',
        toolchain=replace(a.toolchain, commit="f" * 40, device="GPU"),
        texts=tuple(replace(t, n_chunks=16) if t.role == "evaluation" else t for t in a.texts),
        provenance=replace(a.provenance, lwq_version="0.2.0"),
        task_sets=a.task_sets[:1],
    )
    told = {c.what: (c.before, c.after) for c in changes(a, b) if c.of == RUN}
    assert told == {
        "llama.cpp": ("0c1e57098bba", "f" * 12),
        "backend": ("CPU, CPU", "CPU, GPU"),
        "lwq": ("0.1.0", "0.2.0"),
        "evaluation text": tuple(
            f"hf://datasets/owner/texts/test.txt, {n} windows of 512, sha256 {a.texts[2].sha256[:12]}" for n in (8, 16)
        ),
        "task set WinoGrande": ("750 items, seed 1", "–"),
        "line of the recipe": ("–", 'note = "new"'),
    }


def test_rows_and_types_that_differ_are_named() -> None:
    a = sample_record()
    row = _row(a, "Q4_K_M-lwq")
    moved = tuple((n, "q8_0") if i < 3 else (n, t) for i, (n, t) in enumerate(row.tensor_types))
    b = _with_row(a, row.name, tensor_types=moved, file_bytes=row.file_bytes + 7, sha256="0" * 64)
    b = replace(b, rows=tuple(r for r in b.rows if r.name != "IQ4_XS"))
    found = [c for c in changes(a, b) if c.of == row.name]
    n_types = sum(int(c.what.split()[2]) for c in found if c.what.startswith("types of"))
    assert n_types == sum(t != "q8_0" for _, t in row.tensor_types[:3]) > 0
    assert {c.what for c in found} >= {"bytes", "sha256"}
    (gone,) = (c for c in changes(a, b) if c.of == "IQ4_XS")
    assert (gone.what, gone.before, gone.after) == ("row", "in the record", "–")
    (new,) = (c for c in changes(b, a) if c.of == "IQ4_XS")
    assert (new.before, new.after) == ("–", "in the record")


@pytest.mark.parametrize(
    ("steps", "verdict"),
    [
        ([0.01, 0.011, 0.009, 0.012, 0.01, 0.008, 0.011, 0.01], "more than noise (95 % 0.0"),
        ([0.02, -0.018, 0.015, -0.02, 0.019, -0.016, 0.018, -0.019], "within noise (95 % -0.0"),
        ([1e-6] * 8, "within noise: less than the tools' last decimal"),
    ],
)
def test_windows_tell_whether_a_difference_of_kld_is_noise(steps: Sequence[float], verdict: str) -> None:
    a = sample_record()
    found = _told(a, _with_row(a, evaluation=_moved(_row(a).evaluation, steps)), "KLD (nats)")
    assert found.verdict.startswith(verdict), found.verdict


def test_figures_of_other_windows_are_not_compared() -> None:
    a = sample_record()
    b = _with_row(a, evaluation=_moved(_row(a).evaluation, [0.5] * 8))
    b = replace(b, texts=tuple(replace(t, sha256="0" * 64) for t in b.texts))
    assert _told(a, b, "KLD (nats)").verdict == "not comparable: another model, text or number of windows"
    few = _row(a).evaluation
    short = replace(few, chunk_kld=few.chunk_kld[:5], kld=Estimate(value=1.0))
    told = _told(
        _with_row(a, evaluation=replace(few, chunk_kld=few.chunk_kld[:5])), _with_row(a, evaluation=short), "KLD (nats)"
    )
    assert told.verdict == "not judged: at least 8 windows are needed"


@pytest.mark.parametrize(("n_turned", "verdict"), [(2, "within noise (McNemar"), (60, "more than noise (McNemar")])
def test_items_tell_whether_a_score_differs(n_turned: int, verdict: str) -> None:
    a = sample_record()
    arc, other = _row(a).tasks
    turned = arc.outcomes.replace("1", "0", n_turned)
    score = Estimate(value=turned.count("1") / arc.n_items, stderr=arc.score.stderr)
    b = _with_row(a, tasks=(replace(arc, outcomes=turned, score=score), other))
    assert _told(a, b, "ARC (%)").verdict.startswith(verdict)
    apart = replace(b, task_sets=tuple(replace(s, seed=2, ids=s.ids[::-1]) for s in b.task_sets))
    assert "z-test" in _told(a, apart, "ARC (%)").verdict


def _faster(row: Row, factor: float) -> tuple[Speed, ...]:
    return tuple(
        replace(
            speed,
            samples=tuple(factor * x for x in speed.samples),
            tokens_per_second=replace(speed.tokens_per_second, value=factor * speed.tokens_per_second.value),
        )
        for speed in row.speed
    )


def test_speeds_are_judged_beside_the_base_of_their_run() -> None:
    """A machine half as fast says nothing of a file; a file alone twice as fast does."""
    a = sample_record()
    slow = replace(a, rows=tuple(replace(row, speed=_faster(row, 0.5)) for row in a.rows))
    told = {c.verdict.split(" (")[0] for c in changes(a, slow) if c.what.endswith("(t/s)") and c.of != "F16"}
    assert told == {"within noise"}
    assert _told(a, slow, "pp128 (t/s)", "F16").verdict == "not judged: the base itself"
    alone = _with_row(a, "Q8_0", speed=_faster(_row(a, "Q8_0"), 2.0))
    assert _told(a, alone, "tg32 (t/s)", "Q8_0").verdict.startswith("more than noise (2.")


def test_further_domains_and_how_files_go_on_are_compared_too() -> None:
    record = sample_record()
    domains = tuple(Domain(name=n, role=r, weight=1.0) for n, r in (("a", "evaluation"), ("b", "evaluation:b")))
    first = replace(record, domains=domains, rows=tuple(replace(r, domains=(r.evaluation,)) for r in record.rows))
    worse = tuple(
        replace(r, domains=(replace(r.evaluation, kld=replace(r.evaluation.kld, value=0.5)),), continuation=None)
        for r in record.rows
    )
    found = {(c.of, c.what) for c in changes(first, replace(first, rows=worse))}
    assert ("Q8_0", "KLD, evaluation:b (nats)") in found
    assert ("Q8_0", "same first tokens") in found
    gone = {(c.of, c.what) for c in changes(first, record)}
    assert ("Q8_0", "KLD, evaluation:b") in gone
