"""Which layers may go on an architecture, so that plain llama-quantize writes a right file."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from typing import Final

# Architectures in which every layer is computed alike, whatever its number (src/models/*.cpp at the
# pinned commit): no sliding-window or no-rope period, no recurrent or leading dense layers in code.
UNIFORM: Final = frozenset(
    (
        "llama", "mistral3", "qwen2", "qwen2moe", "qwen3", "qwen3moe", "olmoe", "gemma", "phi2", "phi3",
        "granite", "granitemoe", "stablelm", "starcoder2", "internlm2", "minicpm", "olmo", "falcon",
        "gptneox", "mpt", "bloom", "arcee", "command-r", "orion", "xverse", "seed_oss", "nemotron",
        "hunyuan-dense",
    )
)  # fmt: skip

# Keys (after the architecture's name) whose value counts or selects layers by their old numbers.
LAYER_KEYS: Final = (
    "leading_dense_block_count",
    "nextn_predict_layers",
    "full_attention_interval",
    "moe_every_n_layers",
    "interleave_moe_layer_step",
    "attention.shared_kv_layers",
    "attention.sliding_window_pattern",
    "attention.rope_pattern",
    "attention.recurrent_layers",
)


def prune_obstacle(architecture: str, n_layer: int, metadata: Mapping[str, object]) -> str | None:
    """Why llama-quantize would write a wrong file if it removed layers, or None where it is right.

    It renumbers tensors and ``block_count`` only: per-layer arrays keep their length, and patterns
    that go by layer index fall on other layers.
    Source: src/llama-quant.cpp, ``remap_layer``.
    """
    for key, value in metadata.items():
        if not key.startswith(f"{architecture}."):
            continue
        if _length(value) == n_layer > 1:
            return f"{key} has one value per layer, which llama-quantize leaves as it is"
        if key.removeprefix(f"{architecture}.") in LAYER_KEYS and value not in (0, False):
            return f"{key} goes by layer number"
    if architecture not in UNIFORM:
        return f"lwq does not know {architecture!r} as an architecture whose layers are all alike"
    return None


def _length(value: object) -> int | None:
    return len(value) if isinstance(value, Sized) and not isinstance(value, str) else None
