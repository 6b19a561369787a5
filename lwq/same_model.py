"""Whether a GGUF is a file of the same model as a base: what two rows of one table must have in common."""

from __future__ import annotations

import numpy as np

from lwq.gguf_header import GgufHeader, read_array
from lwq.gguf_io import read_tensor

_SAME = ("general.architecture", "tokenizer.ggml.model", "tokenizer.ggml.pre")
_SIZES = ("embedding_length", "attention.head_count", "expert_count")
_TOKENS = "tokenizer.ggml.tokens"
_NORM = "output_norm.weight"
_FARTHEST = 0.05
"""Relative distance of the last norm's weights, which every quantization leaves as they are (a card's files: 0)."""


def difference(base: GgufHeader, other: GgufHeader) -> str:
    """The first thing in which a file is not one of the base's model, in words; empty where it is one.

    Layers may be missing: pruned files are files of the model. Looked at: architecture, tokenizer, every token,
    sizes, and the weights of the last norm.
    """
    for key in _SAME:
        if (ours := base.text(key)) != (theirs := other.text(key)):
            return f"{key} is {theirs!r}, the base has {ours!r}"
    if base.n_vocab != other.n_vocab:
        return f"vocabulary of {other.n_vocab} tokens, the base has {base.n_vocab}"
    if base.n_vocab and (told := _tokens(base, other)):
        return told
    for size in _SIZES:
        key = f"{base.architecture}.{size}"
        if (mine := base.number(key)) != (its := other.number(key)):
            return f"{key} is {its}, the base has {mine}"
    if other.n_layer > base.n_layer:
        return f"{other.n_layer} layers, the base has {base.n_layer}"
    return _norms(base, other)


def _tokens(base: GgufHeader, other: GgufHeader) -> str:
    pairs = zip(read_array(base, _TOKENS), read_array(other, _TOKENS), strict=True)
    return next((f"token {i} is {b!r}, the base has {a!r}" for i, (a, b) in enumerate(pairs) if a != b), "")


def _norms(base: GgufHeader, other: GgufHeader) -> str:
    if any(_NORM not in {t.name for t in header.tensors} for header in (base, other)):
        return ""
    ours, theirs = read_tensor(base, _NORM).ravel(), read_tensor(other, _NORM).ravel()
    if ours.shape != theirs.shape:
        return f"{_NORM} has {theirs.size} values, the base has {ours.size}"
    distance = float(np.linalg.norm(ours - theirs) / max(float(np.linalg.norm(ours)), 1e-30))
    return f"{_NORM} is {100 * distance:.0f} % away from the base's" if not distance <= _FARTHEST else ""
