"""Tensors and ggml types: sizes, names, which types a shape allows and what stock falls back to.

Sizes and fallbacks are those of ggml at the pinned commit (``ggml/src/ggml.c``,
``src/llama-quant.cpp: tensor_type_fallback``); a test compares them with the built library.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

GGUF_ALIGNMENT: Final = 32

# ggml type -> (enum value, weights in a quant block, bytes of a quant block)
GGML_TYPES: Final[dict[str, tuple[int, int, int]]] = {
    "f32": (0, 1, 4), "f16": (1, 1, 2), "bf16": (30, 1, 2), "f64": (28, 1, 8),
    "i8": (24, 1, 1), "i16": (25, 1, 2), "i32": (26, 1, 4), "i64": (27, 1, 8),
    "q1_0": (41, 128, 18), "q2_0": (42, 64, 18),
    "q4_0": (2, 32, 18), "q4_1": (3, 32, 20), "q5_0": (6, 32, 22), "q5_1": (7, 32, 24),
    "q8_0": (8, 32, 34), "q8_1": (9, 32, 36),
    "q2_K": (10, 256, 84), "q3_K": (11, 256, 110), "q4_K": (12, 256, 144),
    "q5_K": (13, 256, 176), "q6_K": (14, 256, 210), "q8_K": (15, 256, 292),
    "iq1_s": (19, 256, 50), "iq1_m": (29, 256, 56), "iq2_xxs": (16, 256, 66),
    "iq2_xs": (17, 256, 74), "iq2_s": (22, 256, 82), "iq3_xxs": (18, 256, 98),
    "iq3_s": (21, 256, 110), "iq4_nl": (20, 32, 18), "iq4_xs": (23, 256, 136),
    "tq1_0": (34, 256, 54), "tq2_0": (35, 256, 66), "mxfp4": (39, 32, 17), "nvfp4": (40, 64, 36),
}  # fmt: skip
_LOWER: Final = {name.lower(): name for name in GGML_TYPES}
UNQUANTIZED: Final = ("f32", "f16", "bf16", "f64", "i8", "i16", "i32", "i64")

_FALLBACK: Final = {
    **dict.fromkeys(("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s", "iq4_xs"), "iq4_nl"),
    **dict.fromkeys(("q2_0", "q2_K", "q3_K", "tq1_0", "tq2_0"), "q4_0"),
    "q4_K": "q5_0",
    "q5_K": "q5_1",
    "q6_K": "q8_0",
}

# ftype -> (enum value, ggml type that it starts from); the labels llama-quantize knows
FTYPES: Final[dict[str, tuple[int, str]]] = {
    "F32": (0, "f32"), "F16": (1, "f16"), "BF16": (32, "bf16"),
    "Q1_0": (40, "q1_0"), "Q2_0": (41, "q2_0"),
    "Q4_0": (2, "q4_0"), "Q4_1": (3, "q4_1"), "Q5_0": (8, "q5_0"), "Q5_1": (9, "q5_1"),
    "Q8_0": (7, "q8_0"), "MXFP4_MOE": (38, "mxfp4"),
    "Q2_K": (10, "q2_K"), "Q2_K_S": (21, "q2_K"),
    "Q3_K_S": (11, "q3_K"), "Q3_K_M": (12, "q3_K"), "Q3_K_L": (13, "q3_K"),
    "Q4_K_S": (14, "q4_K"), "Q4_K_M": (15, "q4_K"), "Q5_K_S": (16, "q5_K"),
    "Q5_K_M": (17, "q5_K"), "Q6_K": (18, "q6_K"),
    "IQ1_S": (24, "iq1_s"), "IQ1_M": (31, "iq1_m"), "IQ2_XXS": (19, "iq2_xxs"),
    "IQ2_XS": (20, "iq2_xs"), "IQ2_S": (28, "iq2_xs"), "IQ2_M": (29, "iq2_s"),
    "IQ3_XXS": (23, "iq3_xxs"), "IQ3_XS": (22, "iq3_s"), "IQ3_S": (26, "iq3_s"),
    "IQ3_M": (27, "iq3_s"), "IQ4_NL": (25, "iq4_nl"), "IQ4_XS": (30, "iq4_xs"),
    "TQ1_0": (36, "tq1_0"), "TQ2_0": (37, "tq2_0"),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """One tensor of a GGUF; ``ne`` in ggml order (row length first), ``offset`` in the data section."""

    name: str
    ne: tuple[int, ...]
    ggml_type: str
    offset: int = 0

    @property
    def n_elements(self) -> int:
        return math.prod(self.ne)

    @property
    def n_bytes(self) -> int:
        return tensor_bytes(self.ne, self.ggml_type)

    @property
    def layer(self) -> int | None:
        return split_name(self.name)[0]

    @property
    def tensor_class(self) -> str:
        return split_name(self.name)[1]


def known_type(name: str) -> str:
    """The table's spelling of a ggml type (``Q4_k`` → ``q4_K``).

    Raises:
        ValueError: no such type; the message lists the known ones.
    """
    try:
        return _LOWER[name.lower()]
    except KeyError:
        raise ValueError(f"unknown ggml type {name!r}; known: {', '.join(GGML_TYPES)}") from None


def type_name(value: int) -> str | None:
    """The ggml type with that number in a GGUF file, or None where the pinned ggml knows none."""
    return next((name for name, (number, _, _) in GGML_TYPES.items() if number == value), None)


def type_bpw(ggml_type: str) -> float:
    """Bits per weight of a ggml type: 8 · bytes of a quant block ÷ weights in it."""
    _, n_weights, n_bytes = GGML_TYPES[ggml_type]
    return 8 * n_bytes / n_weights


def tensor_bytes(ne: tuple[int, ...], ggml_type: str) -> int:
    """Bytes of a tensor's data, without padding.

    Raises:
        ValueError: a row that is not a whole number of quant blocks.
    """
    _, n_weights, n_bytes = GGML_TYPES[ggml_type]
    if ne[0] % n_weights:
        raise ValueError(f"rows of {ne[0]} are not whole blocks of {n_weights} ({ggml_type})")
    return math.prod(ne) // n_weights * n_bytes


def fits_rows(ne: tuple[int, ...], ggml_type: str) -> bool:
    """Whether a row is a whole number of the type's quant blocks."""
    return ne[0] % GGML_TYPES[ggml_type][1] == 0


