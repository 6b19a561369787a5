"""Whether a GGUF is a file of the same model as a base: what two rows of one table must have in common."""

from __future__ import annotations

import numpy as np

from lwq.errors import ModelError
from lwq.gguf.data import read_rows
from lwq.gguf.header import GgufHeader, read_array
from lwq.gguf.types import TensorInfo, tensor_bytes

_SAME = ("general.architecture", "tokenizer.ggml.model", "tokenizer.ggml.pre")
_SIZES = ("embedding_length", "attention.head_count", "expert_count")
_TOKENIZERS = ("tokenizer.ggml.bos_token_id", "tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_space_prefix")
"""Compared where both files say: older ones lack them."""
_LAYER_SIZES = ("feed_forward_length", "attention.head_count_kv", "attention.key_length")
"""Compared where both files have one number for all layers."""
_ARRAYS = {"tokenizer.ggml.tokens": "token", "tokenizer.ggml.merges": "merge"}
_SHARED = ("output_norm.weight", "token_embd.weight")
"""What no removal and no healing of layers changes."""
_ROWS = 256
_STEP = 5.0
"""Relative distance that a type may explain, times 2 to its bits per weight: about three times what it is on real
embeddings without an importance matrix (0.005 in Q8_0, 0.07 in Q4_K, 0.3 in Q2_K)."""
_ROUNDING = 0.01
"""Distance that two conversions of one model may have."""
_OTHER = 1.0
"""From here on nothing is left of a model's weights, whatever the type: two unlike sets of one size are 1.4 apart."""


def difference(base: GgufHeader, other: GgufHeader) -> str:
    """The first thing in which a file is not one of the base's model, in words; empty where it is one.

    Layers may be missing: pruned files are files of the model. Looked at: architecture, tokenizer, every token and
    merge, sizes, and the weights of the last norm and of the token embedding, as far as their types can hold them.
    """
    for key in _SAME:
        if (ours := base.text(key)) != (theirs := other.text(key)):
            return f"{key} is {theirs!r}, the base has {ours!r}"
    if base.n_vocab != other.n_vocab:
        return f"vocabulary of {other.n_vocab} tokens, the base has {base.n_vocab}"
    if unlike := _arrays(base, other):
        return unlike
    for key in (*_TOKENIZERS, *(f"{base.architecture}.{size}" for size in _LAYER_SIZES)):
        mine, its = base.metadata.get(key), other.metadata.get(key)
        if isinstance(mine, int) and isinstance(its, int) and mine != its:
            return f"{key} is {its}, the base has {mine}"
    for size in _SIZES:
        key = f"{base.architecture}.{size}"
        if (mine := base.number(key)) != (its := other.number(key)):
            return f"{key} is {its}, the base has {mine}"
    if other.n_layer > base.n_layer:  # blocks that predict further tokens are not counted: published with and without
        return f"{other.n_layer} layers, the base has {base.n_layer}"
    return next((unlike for name in _SHARED if (unlike := _weights(base, other, name))), "")


def _arrays(base: GgufHeader, other: GgufHeader) -> str:
    """The first difference of tokens, or of merges where both files have them."""
    for key, what in _ARRAYS.items():
        if key in base.metadata and key in other.metadata:
            ours, theirs = read_array(base, key), read_array(other, key)
            if len(ours) != len(theirs):
                return f"{len(theirs):,} {what}s, the base has {len(ours):,}"
            pairs = enumerate(zip(ours, theirs, strict=True))
            if unlike := next((f"{what} {i} is {b!r}, the base has {a!r}" for i, (a, b) in pairs if a != b), ""):
                return unlike
    return ""


def _weights(base: GgufHeader, other: GgufHeader, name: str) -> str:
    of_name = [next((t for t in header.tensors if t.name == name), None) for header in (base, other)]
    mine, its = of_name
    if mine is None or its is None:
        return ""
    if mine.ne != its.ne:
        return f"{name} is {list(its.ne)}, the base has {list(mine.ne)}"
    try:
        ours, theirs = read_rows(base, name, _ROWS), read_rows(other, name, _ROWS)
    except ModelError:
        return ""
    distance = float(np.linalg.norm(ours - theirs) / max(float(np.linalg.norm(ours)), 1e-30))
    if distance <= min(_ROUNDING + _explained(mine) + _explained(its), _OTHER):
        return ""
    return f"{name} is {100 * distance:.0f} % away from the base's, more than {its.ggml_type.upper()} explains"


def _explained(tensor: TensorInfo) -> float:
    bits = 8 * tensor_bytes(tensor.ne[:1], tensor.ggml_type) / tensor.ne[0]
    return float(_STEP * 2**-bits)
