"""Tiny models as Hugging Face has them: safetensors, configuration, a trained tokenizer; for the converter's Python.

Called as a program: ``hf_folders.py KIND FOLDER`` with KIND ``f32``, ``bf16`` or ``f16`` (a llama with a SentencePiece
tokenizer), ``fp8``, ``compressed-tensors``, ``gptq``, ``awq`` (the same, quantized by that method; what the values are
lies beside it in ``wanted.npy``, of ``layers.1.mlp.up_proj``), or ``mistral3`` (the layout of Mistral-Small-3.2: a
tower for images, and mistral-common's own tekken file).
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

N_EMBD, N_FF, N_HEAD, N_LAYER, N_VOCAB = 256, 512, 8, 4, 320
N_TOWER = 4


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
    train_sentencepiece(folder)


def write_quantized(folder: Path, method: str) -> None:
    """The llama in BF16, its feed-forward matrices quantized as publishers do."""
    import numpy as np
    from safetensors.torch import load_file, save_file

    write_folder(folder, "bf16")
    tensors = load_file(folder / "model.safetensors")
    for name in [n for n in tensors if "mlp" in n]:
        parts, wanted = _QUANTIZERS[method](tensors.pop(name).float())
        tensors |= {f"{name.removesuffix('.weight')}.{part}": value.contiguous() for part, value in parts.items()}
        if "layers.1.mlp.up" in name:
            np.save(folder.parent / "wanted.npy", wanted.numpy())
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = _CONFIGS[method]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


_GROUP = 64
_CONFIGS: dict[str, dict[str, Any]] = {
    "fp8": {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]},
    "compressed-tensors": {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {
            "group_0": {"weights": {"num_bits": 4, "group_size": _GROUP, "strategy": "group", "type": "int"}}
        },
    },
    "gptq": {"quant_method": "gptq", "bits": 4, "group_size": _GROUP, "desc_act": False, "sym": True},
    "awq": {"quant_method": "awq", "bits": 4, "group_size": _GROUP, "version": "gemm"},
}


def _fp8(matrix: Any) -> tuple[dict[str, Any], Any]:
    """E4M3 with one scale for each 128 × 128 block (DeepSeek's layout)."""
    import torch

    rows, columns = matrix.shape
    blocks = matrix.reshape(rows // 128, 128, columns // 128, 128)
    scale = blocks.abs().amax(dim=(1, 3)) / 448
    codes = (blocks / scale[:, None, :, None]).to(torch.float8_e4m3fn)
    wanted = (codes.float() * scale[:, None, :, None]).reshape(rows, columns)
    return {"weight": codes.reshape(rows, columns), "weight_scale_inv": scale}, wanted


def _four_bits(matrix: Any) -> tuple[Any, Any, Any]:
    """Codes of 0 to 15 around 8, scales of each group of a row, and what they stand for."""
    import torch

    rows, columns = matrix.shape
    groups = matrix.reshape(rows, columns // _GROUP, _GROUP)
    scale = (groups.abs().amax(dim=2) / 7).to(torch.float16)
    codes = (groups / scale.float()[..., None]).round().clamp(-8, 7).to(torch.int32) + 8
    wanted = ((codes - 8) * scale.float()[..., None]).reshape(rows, columns)
    return codes.reshape(rows, columns), scale, wanted


def _packed(codes: Any) -> Any:
    """Eight codes in an int32 along the last dimension, the first lowest."""
    import torch

    wide = codes.to(torch.int64).reshape(*codes.shape[:-1], -1, 8)
    packed = sum(wide[..., i] << (4 * i) for i in range(8))
    return torch.where(packed >= 2**31, packed - 2**32, packed).to(torch.int32)


def _compressed(matrix: Any) -> tuple[dict[str, Any], Any]:
    import torch

    codes, scale, wanted = _four_bits(matrix)
    return {
        "weight_packed": _packed(codes),
        "weight_scale": scale,
        "weight_shape": torch.tensor(matrix.shape, dtype=torch.int64),
    }, wanted


def _gptq(matrix: Any) -> tuple[dict[str, Any], Any]:
    """AutoGPTQ's layout: matrices turned, zero points stored less one."""
    import torch

    codes, scale, wanted = _four_bits(matrix)
    n_groups, rows = scale.shape[1], matrix.shape[0]
    return {
        "qweight": _packed(codes).T,
        "qzeros": _packed(torch.full((n_groups, rows), 7)),
        "scales": scale.T,
        "g_idx": torch.arange(matrix.shape[1], dtype=torch.int32) // _GROUP,
    }, wanted


_QUANTIZERS = {"fp8": _fp8, "compressed-tensors": _compressed, "gptq": _gptq, "awq": _gptq}


def train_sentencepiece(folder: Path) -> None:
    """SentencePiece with byte fallback, trained on syllables."""
    import sentencepiece

    syllables = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
    lines = [" ".join(syllables[(i * j) % 60] + syllables[(i + j) % 60] for j in range(1, 12)) for i in range(200)]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=N_VOCAB, byte_fallback=True, model_type="bpe",
        hard_vocab_limit=False, minloglevel=2, control_symbols=["<|endoftext|>"],
    )  # fmt: skip
    (folder / "tokenizer.model").write_bytes(model.getvalue())


def write_mistral3(folder: Path) -> None:
    """A language model of five layers and a tower of four, in two shards with an index."""
    import mistral_common
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)

    def matrix(*shape: int) -> Any:
        return (torch.randn(*shape) / shape[-1] ** 0.5).to(torch.bfloat16)

    def ones(n: int) -> Any:
        return torch.ones(n, dtype=torch.bfloat16)

    n_vocab, n_tower = 131072, 64
    text = {"language_model.model.embed_tokens.weight": matrix(n_vocab, N_EMBD)}
    text |= {"language_model.model.norm.weight": ones(N_EMBD), "language_model.lm_head.weight": matrix(n_vocab, N_EMBD)}
    for i in range(N_LAYER + 1):
        layer = f"language_model.model.layers.{i}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            text[f"{layer}{norm}.weight"] = ones(N_EMBD)
        for name, rows in (("q_proj", N_EMBD), ("k_proj", 64), ("v_proj", 64), ("o_proj", N_EMBD)):
            text[f"{layer}self_attn.{name}.weight"] = matrix(rows, N_EMBD)
        text[f"{layer}mlp.gate_proj.weight"] = matrix(N_FF, N_EMBD)
        text[f"{layer}mlp.up_proj.weight"] = matrix(N_FF, N_EMBD)
        text[f"{layer}mlp.down_proj.weight"] = matrix(N_EMBD, N_FF)
    tower = {"vision_tower.patch_conv.weight": matrix(n_tower, 3, 14, 14), "vision_tower.ln_pre.weight": ones(n_tower)}
    for i in range(N_TOWER):  # more than two: the converter takes linear_2 for one of as many
        layer = f"vision_tower.transformer.layers.{i}."
        tower |= {f"{layer}attention_norm.weight": ones(n_tower), f"{layer}ffn_norm.weight": ones(n_tower)}
        tower |= {f"{layer}attention.{name}_proj.weight": matrix(n_tower, n_tower) for name in "qkvo"}
        for name, shape in (("gate", (128, n_tower)), ("up", (128, n_tower)), ("down", (n_tower, 128))):
            tower[f"{layer}feed_forward.{name}_proj.weight"] = matrix(*shape)
    tower["multi_modal_projector.norm.weight"] = ones(n_tower)
    tower["multi_modal_projector.patch_merger.merging_layer.weight"] = matrix(n_tower, 4 * n_tower)
    tower["multi_modal_projector.linear_1.weight"] = matrix(N_EMBD, n_tower)
    tower["multi_modal_projector.linear_2.weight"] = matrix(N_EMBD, N_EMBD)
    weight_map = {}
    for i, part in enumerate((text, tower), 1):
        name = f"model-0000{i}-of-00002.safetensors"
        save_file(part, folder / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, name)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(_mistral3_config(n_vocab, n_tower)), encoding="utf-8")
    data = Path(mistral_common.__file__).parent / "data" / "tekken_240911.json"
    (folder / "tekken.json").write_bytes(data.read_bytes())


