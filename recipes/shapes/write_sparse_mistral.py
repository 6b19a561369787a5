"""Writes a sparse GGUF with the shapes of Mistral-Small-3.2-24B: 47 GB to look at, a few MB on the disk.

`lwq plan recipes/mistral-small-3.2-24b-pruned.toml --model FILE` predicts the whole family from it:
llama-quantize's dry run reads shapes and metadata only. The tensors hold zeros; nothing can be measured.

Shapes: config.json of mistralai/Mistral-Small-3.2-24B-Instruct-2506 (text model).
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

N_LAYER, N_EMBD, N_FF, N_VOCAB = 40, 5120, 32768, 131072
N_HEAD, N_HEAD_KV, HEAD_DIM = 32, 8, 128
ALIGNMENT = 32
F32, F16 = 0, 1
UINT32, FLOAT32, STRING, ARRAY, INT32 = 4, 6, 8, 9, 5

Tensor = tuple[str, tuple[int, ...], int]


def tensors() -> list[Tensor]:
    """(name, ne, type) of all tensors."""
    found: list[Tensor] = [("token_embd.weight", (N_EMBD, N_VOCAB), F16)]
    for i in range(N_LAYER):
        found += [
            (f"blk.{i}.attn_norm.weight", (N_EMBD,), F32),
            (f"blk.{i}.attn_q.weight", (N_EMBD, N_HEAD * HEAD_DIM), F16),
            (f"blk.{i}.attn_k.weight", (N_EMBD, N_HEAD_KV * HEAD_DIM), F16),
            (f"blk.{i}.attn_v.weight", (N_EMBD, N_HEAD_KV * HEAD_DIM), F16),
            (f"blk.{i}.attn_output.weight", (N_HEAD * HEAD_DIM, N_EMBD), F16),
            (f"blk.{i}.ffn_norm.weight", (N_EMBD,), F32),
            (f"blk.{i}.ffn_gate.weight", (N_EMBD, N_FF), F16),
            (f"blk.{i}.ffn_up.weight", (N_EMBD, N_FF), F16),
            (f"blk.{i}.ffn_down.weight", (N_FF, N_EMBD), F16),
        ]
    return [*found, ("output_norm.weight", (N_EMBD,), F32), ("output.weight", (N_EMBD, N_VOCAB), F16)]


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def metadata() -> list[bytes]:
    """The keys that llama-quantize and lwq read; the vocabulary has the right length, not the right words."""
    strings = {
        "general.architecture": "llama",
        "general.name": "Mistral Small 3.2 24B Instruct 2506",
        "general.license": "apache-2.0",
        "general.size_label": "24B",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "tekken",
    }
    numbers = {
        "general.file_type": 1,
        "llama.block_count": N_LAYER,
        "llama.context_length": 131072,
        "llama.embedding_length": N_EMBD,
        "llama.feed_forward_length": N_FF,
        "llama.attention.head_count": N_HEAD,
        "llama.attention.head_count_kv": N_HEAD_KV,
        "llama.attention.key_length": HEAD_DIM,
        "llama.attention.value_length": HEAD_DIM,
        "llama.rope.dimension_count": HEAD_DIM,
        "llama.vocab_size": N_VOCAB,
    }
    floats = {"llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.rope.freq_base": 1e9}
    kv = [text(k) + struct.pack("<I", STRING) + text(v) for k, v in strings.items()]
    kv += [text(k) + struct.pack("<II", UINT32, n) for k, n in numbers.items()]
    kv += [text(k) + struct.pack("<If", FLOAT32, x) for k, x in floats.items()]
    tokens = b"".join(text(f"t{i}") for i in range(N_VOCAB))
    kv.append(text("tokenizer.ggml.tokens") + struct.pack("<IIQ", ARRAY, STRING, N_VOCAB) + tokens)
    types = struct.pack(f"<{N_VOCAB}i", *([1] * N_VOCAB))
    kv.append(text("tokenizer.ggml.token_type") + struct.pack("<IIQ", ARRAY, INT32, N_VOCAB) + types)
    return kv


def write(path: Path) -> None:
    """The file: header, then a hole as large as the tensors."""
    kv, entries, offset = metadata(), [], 0
    for name, ne, kind in tensors():
        dimensions = struct.pack(f"<I{len(ne)}Q", len(ne), *ne)
        entries.append(text(name) + dimensions + struct.pack("<IQ", kind, offset))
        n_bytes = (4 if kind == F32 else 2) * (ne[0] * (ne[1] if len(ne) > 1 else 1))
        offset += -(-n_bytes // ALIGNMENT) * ALIGNMENT
    head = b"GGUF" + struct.pack("<IQQ", 3, len(entries), len(kv)) + b"".join(kv) + b"".join(entries)
    start = -(-len(head) // ALIGNMENT) * ALIGNMENT
    with path.open("wb") as file:
        file.write(head)
        file.truncate(start + offset)
    print(f"{path}: {(start + offset) / 2**30:.2f} GiB, {path.stat().st_blocks * 512 / 2**20:.1f} MiB on the disk")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} FILE.gguf")
    write(Path(sys.argv[1]))
