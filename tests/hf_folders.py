"""Tiny models as Hugging Face has them: safetensors, configuration, a trained tokenizer; for the converter's Python.

Called as a program: ``hf_folders.py KIND FOLDER`` with KIND ``f32``, ``bf16`` or ``f16`` (a llama with a SentencePiece
tokenizer).
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

N_EMBD, N_FF, N_HEAD, N_LAYER, N_VOCAB = 256, 512, 8, 4, 320


def write_folder(folder: Path, dtype: str) -> None:
    """A llama of four layers with random weights of that dtype."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    kind: Any = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[dtype]

    def matrix(rows: int, columns: int) -> Any:
        return (torch.randn(rows, columns) / columns**0.5).to(kind)

    embedding, norm = matrix(N_VOCAB, N_EMBD), torch.ones(N_EMBD, dtype=kind)
    tensors = {"model.embed_tokens.weight": embedding, "model.norm.weight": norm}
    for i in range(N_LAYER):
        layer = f"model.layers.{i}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{layer}{norm}.weight"] = torch.ones(N_EMBD, dtype=kind)
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            tensors[f"{layer}self_attn.{name}.weight"] = matrix(N_EMBD, N_EMBD)
        tensors[f"{layer}mlp.gate_proj.weight"] = matrix(N_FF, N_EMBD)
        tensors[f"{layer}mlp.up_proj.weight"] = matrix(N_FF, N_EMBD)
        tensors[f"{layer}mlp.down_proj.weight"] = matrix(N_EMBD, N_FF)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": N_EMBD,
        "intermediate_size": N_FF,
        "num_attention_heads": N_HEAD,
        "num_key_value_heads": N_HEAD,
        "num_hidden_layers": N_LAYER,
        "vocab_size": N_VOCAB,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    _write_tokenizer(folder)


def _write_tokenizer(folder: Path) -> None:
    """SentencePiece with byte fallback, trained on syllables."""
    import sentencepiece

    syllables = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
    lines = [" ".join(syllables[(i * j) % 60] + syllables[(i + j) % 60] for j in range(1, 12)) for i in range(200)]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=N_VOCAB, byte_fallback=True, model_type="bpe",
        hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    (folder / "tokenizer.model").write_bytes(model.getvalue())


if __name__ == "__main__":
    write_folder(Path(sys.argv[2]), sys.argv[1])