def padded(n_bytes: int, alignment: int = GGUF_ALIGNMENT) -> int:
    """``n_bytes`` rounded up to the alignment of a GGUF."""
    return -(-n_bytes // alignment) * alignment


def fallback_type(ggml_type: str, row_length: int) -> str:
    """The type that llama-quantize really writes for rows of that length."""
    if row_length % GGML_TYPES[ggml_type][1] == 0:
        return ggml_type
    fallback = _FALLBACK.get(ggml_type, ggml_type)
    return fallback if row_length % GGML_TYPES[fallback][1] == 0 else "f16"


def bits_per_weight(tensors: Iterable[TensorInfo]) -> float:
    """8 · Σ tensor bytes ÷ Σ elements, of these tensors (so of that file, pruned or not)."""
    total = [(t.n_bytes, t.n_elements) for t in tensors]
    return 8 * sum(b for b, _ in total) / sum(n for _, n in total)


_LAYER = re.compile(r"blk\.(\d+)\.(.+?)(?:\.(weight|bias))?", re.DOTALL)
_PLAIN = re.compile(r"(.*?)(?:\.(weight|bias))?", re.DOTALL)


def split_name(name: str) -> tuple[int | None, str]:
    """(layer, tensor class) of a tensor name; ``blk.7.ffn_down.weight`` → ``(7, "ffn_down")``."""
    if match := _LAYER.fullmatch(name):
        return int(match[1]), match[2] + (".bias" if match[3] == "bias" else "")
    match = _PLAIN.fullmatch(name)
    assert match is not None
    return None, match[1] + (".bias" if match[2] == "bias" else "")


def renumber(name: str, pruned: Iterable[int]) -> str | None:
    """The name after pruning these layers (llama-quantize numbers the kept ones anew), or None."""
    layer, _ = split_name(name)
    gone = sorted(set(pruned))
    if layer is None or not gone:
        return name
    if layer in gone:
        return None
    return name.replace(f"blk.{layer}.", f"blk.{layer - sum(g < layer for g in gone)}.", 1)


def anchored(name: str) -> str:
    """A ``--tensor-type`` pattern that matches this tensor and no other."""
    return "^" + re.escape(name).replace("\\_", "_").replace("\\-", "-") + "$"
