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


def test_every_fact_of_a_run_that_differs_is_named_with_both_sides() -> None:
    a = sample_record()
    b = replace(
        a,
        model=replace(a.model, source="other", sha256="1" * 64, base_type="bf16", base_sha256="2" * 64),
        toolchain=replace(a.toolchain, compiler="cc 9", flags=("-a", "-b"), backend="CUDA"),
        provenance=replace(a.provenance, cpu="another", n_threads=77),
        selection=replace(a.selection, rule="all", over=("kld", "tg")),
    )
    told = {c.what: c.after for c in changes(a, b) if c.of == RUN}
    assert told == {
        "model": "other", "model's sha256": "1" * 12, "base": f"bf16, sha256 {'2' * 12}", "compiler": "cc 9",
        "flags": "-a -b", "backend": f"CUDA, {a.toolchain.device}", "machine": "another, 77 threads",
        "rule of selection": "all over kld, tg",
    }  # fmt: skip
    back = {c.what: c.before for c in changes(b, a) if c.of == RUN}
    assert back == told


def test_texts_and_sets_that_only_one_run_has_are_absent_in_the_other() -> None:
    a = sample_record()
    b = replace(a, texts=tuple(t for t in a.texts if t.role != "selection"), task_sets=())
    told = {c.what: (c.before, c.after) for c in changes(a, b) if c.of == RUN}
    text = next(t for t in a.texts if t.role == "selection")
    stated = f"{text.source}, {text.n_chunks} windows of {text.n_ctx}, sha256 {text.sha256[:12]}"
    assert told["selection text"] == (stated, "–")
    assert told["task set ARC"] == ("750 items, seed 1", "–")
    assert {c.what: (c.after, c.before) for c in changes(b, a) if c.of == RUN} == told


def test_lines_of_a_recipe_are_told_on_their_side() -> None:
    a = replace(sample_record(), recipe="one\ntwo\n\nfour\n")
    b = replace(a, recipe="one\nthree\n\nfour\n\n \n")
    told = [(c.before, c.after) for c in changes(a, b)]
    assert sorted(told) == [("two", "–"), ("–", "three")]
    assert {c.what for c in changes(a, b)} == {"line of the recipe"}


def test_what_a_row_is_and_whether_it_is_kept_is_compared() -> None:
    a = sample_record()
    row = _row(a)
    b = _with_row(a, file_bytes=row.file_bytes + 1, sha256="0" * 64, uses_imatrix=False)
    b = replace(
        b,
        selection=replace(
            b.selection,
            verdicts=tuple(replace(v, kept=v.kept and v.row != NAME) for v in b.selection.verdicts),
        ),
    )
    told = {c.what: (c.before, c.after) for c in changes(a, b) if c.of == NAME}
    assert told == {
        "how made": ("stock Q4_K_M, imatrix", "stock Q4_K_M, no imatrix"),
        "bytes": (f"{row.file_bytes:,}", f"{row.file_bytes + 1:,}"), "sha256": (row.sha256[:12], "0" * 12),
        "kept": ("yes", "no"),
    }  # fmt: skip


def test_types_that_moved_are_counted_by_what_they_were_and_are() -> None:
    a = _with_row(sample_record(), tensor_types=(("a", "q4_K"), ("b", "q4_K"), ("c", "q5_K"), ("d", "f32")))
    b = _with_row(a, tensor_types=(("a", "q6_K"), ("b", "q6_K"), ("c", "q4_K"), ("d", "f32"), ("new", "f32")))
    told = [(c.what, c.before, c.after) for c in changes(a, b)]
    assert told == [("types of 2 tensors", "q4_K", "q6_K"), ("types of 1 tensor", "q5_K", "q4_K")]


def test_ratios_of_perplexity_and_shares_of_top_words_are_judged_too() -> None:
    a = sample_record()
    damage = _row(a).evaluation
    steps = [0.01, 0.011, 0.009, 0.012, 0.01, 0.008, 0.011, 0.01]
    ratio = _running([float(x) for x in np.add(damage.window_ln_ppl_ratio(), steps)])
    worse = replace(damage, ppl_ratio=Estimate(value=1.5, stderr=0.01), chunk_ln_ppl_ratio=ratio)
    found = _told(a, _with_row(a, evaluation=worse), "PPL ÷ PPL of the original")
    assert found.after == "1.500 ±0.010"
    assert found.verdict.startswith("more than noise (95 % 1.0")
    steps = [0.02, -0.018, 0.015, -0.02, 0.019, -0.016, 0.018, -0.019]
    ratio = _running([float(x) for x in np.add(damage.window_ln_ppl_ratio(), steps)])
    hardly = replace(damage, ppl_ratio=Estimate(value=1.03, stderr=0.01), chunk_ln_ppl_ratio=ratio)
    found = _told(a, _with_row(a, evaluation=hardly), "PPL ÷ PPL of the original")
    assert found.verdict.startswith("within noise (95 % 0.9")
    top = replace(damage, same_top_p=Estimate(value=0.5, stderr=0.01))
    found = _told(a, _with_row(a, evaluation=top), "same top p (%)")
    assert (found.before, found.after) == ("87.7 ±0.7", "50.0 ±1.0")
    assert found.verdict.startswith("more than noise (z-test, p ")
    nearly = replace(damage, same_top_p=replace(damage.same_top_p, value=damage.same_top_p.value + 0.001))
    found = _told(a, _with_row(a, evaluation=nearly), "same top p (%)")
    assert found.verdict.startswith("within noise (z-test, p 0.9")
    unsure = replace(damage, same_top_p=Estimate(value=0.5))
    assert _told(a, _with_row(a, evaluation=unsure), "same top p (%)").verdict == "not judged: no standard error"
    other = replace(_with_row(a, evaluation=top), model=replace(a.model, sha256="0" * 64))
    assert _told(a, other, "same top p (%)").verdict == "not comparable: another model, text or number of windows"


