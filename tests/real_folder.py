"""Folders as Hugging Face has them, of real values or of real forms: for the converter's Python.

Called as a program: ``real_folder.py GGUF FOLDER`` writes the folder that a llama's GGUF with SmolLM2's tokenizer was
made from, as far as the file still tells it: every value dequantized and rounded to BF16, tokenizer, chat template.
``real_folder.py KIND FOLDER LIKE`` with KIND ``moe`` (Qwen3-MoE) or ``mla`` (DeepSeek-V3) writes three layers of random
values in that form, with the tokenizer of the folder LIKE.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

PARTS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
ENDS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
CARD = "---\nlanguage: en\nlicense: apache-2.0\n---\nMade anew from a GGUF.\n"
CONTROL = 3
"""Token type of llama.cpp: what no text may hold."""
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
MOE = {
    "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 256, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 64, "decoder_sparse_step": 1, "mlp_only_layers": [],
}  # fmt: skip
MLA = {
    "n_routed_experts": 8, "num_experts_per_tok": 2, "n_shared_experts": 1, "moe_intermediate_size": 256, "n_group": 1,
    "topk_group": 1, "first_k_dense_replace": 1, "q_lora_rank": 256, "kv_lora_rank": 256, "qk_nope_head_dim": 64,
    "qk_rope_head_dim": 64, "v_head_dim": 64, "num_attention_heads": 4, "num_key_value_heads": 4,
}  # fmt: skip


def write_real(gguf: Path, folder: Path) -> None:
    """The folder of a llama whose GGUF this is, in BF16."""
    from gguf import GGUFReader

    folder.mkdir(parents=True, exist_ok=True)
    reader = GGUFReader(gguf)
    facts = {key: field.contents() for key, field in reader.fields.items()}
    config = _config(facts)
    _write_weights(reader, config, folder)
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    _write_tokenizer(facts, folder)


def _config(facts: dict[str, Any]) -> dict[str, Any]:
    def of(key: str) -> Any:
        return facts[f"llama.{key}"]

    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "hidden_act": "silu",
        "hidden_size": of("embedding_length"),
        "intermediate_size": of("feed_forward_length"),
        "num_attention_heads": of("attention.head_count"),
        "num_key_value_heads": of("attention.head_count_kv"),
        "num_hidden_layers": of("block_count"),
        "max_position_embeddings": of("context_length"),
        "rms_norm_eps": of("attention.layer_norm_rms_epsilon"),
        "rope_theta": of("rope.freq_base"),
        "tie_word_embeddings": True,
        "vocab_size": len(facts["tokenizer.ggml.tokens"]),
        "bos_token_id": facts["tokenizer.ggml.bos_token_id"],
        "eos_token_id": facts["tokenizer.ggml.eos_token_id"],
    }


def _write_weights(reader: Any, config: dict[str, Any], folder: Path) -> None:
    import torch
    from gguf import dequantize
    from safetensors.torch import save_file

    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    tensors = {}
    for tensor in reader.tensors:
        layer, part = _place(tensor.name)
        values = torch.tensor(dequantize(tensor.data, tensor.tensor_type))
        if part in heads:  # llama.cpp rotates neighbours, transformers the halves of a head
            n_rows, n_columns = values.shape
            pairs = values.reshape(heads[part], n_rows // heads[part] // 2, 2, n_columns)
            values = pairs.swapaxes(1, 2).reshape(n_rows, n_columns)
        name = f"model.layers.{layer}.{PARTS[part]}" if layer else ENDS[part]
        tensors[f"{name}.weight"] = values.to(torch.bfloat16).contiguous()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _place(name: str) -> tuple[str, str]:
    """``blk.3.attn_q.weight`` → (``3``, ``attn_q``); no layer of a tensor at either end."""
    *where, part, _ = name.split(".")
    return (where[1] if where else ""), part


def _write_tokenizer(facts: dict[str, Any], folder: Path) -> None:
    """SmolLM2's: each digit a token, and bytes as GPT-2 has them."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2TokenizerFast

    names, kinds = facts["tokenizer.ggml.tokens"], facts["tokenizer.ggml.token_type"]
    pairs = [tuple(merge.split(" ")) for merge in facts["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=pairs))
    digits, whole = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, whole])
    tokenizer.decoder = decoders.ByteLevel()
    special = [name for name, kind in zip(names, kinds, strict=True) if kind == CONTROL]
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special])

    def token(key: str) -> str:
        return str(names[facts[f"tokenizer.ggml.{key}_token_id"]])

    fast = GPT2TokenizerFast(
        tokenizer_object=tokenizer, bos_token=token("bos"), eos_token=token("eos"), unk_token=token("unknown"),
        chat_template=facts["tokenizer.chat_template"], clean_up_tokenization_spaces=False,
    )  # fmt: skip
    fast.save_pretrained(folder)


def write_form(kind: str, folder: Path, like: Path) -> None:
    """Three layers of random BF16 values, a few million, in the form of a mixture of experts or of MLA."""
    import torch
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

    n_vocab = json.loads((like / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    sizes = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 3, "vocab_size": n_vocab}
    ends = {"bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 1024}
    torch.manual_seed(0)
    model: Any
    if kind == "moe":
        model = Qwen3MoeForCausalLM(Qwen3MoeConfig(**sizes, **ends, **MOE))
    else:
        model = DeepseekV3ForCausalLM(DeepseekV3Config(**sizes, **ends, **MLA))
    model.to(torch.bfloat16).save_pretrained(folder)
    for name in TOKENIZER:
        if (like / name).is_file():
            shutil.copyfile(like / name, folder / name)


if __name__ == "__main__":
    if sys.argv[1] in ("moe", "mla"):
        write_form(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        write_real(Path(sys.argv[1]), Path(sys.argv[2]))
