"""Complaints of the pinned commit become sentences with a way out; a good run has none."""

from __future__ import annotations

import pytest

from lwq.llama.complaints import complaint
from tests.llama.test_transcripts import recorded


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("too_short", "at least 1024 tokens are needed for windows of 512"),
        ("imatrix_too_short", "at least 1024 tokens are needed for windows of 512"),
        ("wrong_vocabulary", "vocabulary of 320 tokens is not the base's of 49152"),
        ("no_log_probs", "log-probabilities are damaged"),
        ("requantize", "already quantized"),
        ("needs_imatrix", "needs an importance matrix"),
        ("unknown_architecture", "does not know the architecture 'llamb'"),
        ("cut_log_probs", "log-probabilities are damaged"),
        ("not_written", "could not be written"),
        ("no_imatrix", "tiny.gguf is no importance matrix"),
        ("cut_model", "cut short: blk.1.ffn_gate.weight"),
    ],
)
def test_complaints_become_sentences(name: str, told: str) -> None:
    found = complaint(recorded(f"{name}.txt"))
    assert found is not None
    assert told in found[0]
    assert found[1]


def test_good_runs_complain_of_nothing() -> None:
    for name in ("kld.err.txt", "kld.out.txt", "baseline.err.txt", "dry_run_pruned_fallback.txt"):
        assert complaint(recorded(name)) is None


def test_metadata_that_sounds_like_a_complaint_is_none() -> None:
    line = "llama_model_loader: - kv   3: general.description str = how to run out of memory\n"
    assert complaint(line) is None
    assert complaint(line + "ggml: failed to allocate 3 GiB\n") is not None


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("perplexity.cpp:456: GGML_ASSERT(!llama_vocab_get_add_eos(vocab)) failed", "adds an end token"),
        ("llama-vocab.cpp:2544: GGML_ASSERT(id_to_token.size() == token_to_id.size()) failed", "has a token twice"),
        ("binary_op: unsupported types: dst: f32, src0: f32, src1: f16", "does not compute with (dst: f32"),
        (
            "failed to quantize: key not found in model: deepseek2.attention.q_lora_rank",
            "no deepseek2.attention.q_lora",
        ),
        (
            "llama_model_load: error loading model: error loading model vocabulary: unordered_map::at",
            "lacks a token that",
        ),
        ("terminate called\n  what():  unordered_map::at", "no token for a byte"),
        ("0.04 s per pass - ETA 0.00 [1]nan,[2]nan,", "not numbers (nan)"),
        ("Mean PPL(Q)                   :        nan ±        nan", "not numbers (nan)"),
    ],
)
def test_known_checks_of_the_tools_become_sentences(said: str, told: str) -> None:
    found = complaint(said)
    assert found is not None
    assert told in found[0]
    assert found[1]
