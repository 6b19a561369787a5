"""What a header foretells is told before any tool starts, each fault by its own sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lwq.errors import ModelError
from lwq.gguf.data import read_tensor
from lwq.gguf.header import GgufHeader, read_array, read_header
from lwq.gguf.rewrite import rewrite_gguf
from lwq.gguf.scan import not_finite
from lwq.gguf.types import TensorInfo
from lwq.gguf.usable import cautions, check_context, check_usable, trained_on
from lwq.gguf.write import NewValue, write_gguf
from tests.tiny_models import (
    write_split_llama,
    write_tiny_deci,
    write_tiny_glm4,
    write_tiny_lfm2,
    write_tiny_llama,
    write_tiny_moe,
    write_tiny_phi3,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> GgufHeader:
    return read_header(write_tiny_llama(tmp_path_factory.mktemp("usable") / "ok.gguf", n_layer=3))


def changed(model: GgufHeader, folder: Path, metadata: Mapping[str, NewValue]) -> GgufHeader:
    return rewrite_gguf(model, folder / "changed.gguf", metadata=metadata, tensors={})


def refused(header: GgufHeader) -> str:
    with pytest.raises(ModelError) as caught:
        check_usable(header)
    assert caught.value.hint
    return f"{caught.value.message} / {caught.value.hint}"


def test_language_models_are_taken(model: GgufHeader, tmp_path: Path) -> None:
    check_usable(model)
    for write in (write_tiny_moe, write_tiny_phi3, write_tiny_glm4, write_tiny_lfm2, write_tiny_deci):
        check_usable(read_header(write(tmp_path / f"{write.__name__}.gguf")))


@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        ({"general.type": "adapter"}, "a LoRA adapter .*merge it into its base"),
        ({"general.type": "mmproj"}, "projector .*name the language model"),
        ({"general.architecture": "clip"}, "projector"),
        ({"general.type": "imatrix"}, "an importance matrix"),
        ({"general.type": "controlvector"}, "a control vector"),
        ({"general.architecture": "bert"}, "an encoder"),
        ({"general.architecture": "nomic-bert-moe"}, "an encoder"),
        ({"general.architecture": "jina-bert-v2"}, "'jina-bert-v2' is an encoder"),
        ({"general.architecture": "modern-bert"}, "'modern-bert' is an encoder"),
        ({"general.architecture": "gemma-embedding"}, "'gemma-embedding' is an encoder, which makes embeddings"),
        ({"general.architecture": "t5encoder"}, "'t5encoder' is an encoder"),
        ({"llama.attention.causal": False}, r"in both directions \(llama.attention.causal is false\)"),
        ({"general.architecture": "llada"}, "a diffusion model"),
        ({"general.architecture": "eagle3"}, "a draft model"),
        ({"general.architecture": "t5"}, "llama-perplexity cannot measure"),
        ({"general.architecture": "gemma4"}, "no gemma4.block_count"),
        ({"tokenizer.ggml.add_eos_token": True}, "adds an end token .*add_eos_token 0"),
        ({"general.architecture": "dream"}, "'dream' is a diffusion model"),
        ({"general.architecture": "dflash"}, "'dflash' is a draft model"),
        ({"general.architecture": "pockettts"}, "'pockettts' is a model of sound / `llama-quantize` itself makes"),
        ({"general.architecture": "bert", "general.type": "adapter"}, r"\(general.type is 'adapter'\)"),
        ({"general.architecture": "clip"}, r"\(general.architecture is 'clip'\)"),
        ({"tokenizer.ggml.model": "no_vocab"}, r"has no tokenizer \(tokenizer.ggml.model is 'no_vocab'\)"),
        ({"tokenizer.ggml.model": "none"}, r"has no tokenizer \(tokenizer.ggml.model is 'none'\)"),
        ({"tokenizer.ggml.model": ""}, r"has no tokenizer \(tokenizer.ggml.model is ''\)"),
        ({"tokenizer.ggml.model": "t5"}, "adds an end token"),
        ({"split.count": 2, "split.no": 0, "split.tensors.count": 29}, "left over .*--remove-metadata split.count"),
    ],
)
def test_what_no_tool_can_measure_is_named(
    model: GgufHeader, tmp_path: Path, metadata: dict[str, NewValue], told: str
) -> None:
    import re

    assert len(model.tensors) == 29
    assert re.search(told, refused(changed(model, tmp_path, metadata)))


def test_an_end_token_that_is_not_added_is_no_fault(model: GgufHeader, tmp_path: Path) -> None:
    check_usable(changed(model, tmp_path, {"tokenizer.ggml.add_eos_token": False}))
    check_usable(changed(model, tmp_path, {"tokenizer.ggml.add_eos_token": False, "tokenizer.ggml.model": "t5"}))
    check_usable(changed(model, tmp_path, {"llama.attention.causal": True}))


def test_a_file_without_tensors_or_tokens_is_no_model(model: GgufHeader) -> None:
    bare = replace(model, shards=(replace(model.shards[0], tensors=()),))
    assert "a GGUF, but not of a model (no tensors)" in refused(bare)
    entries = tuple(e for e in model.entries if not e.key.startswith("tokenizer.ggml.t"))
    assert "has no tokens (tokenizer.ggml.tokens)" in refused(
        replace(model, entries=tuple(e for e in entries if e.key != "tokenizer.ggml.scores"))
    )
    entries = tuple(e for e in model.entries if e.key != "general.architecture")
    assert "not of a model (no general.architecture.block_count)" in refused(replace(model, entries=entries))


def test_keys_of_a_split_are_left_in_shards_and_listed_where_they_are_left_over(
    model: GgufHeader, tmp_path: Path
) -> None:
    check_usable(read_header(write_split_llama(tmp_path, n_shards=2)))
    check_usable(changed(model, tmp_path, {"split.count": 1, "split.no": 0, "split.tensors.count": 29}))
    told = refused(changed(model, tmp_path, {"split.no": 0, "split.count": 2, "split.tensors.count": 29}))
    assert "split.count = 2 is left over from its shards" in told
    assert told.endswith(
        "gguf_new_metadata --remove-metadata split.no --remove-metadata split.count --remove-metadata"
        " split.tensors.count changed.gguf OUT.gguf"
    )


def tokens_of(model: GgufHeader) -> list[str]:
    return [str(t) for t in read_array(model, "tokenizer.ggml.tokens")]


def test_a_sentencepiece_vocabulary_has_a_token_for_line_ends(model: GgufHeader, tmp_path: Path) -> None:
    tokens = tokens_of(model)
    at = tokens.index("<0x0A>")
    for line_end, is_taken in (("<0x0A>", True), ("\n", True), ("<other>", False)):
        found = changed(model, tmp_path, {"tokenizer.ggml.tokens": (*tokens[:at], line_end, *tokens[at + 1 :])})
        if is_taken:
            check_usable(found)
        else:
            assert "without a token for line ends (<0x0A>)" in refused(found)
    without = (*tokens[:at], "<other>", *tokens[at + 1 :])
    metadata = {"tokenizer.ggml.tokens": without, "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "x"}
    check_usable(changed(model, tmp_path, metadata))


def test_tokens_without_text_may_be_there_twice(model: GgufHeader, tmp_path: Path) -> None:
    tokens = tokens_of(model)
    check_usable(changed(model, tmp_path, {"tokenizer.ggml.tokens": (*tokens[:-2], "", "")}))


def test_fewer_rows_of_the_embedding_than_tokens_are_told_and_an_embedding_of_one_row_is_not(model: GgufHeader) -> None:
    def with_rows(ne: tuple[int, ...]) -> GgufHeader:
        tensors = tuple(replace(t, ne=ne) if t.name == "token_embd.weight" else t for t in model.tensors)
        return replace(model, shards=(replace(model.shards[0], tensors=tensors),))

    assert "has 320 tokens, but 319 rows in token_embd.weight" in refused(with_rows((256, 319)))
    check_usable(with_rows((256,)))
    kept = tuple(t for t in model.tensors if t.name != "token_embd.weight")
    check_usable(replace(model, shards=(replace(model.shards[0], tensors=kept),)))


def test_more_rows_of_the_embedding_than_tokens_are_told(model: GgufHeader) -> None:
    tensors = tuple(replace(t, ne=(t.ne[0], 323)) if t.name == "token_embd.weight" else t for t in model.tensors)
    assert "has 320 tokens, but 323 rows in token_embd.weight" in refused(
        replace(model, shards=(replace(model.shards[0], tensors=tensors),))
    )


def test_a_token_that_is_there_twice_is_named_with_both_places(model: GgufHeader, tmp_path: Path) -> None:
    tokens = [str(t) for t in read_array(model, "tokenizer.ggml.tokens")]
    tokens[310] = tokens[270]
    told = refused(changed(model, tmp_path, {"tokenizer.ggml.tokens": tuple(tokens)}))
    assert f"tokens 270 and 310 are both {tokens[270]!r}" in told


@pytest.mark.parametrize("ending", ["attn_norm.weight", "attn_q.bias"])
def test_a_norm_or_bias_in_16_bits_is_named(model: GgufHeader, tmp_path: Path, ending: str) -> None:
    metadata = {key: read_array(model, key) if key.startswith("tokenizer.ggml.t") else value
                for key, value in model.metadata.items()}  # fmt: skip
    tensors = {t.name: read_tensor(model, t.name).astype(np.float16 if len(t.ne) > 1 else np.float32)
               for t in model.tensors}  # fmt: skip
    tensors[f"blk.1.{ending}"] = np.ones(256, np.float16)
    write_gguf(tmp_path / "small.gguf", metadata, tensors)
    assert f"blk.1.{ending} is F16" in refused(read_header(tmp_path / "small.gguf"))


@pytest.mark.parametrize(
    ("name", "ne", "ggml_type", "is_named"),
    [
        ("blk.1.attn_norm.weight", (256,), "bf16", True), ("blk.1.attn_norm.weight", (256, 1), "f16", True),
        ("blk.1.attn_norm.weight", (256, 2), "f16", False), ("blk.1.attn_q.bias", (256,), "f32", False),
        ("blk.1.attn_sinks", (256,), "f16", False), ("blk.1.x.bias.weight", (256,), "f16", False),
    ],
)  # fmt: skip
def test_vectors_of_norms_and_biases_are_f32(
    model: GgufHeader, name: str, ne: tuple[int, ...], ggml_type: str, is_named: bool
) -> None:
    odd = TensorInfo(name=name, ne=ne, ggml_type=ggml_type)
    kept = [t for t in model.tensors if t.name != name]
    found = replace(model, shards=(replace(model.shards[0], tensors=(*kept, odd)),))
    if is_named:
        assert f"{name} is {ggml_type.upper()}; llama.cpp computes norms and biases in F32" in refused(found)
    else:
        check_usable(found)


def test_windows_beyond_learned_positions_are_refused_and_beyond_training_noted(
    model: GgufHeader, tmp_path: Path
) -> None:
    assert list(cautions(model, (512,))) == []
    (told,) = cautions(model, (64, 600))
    assert "600 tokens are longer than the 512" in told
    check_context(model, 600, "[evaluation]")
    positions = {"position_embd.weight": np.zeros((512, 256), np.float32)}
    learned = rewrite_gguf(model, tmp_path / "learned.gguf", metadata={}, tensors=positions)
    check_context(learned, 512, "[evaluation]")
    with pytest.raises(ModelError, match=r"\[evaluation\]: n_ctx is 513, but the model has learned positions for 512"):
        check_context(learned, 513, "[evaluation]")


def test_a_missing_pre_tokenizer_and_blocks_of_further_tokens_are_noted(model: GgufHeader, tmp_path: Path) -> None:
    (told,) = cautions(changed(model, tmp_path, {"tokenizer.ggml.model": "gpt2"}))
    assert "tokenizer.ggml.pre" in told
    assert (
        list(cautions(changed(model, tmp_path, {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "qwen2"}))) == []
    )
    mtp = read_header(write_tiny_glm4(tmp_path / "mtp.gguf"))
    (told,) = cautions(mtp)
    assert "Block 4 predicts further tokens (MTP)" in told
    two = rewrite_gguf(mtp, tmp_path / "two.gguf", metadata={"glm4.nextn_predict_layers": 2}, tensors={})
    (told,) = cautions(two)
    assert told.startswith("Blocks 3 to 4 predict further tokens (MTP)")


def test_a_context_that_is_not_stated_bounds_nothing(model: GgufHeader) -> None:
    assert trained_on(model) == 512
    entries = tuple(e for e in model.entries if not e.key.endswith("context_length"))
    unbound = replace(model, entries=entries)
    assert trained_on(unbound) == 0
    assert list(cautions(unbound, (10**6,))) == []
    learned = TensorInfo(name="position_embd.weight", ne=(256, 512), ggml_type="f32")
    check_context(replace(unbound, shards=(replace(unbound.shards[0], tensors=(learned,)),)), 10**6, "x")


@pytest.mark.parametrize("ggml_type", ["f16", "bf16", "f32"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_found_in_every_float_type(tmp_path: Path, ggml_type: str, value: float) -> None:
    good = read_header(write_tiny_llama(tmp_path / "good.gguf", n_layer=2, ggml_type=ggml_type))
    assert not_finite(good) == ""
    broken = read_tensor(good, "blk.1.ffn_up.weight").copy()
    broken[3, 5] = broken[4, 0] = value
    bad = rewrite_gguf(good, tmp_path / "bad.gguf", metadata={}, tensors={"blk.1.ffn_up.weight": broken})
    assert not_finite(bad) == "blk.1.ffn_up.weight has 2 values not finite"
    norm = np.full(256, value, np.float32)
    bad = rewrite_gguf(good, tmp_path / "bad.gguf", metadata={}, tensors={"output_norm.weight": norm})
    assert not_finite(bad) == "output_norm.weight has 256 values not finite"
