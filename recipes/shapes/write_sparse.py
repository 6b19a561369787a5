"""Writes a sparse GGUF with the shapes of a large model: 47 GB to look at, a few MB on the disk.

    python recipes/shapes/write_sparse.py mistral-24b shapes.gguf
    lwq plan recipes/mistral-small-3.2-24b-pruned.toml --model "$PWD/shapes.gguf"

A dry run of llama-quantize reads shapes and metadata only. The tensors hold zeros: memory and time of a step can
be measured, what it finds out says nothing. The vocabulary has the right length, and a token for each byte.

Shapes: config.json of mistralai/Mistral-Small-3.2-24B-Instruct-2506 (text model), of meta-llama's Llama-3.1-8B and
-70B, and of Llama-3.2-1B with an output tensor of its own.
"""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass
from pathlib import Path

ALIGNMENT = 32
F32, F16 = 0, 1
UINT32, FLOAT32, STRING, ARRAY, INT32 = 4, 6, 8, 9, 5

Tensor = tuple[str, tuple[int, ...], int]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A dense llama's sizes."""

    name: str
    label: str
    n_layer: int
    n_embd: int
    n_ff: int
    n_vocab: int
    n_head: int = 32
    n_head_kv: int = 8
    head_dim: int = 128
    rope_base: float = 5e5


SHAPES = {
    "mistral-24b": Shape(
        name="Mistral Small 3.2 24B Instruct 2506",
        label="24B",
        n_layer=40,
        n_embd=5120,
        n_ff=32768,
        n_vocab=131072,
        rope_base=1e9,
    ),
    "llama-1b": Shape(name="Llama 1B", label="1B", n_layer=16, n_embd=2048, n_ff=8192, n_vocab=128256, head_dim=64),
    "llama-8b": Shape(name="Llama 8B", label="8B", n_layer=32, n_embd=4096, n_ff=14336, n_vocab=128256),
    "llama-70b": Shape(name="Llama 70B", label="70B", n_layer=80, n_embd=8192, n_ff=28672, n_vocab=128256, n_head=64),
}


def tensors(s: Shape) -> list[Tensor]:
    """(name, ne, type) of all tensors."""
    found: list[Tensor] = [("token_embd.weight", (s.n_embd, s.n_vocab), F16)]
    for i in range(s.n_layer):
        found += [
            (f"blk.{i}.attn_norm.weight", (s.n_embd,), F32),
            (f"blk.{i}.attn_q.weight", (s.n_embd, s.n_head * s.head_dim), F16),
            (f"blk.{i}.attn_k.weight", (s.n_embd, s.n_head_kv * s.head_dim), F16),
            (f"blk.{i}.attn_v.weight", (s.n_embd, s.n_head_kv * s.head_dim), F16),
            (f"blk.{i}.attn_output.weight", (s.n_head * s.head_dim, s.n_embd), F16),
            (f"blk.{i}.ffn_norm.weight", (s.n_embd,), F32),
            (f"blk.{i}.ffn_gate.weight", (s.n_embd, s.n_ff), F16),
            (f"blk.{i}.ffn_up.weight", (s.n_embd, s.n_ff), F16),
            (f"blk.{i}.ffn_down.weight", (s.n_ff, s.n_embd), F16),
        ]
    return [*found, ("output_norm.weight", (s.n_embd,), F32), ("output.weight", (s.n_embd, s.n_vocab), F16)]


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def words(n: int) -> list[str]:
    """The 256 bytes as a byte-level vocabulary spells them, then words that no text has."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in shown]
    return [chr(b) for b in shown] + [chr(256 + i) for i in range(len(hidden))] + [f"t{i}" for i in range(256, n)]


def strings(key: str, values: list[str]) -> bytes:
    return text(key) + struct.pack("<IIQ", ARRAY, STRING, len(values)) + b"".join(map(text, values))


def metadata(s: Shape) -> list[bytes]:
    """The keys that llama.cpp and lwq read."""
    said = {
        "general.architecture": "llama",
        "general.name": s.name,
        "general.license": "apache-2.0",
        "general.size_label": s.label,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "tekken",
    }
    numbers = {
        "general.file_type": 1,
        "llama.block_count": s.n_layer,
        "llama.context_length": 131072,
        "llama.embedding_length": s.n_embd,
        "llama.feed_forward_length": s.n_ff,
        "llama.attention.head_count": s.n_head,
        "llama.attention.head_count_kv": s.n_head_kv,
        "llama.attention.key_length": s.head_dim,
        "llama.attention.value_length": s.head_dim,
        "llama.rope.dimension_count": s.head_dim,
        "llama.vocab_size": s.n_vocab,
    }
    floats = {"llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.rope.freq_base": s.rope_base}
    kv = [text(k) + struct.pack("<I", STRING) + text(v) for k, v in said.items()]
    kv += [text(k) + struct.pack("<II", UINT32, n) for k, n in numbers.items()]
    kv += [text(k) + struct.pack("<If", FLOAT32, x) for k, x in floats.items()]
    kv += [strings("tokenizer.ggml.tokens", words(s.n_vocab)), strings("tokenizer.ggml.merges", ["t t"])]
    types = struct.pack(f"<{s.n_vocab}i", *([1] * s.n_vocab))
    kv.append(text("tokenizer.ggml.token_type") + struct.pack("<IIQ", ARRAY, INT32, s.n_vocab) + types)
    return kv


def write(shape: Shape, path: Path) -> None:
    """The file: header, then a hole as large as the tensors."""
    kv, entries, offset = metadata(shape), [], 0
    for name, ne, kind in tensors(shape):
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
    if len(sys.argv) != 3 or sys.argv[1] not in SHAPES:
        sys.exit(f"usage: {sys.argv[0]} {'|'.join(SHAPES)} FILE.gguf")
    write(SHAPES[sys.argv[1]], Path(sys.argv[2]))
