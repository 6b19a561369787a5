"""Parsers against outputs of the pinned commit, the odd ones too; nothing is ever guessed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwq.errors import TranscriptError
from lwq.llama.transcripts import (
    ChunkCounter,
    LoadClock,
    parse_buffers,
    parse_damage,
    parse_dry_run,
    parse_perplexity,
    parse_speed,
)

FOLDER = Path(__file__).parents[1] / "transcripts"


def recorded(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def test_perplexity_is_read_from_both_streams() -> None:
    found = parse_perplexity(recorded("baseline.out.txt"), recorded("baseline.err.txt"))
    assert (found.ppl.value, found.ppl.stderr, found.n_chunks) == (24.498, 1.65901, 8)
    assert found.chunk_ppl == (12.9525, 21.37, 22.5218, 22.7439, 22.2561, 22.458, 23.1882, 24.498)


def test_damage_is_read_whole() -> None:
    found = parse_damage(recorded("kld.out.txt"), recorded("kld.err.txt"))
    assert (found.ppl.value, found.ppl.stderr) == (25.129477, 1.704591)
    assert (found.kld.value, found.kld.stderr) == (0.035198, 0.001052)
    assert (found.rms_delta_p.value, found.rms_delta_p.stderr) == (0.04434, 0.0022)
    assert (found.same_top_p.value, found.cor_ln_ppl) == (0.87696, 0.9957)
    assert found.kld_percentiles[0] == ("Maximum", 1.285339)
    assert found.kld_percentiles[5] == ("Median", 0.025314)
    assert len(found.kld_percentiles) == 11
    assert len(found.delta_p_percentiles) == 13
    assert found.chunk_kld[0] == 0.03876
    assert found.chunk_kld[-1] == 0.0352


def test_model_against_itself_may_be_below_zero_and_lack_an_error() -> None:
    assert parse_damage(recorded("kld_self.out.txt")).kld.value == 0.0
    odd = recorded("kld.out.txt").replace(
        "Mean    KLD:   0.035198 ±   0.001052", "Mean    KLD:  -0.000001 ±       -nan"
    )
    found = parse_damage(odd).kld
    assert (found.value, found.stderr) == (-1e-06, None)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("RMS Δp    :  4.434 ± 0.220 %\n", ""),
        ("Mean    KLD:   0.035198", "Mean    KLD:       nan"),
        ("Minimum KLD:   0.000003\n", ""),
        ("Same top p: 87.696 ± 0.727 %", "Same top p: 87.696"),
        ("   8      25.1295", "        25.1295"),
    ],
)
def test_damage_that_lacks_anything_is_refused(old: str, new: str) -> None:
    text = recorded("kld.out.txt")
    assert old in text
    with pytest.raises(TranscriptError):
        parse_damage(text.replace(old, new), recorded("kld.err.txt"))


@pytest.mark.parametrize("cut", [",[8]24.4980", "Final estimate"])
def test_perplexity_of_too_few_chunks_is_refused(cut: str) -> None:
    out, err = recorded("baseline.out.txt"), recorded("baseline.err.txt")
    assert cut in out + err
    with pytest.raises(TranscriptError):
        parse_perplexity(out.replace(cut, ","), err.replace(cut, "final"))


@given(st.integers(min_value=0, max_value=2302))
def test_damage_cut_anywhere_is_whole_or_refused(at: int) -> None:
    text = recorded("kld.out.txt")
    whole = parse_damage(text)
    try:
        found = parse_damage(text[:at])
    except TranscriptError:
        return
    assert found.kld == whole.kld


def test_dry_run_names_tensors_as_they_will_be_written() -> None:
    plan = parse_dry_run(recorded("dry_run_pruned_fallback.txt"))
    types = {t.name: t.target_type for t in plan.tensors}
    assert {int(name.split(".")[1]) for name in types if name.startswith("blk.")} == {0, 1, 2}
    assert types["blk.0.attn_q.weight"] == "q5_0"  # 96 is no multiple of 256
    assert types["output_norm.weight"] == "f32"
    assert plan.n_fallback > 0
    assert not plan.needs_imatrix
    assert parse_dry_run(recorded("dry_run_needs_imatrix.txt")).needs_imatrix


def test_windows_alone_come_from_running_means() -> None:
    damage = parse_damage(recorded("kld.out.txt"), recorded("kld.err.txt"))
    # 2 · 0.03764 − 0.03876 and 8 · 0.02734 − 7 · 0.03479
    assert damage.window_kld()[:2] == pytest.approx((0.03876, 0.03652))
    assert damage.window_ln_ppl_ratio()[-1] == pytest.approx(-0.02481)
    assert sum(damage.window_kld()) / 8 == pytest.approx(damage.kld.value, abs=5e-6)


def test_speed_keeps_what_the_tool_printed() -> None:
    tests = parse_speed(recorded("bench.json"))
    assert [t.test for t in tests] == ["pp128", "tg32", "pp128+tg32"]
    assert tests[0].tokens_per_second.value == 1025.858238
    assert tests[0].samples == (1020.55, 1031.17)
    for text in ("", "[]x", "[{}]", "{}"):
        with pytest.raises(TranscriptError):
            parse_speed(text)


@given(st.integers(min_value=0, max_value=len(recorded("dry_run_pruned_fallback.txt"))))
def test_dry_run_cut_anywhere_is_whole_or_refused(at: int) -> None:
    text = recorded("dry_run_pruned_fallback.txt")
    try:
        found = parse_dry_run(text[:at])
    except TranscriptError:
        return
    assert found == parse_dry_run(text)


def test_counter_follows_pieces_without_newlines() -> None:
    counter = ChunkCounter()
    assert counter.feed("perplexity: calculating perplexity over 8 chunks, n_ctx=512\n") is None
    assert counter.feed("1.98 seconds per pass\n[1]12.9525,[2]21.3") == (2, 8)
    assert counter.feed("700,[3]22.5") == (3, 8)
    assert ChunkCounter(750).feed("\ntask\tacc_norm\n1\t100.00000000\n2\t50.00000000\n3\t66.") == (3, 750)
    assert ChunkCounter().feed("[  12/ 272] blk.0.attn_q.weight - ") == (12, 272)


def test_load_time_is_of_the_last_start_and_ends_with_its_first_warm_up() -> None:
    clock = LoadClock()
    clock.feed("llama-bench: benchmark 1/2: star", 1.0)
    assert clock.began is None
    clock.feed("ting\n", 1.5)
    clock.feed("llama-bench: benchmark 1/2: warmup prompt run\nllama-bench: benchmark 2/2: starting\n", 4.0)
    clock.feed("llama-bench: benchmark 1/2: warmup generation run\n", 9.0)
    assert clock.seconds == 2.5
    clock.feed("llama-bench: benchmark 1/2: starting\n", 10.0)
    assert clock.seconds is None
    clock.feed("llama-bench: benchmark 1/2: warmup generation run\n", 10.25)
    assert clock.seconds == 0.25


def test_buffers_of_a_context_are_summed_by_what_they_hold() -> None:
    """Lines of gemma3 (keys and values of two kinds of layers) and of a model with states."""
    text = (
        "llama_context:        CPU  output buffer size =     1.00 MiB\n"
        "llama_kv_cache_iswa: creating non-SWA KV cache, size = 4096 cells\n"
        "llama_kv_cache:        CPU KV buffer size =    12.00 MiB\n"
        "llama_kv_cache: size =   12.00 MiB (  4096 cells,   3 layers,  1/1 seqs), K (f16):    6.00 MiB, V\n"
        "llama_kv_cache: size =    7.50 MiB (  1024 cells,  15 layers,  1/1 seqs), K (f16):    3.75 MiB, V\n"
        "llama_memory_recurrent: size =    2.25 MiB (     1 cells,  24 layers,  1 seqs), R (f32):    0.25 MiB\n"
        "llama_context: backend_ptrs.size() = 1\n"
        "sched_reserve:        CPU compute buffer size =   107.51 MiB\n"
    )
    mib = 1 << 20
    assert parse_buffers(text) == (int(21.75 * mib), mib + round(107.51 * mib))
    with pytest.raises(TranscriptError, match="said nothing of a context's buffers"):
        parse_buffers(text.replace("compute buffer", "no buffer").replace("output buffer", "no buffer"))
