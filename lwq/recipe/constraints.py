"""What an allocation may use: sets of ggml types, a user's constraints, and the types that a tensor's rows allow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from lwq.gguf.types import GGML_TYPES, TensorInfo, fallback_type, type_bpw

TYPE_SETS: Final[dict[str, tuple[str, ...]]] = {
    "all": (
        "iq2_xxs", "iq2_xs", "iq2_s", "q2_K", "iq3_xxs", "iq3_s", "q3_K", "iq4_xs", "iq4_nl", "q4_K", "q4_1", "q5_0",
        "q5_K", "q5_1", "q6_K", "q8_0",
    ),
    "no-iq": ("q2_K", "q3_K", "q4_0", "q4_K", "q4_1", "q5_0", "q5_K", "q5_1", "q6_K", "q8_0"),
    "k": ("q2_K", "q3_K", "q4_K", "q5_K", "q6_K", "q8_0"),
    "legacy": ("q4_0", "q4_1", "q5_0", "q5_1", "q8_0"),
}  # fmt: skip
"""Speed classes: ``all``; without lookup-table types, which are slow on CPUs; K-quants; 32-weight quant blocks."""
NEED_IMPORTANCE: Final = frozenset(("iq3_xxs", "iq2_xxs", "iq2_xs", "iq2_s", "iq1_m", "iq1_s"))
"""Types that llama-quantize refuses for a tensor without importance data (src/llama-quant.cpp)."""
UNREAD_TYPE: Final = "q8_0"
"""The only type with a curve of a tensor that predicting does not read; what it gets is the stock mix's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """What an allocation may use.

    ``min_types`` and ``fixed`` hold (pattern, type): the first pattern found in a name counts, as in llama-quantize.
    ``ties`` are tuples of tensor classes that share one type in each layer.
    """

    types: tuple[str, ...] = TYPE_SETS["all"]
    min_types: tuple[tuple[str, str], ...] = ()
    fixed: tuple[tuple[str, str], ...] = ()
    ties: tuple[tuple[str, ...], ...] = ()


def legal_types(tensor: TensorInfo, types: Iterable[str], *, has_importance: bool) -> tuple[str, ...]:
    """Of these, the types that the tensor's rows allow and that can be made of it, by size.

    A tensor none of them fits gets what the smallest falls back to.
    """
    types = tuple(types)
    usable = [q for q in types if has_importance or q not in NEED_IMPORTANCE]
    fits = {q for q in usable if tensor.ne[0] % GGML_TYPES[q][1] == 0}
    fits = fits or {fallback_type(q, tensor.ne[0]) for q in usable or types}
    return tuple(sorted(fits, key=lambda q: (type_bpw(q), q)))
