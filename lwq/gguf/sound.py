"""Whether what a model's header says is of the right type, within bounds and of one piece, before llama.cpp reads it.

Source: src/llama-model.cpp ``load_hparams``, src/llama-vocab.cpp ``load``, src/llama-model-loader.cpp ``get_key`` and
``get_key_or_arr`` (which take one type each), src/llama-hparams.h at the pinned commit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

from lwq.errors import ModelError
from lwq.gguf.header import GgufHeader
from lwq.gguf.reader import BigArray, MetaEntry, shown

_MOST: Final = (1 << 31) - 1
_NUMBERS: Final = {
    "block_count": (1, 512), "nextn_predict_layers": (0, 512), "expert_count": (0, 1024), "context_length": (1, _MOST),
    "embedding_length": (1, 1 << 24), "vocab_size": (1, _MOST),
}  # fmt: skip
"""Keys of the architecture → the least and the most that they may be."""
_BY_LAYER: Final = ("feed_forward_length", "attention.head_count", "attention.head_count_kv", "expert_used_count")
"""One number, or one for each layer."""
_REALS: Final = ("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon", "rope.freq_base")
_TEXTS: Final = (
    "general.architecture", "general.type", "general.name", "tokenizer.ggml.model", "tokenizer.ggml.pre",
    "tokenizer.chat_template",
)  # fmt: skip
_LISTS: Final = {
    "tokenizer.ggml.tokens": ("string",), "tokenizer.ggml.merges": ("string",),
    "tokenizer.ggml.scores": ("float32", "int32"), "tokenizer.ggml.token_type": ("int32",),
}  # fmt: skip
_OF_EACH_TOKEN: Final = ("tokenizer.ggml.scores", "tokenizer.ggml.token_type")
_TOKEN_ID: Final = re.compile(r"tokenizer\.ggml\.\w+_token_id")
_ADDED: Final = re.compile(r"tokenizer\.ggml\.add_\w+")
_ARCHITECTURE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_AGAIN: Final = "convert the model anew, or fetch it again from its publisher"


def check_sound(header: GgufHeader) -> None:
    """Raises ModelError for the first key, list or tensor that does not fit the rest."""
    entries = {entry.key: entry for entry in header.entries}
    for key in _TEXTS:
        if key in entries and entries[key].value_type != "string":
            raise _wrong(header, entries[key], "a text")
    architecture = header.architecture
    if architecture and not _ARCHITECTURE.fullmatch(architecture):
        raise _wrong(header, entries["general.architecture"], "a name of letters, digits and ._-")
    _check_numbers(header, entries)
    _check_lists(header, entries)
    _check_tensors(header)


def n_items(entry: MetaEntry) -> int:
    """Of an array; 0 of a single value."""
    value = entry.value
    return value.n_items if isinstance(value, BigArray) else len(value) if isinstance(value, tuple) else 0


def _wrong(header: GgufHeader, entry: MetaEntry, expected: str) -> ModelError:
    what = f"{n_items(entry)} items" if isinstance(entry.value, BigArray | tuple) else shown(entry.value)
    return ModelError(
        f"{header.path}: {shown(entry.key)} is {what} ({entry.value_type}), expected {expected}", hint=_AGAIN
    )


def _check_numbers(header: GgufHeader, entries: Mapping[str, MetaEntry]) -> None:
    prefix = f"{header.architecture}."
    for name, (least, most) in _NUMBERS.items():
        entry = entries.get(prefix + name)
        if entry and not (entry.value_type == "uint32" and _is_within(entry.value, least, most)):
            raise _wrong(header, entry, f"a whole number from {least} to {most} (uint32)")
    for name in _BY_LAYER:
        entry = entries.get(prefix + name)
        if entry and not _is_by_layer(entry, header.n_layer_all):
            raise _wrong(header, entry, f"a whole number (uint32), or one for each of {header.n_layer_all} layers")
    for name in _REALS:
        entry = entries.get(prefix + name)
        if entry and not (isinstance(entry.value, float) and math.isfinite(entry.value) and entry.value >= 0):
            raise _wrong(header, entry, "a finite number that is not negative (float32)")
    used, n_expert = header.number(prefix + "expert_used_count"), header.number(prefix + "expert_count")
    if used and used > (n_expert or 0):
        raise ModelError(
            f"{header.path}: {prefix}expert_used_count is {used}, but there are {n_expert or 0} experts", hint=_AGAIN
        )


def _is_within(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and least <= value <= most


def _is_by_layer(entry: MetaEntry, n_layer: int) -> bool:
    if entry.value_type in ("array[uint32]", "array[int32]"):
        values = entry.value if isinstance(entry.value, tuple) else ()
        return len(values) == n_layer and all(_is_within(value, 0, _MOST) for value in values)
    return entry.value_type == "uint32" and _is_within(entry.value, 0, _MOST)


def _check_lists(header: GgufHeader, entries: Mapping[str, MetaEntry]) -> None:
    for key, types in _LISTS.items():
        if key in entries and entries[key].value_type not in {f"array[{name}]" for name in types}:
            raise _wrong(header, entries[key], f"a list ({' or '.join(types)})")
    n_tokens = header.n_vocab
    for key in _OF_EACH_TOKEN:
        if key in entries and (n := n_items(entries[key])) != n_tokens:
            raise ModelError(f"{header.path}: {key} has {n:,} items for {n_tokens:,} tokens", hint=_AGAIN)
    for key, entry in entries.items():
        if _TOKEN_ID.fullmatch(key) and entry.value_type != "uint32":
            raise _wrong(header, entry, "the number of a token (uint32)")
        if _ADDED.fullmatch(key) and entry.value_type != "bool":
            raise _wrong(header, entry, "true or false (bool)")


def _check_tensors(header: GgufHeader) -> None:
    n_layer, n_embd = header.n_layer_all, header.number(f"{header.architecture}.embedding_length")
    for tensor in header.tensors:
        if n_layer and tensor.layer is not None and tensor.layer >= n_layer:
            raise ModelError(
                f"{header.path}: has {tensor.name}, but {n_layer} layers ({header.architecture}.block_count)",
                hint=_AGAIN,
            )
        if n_embd and tensor.name == "token_embd.weight" and tensor.ne[0] != n_embd:
            raise ModelError(
                f"{header.path}: rows of {tensor.name} have {tensor.ne[0]} values, expected {n_embd}"
                f" ({header.architecture}.embedding_length)",
                hint=_AGAIN,
            )