def _mistral3_config(n_vocab: int, n_tower: int) -> dict[str, Any]:
    return {
        "architectures": ["Mistral3ForConditionalGeneration"],
        "model_type": "mistral3",
        "image_token_index": 10,
        "multimodal_projector_bias": False,
        "projector_hidden_act": "gelu",
        "spatial_merge_size": 2,
        "vision_feature_layer": -1,
        "text_config": {
            "model_type": "mistral",
            "hidden_size": N_EMBD,
            "head_dim": 32,
            "intermediate_size": N_FF,
            "num_attention_heads": N_HEAD,
            "num_key_value_heads": 2,
            "num_hidden_layers": N_LAYER + 1,
            "vocab_size": n_vocab,
            "max_position_embeddings": 1024,
            "rms_norm_eps": 1e-5,
            "rope_theta": 1000000.0,
            "hidden_act": "silu",
        },
        "vision_config": {
            "model_type": "pixtral",
            "hidden_size": n_tower,
            "head_dim": 32,
            "intermediate_size": 128,
            "num_attention_heads": 2,
            "num_hidden_layers": N_TOWER,
            "num_channels": 3,
            "image_size": 56,
            "patch_size": 14,
            "hidden_act": "silu",
            "rope_theta": 10000.0,
        },
    }


if __name__ == "__main__":
    if sys.argv[1] == "mistral3":
        write_mistral3(Path(sys.argv[2]))
    elif sys.argv[1] in _QUANTIZERS:
        write_quantized(Path(sys.argv[2]), sys.argv[1])
    else:
        write_folder(Path(sys.argv[2]), sys.argv[1])