def test_intervals_of_differences_are_told_with_five_decimals() -> None:
    from lwq.metrics.paired import mean_interval, ratio_interval

    a = sample_record()
    steps = [0.01, 0.011, 0.009, 0.012, 0.01, 0.008, 0.011, 0.01]
    b = _with_row(a, evaluation=_moved(_row(a).evaluation, steps))
    windows = (np.array(_row(b).evaluation.window_kld()), np.array(_row(a).evaluation.window_kld()))
    interval = mean_interval(windows[0] - windows[1])
    assert interval
    held = f"more than noise (95 % {interval.low:.5f} … {interval.high:.5f})"
    assert _told(a, b, "KLD (nats)").verdict == held
    ratio = ratio_interval(np.array(steps))
    assert ratio
    assert ratio.low > 1


def test_the_last_decimal_of_running_means_is_no_difference() -> None:
    # at window n a running mean of five decimals is (2n − 1) / 2 units wide on either side of each record
    a = sample_record()
    at_most = [0.99e-5 * (2 * n - 1) for n in range(1, 9)]
    found = _told(a, _with_row(a, evaluation=_moved(_row(a).evaluation, at_most)), "KLD (nats)")
    assert found.verdict == "within noise: less than the tools' last decimal"
    more = [1.01e-5 * (2 * n - 1) for n in range(1, 9)]
    found = _told(a, _with_row(a, evaluation=_moved(_row(a).evaluation, more)), "KLD (nats)")
    assert found.verdict.startswith("within noise (95 % ")


def test_scores_without_outcomes_are_judged_by_their_errors() -> None:
    a = sample_record()
    arc, other = _row(a).tasks
    blind = _with_row(a, tasks=(replace(arc, outcomes=""), other))
    worse = _with_row(a, tasks=(replace(arc, outcomes="", score=replace(arc.score, value=0.1)), other))
    found = _told(blind, worse, "ARC (%)")
    assert found.verdict.startswith("more than noise (z-test")
    assert found.after.startswith("10.0 ±")
    assert not [c for c in changes(a, _with_row(a, tasks=(arc,))) if c.what.endswith("(%)")]
    unlike = replace(worse, task_sets=())
    assert _told(replace(blind, task_sets=()), unlike, "ARC (%)").verdict.startswith("more than noise (z-test")


def test_speeds_without_turns_are_not_judged() -> None:
    a = sample_record()
    alone = replace(a, rows=tuple(replace(r, speed=tuple(replace(s, busy=None) for s in r.speed)) for r in a.rows))
    faster = _with_row(alone, "Q8_0", speed=_faster(_row(alone, "Q8_0"), 2.0))
    found = _told(alone, faster, "tg32 (t/s)", "Q8_0")
    assert found.verdict == "not judged: not measured in turns with the base"
    slower = _with_row(a, "Q8_0", speed=_faster(_row(a, "Q8_0"), 0.5))
    found = _told(a, slower, "tg32 (t/s)", "Q8_0")
    assert found.verdict.startswith("more than noise (")
    assert found.verdict.endswith("of the base's; intervals apart)")
    baseless = replace(slower, rows=slower.rows[1:])
    assert _told(a, baseless, "tg32 (t/s)", "Q8_0").verdict == "not judged: not measured in turns with the base"


def test_domains_and_continuations_have_their_figures_on_both_sides() -> None:
    record = sample_record()
    domains = tuple(Domain(name=n, role=r, weight=1.0) for n, r in (("a", "evaluation"), ("b", "evaluation:b")))
    first = replace(record, domains=domains, rows=tuple(replace(r, domains=(r.evaluation,)) for r in record.rows))
    (gone,) = (c for c in changes(first, record) if (c.of, c.what) == ("Q8_0", "KLD, evaluation:b"))
    assert (gone.before, gone.after) == ("measured", "–")
    (come,) = (c for c in changes(record, first) if (c.of, c.what) == ("Q8_0", "KLD, evaluation:b"))
    assert (come.before, come.after) == ("–", "measured")
    worse = replace(first, rows=tuple(
        replace(r, domains=(_moved(r.evaluation, [0.5 + 0.01 * i for i in range(8)]),)) for r in first.rows
    ))  # fmt: skip
    found = _told(first, worse, "KLD, evaluation:b (nats)", "Q8_0")
    assert found.verdict.startswith("more than noise (95 % 0.46")
    texts = (*first.texts, replace(first.texts[0], role="evaluation:b", sha256="3" * 64))
    elsewhere = replace(worse, texts=texts)
    assert _told(first, elsewhere, "KLD, evaluation:b (nats)", "Q8_0").verdict.startswith("not comparable")
    q8 = _row(record, "Q8_0")
    bare = _with_row(record, "Q8_0", continuation=None, contexts=())
    told = {c.what: (c.before, c.after) for c in changes(record, bare)}
    followed = q8.continuation
    assert followed
    mean = sum(followed.agreed) / len(followed.agreed)
    held = ", ".join(f"{m.n_ctx:,}: {m.cache_bytes + m.compute_bytes:,}" for m in q8.contexts)
    assert told == {
        "same first tokens": (f"{mean:.1f} of {followed.n_tokens}", "–"), "bytes of contexts": (held, "–"),
    }  # fmt: skip
