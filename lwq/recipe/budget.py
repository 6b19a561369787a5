"""Budgets as people state them, turned into bytes of tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

from lwq.gguf.types import FTYPES

_UNITS: Final = {
    "b": 1, "bytes": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30,
}  # fmt: skip
_AMOUNT: Final = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*$")
_N_UBATCH: Final = 512
DEFAULT_CONTEXT: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A size to keep to.

    ``stock``: the tensor bytes of the stock mix ``ftype``; ``bpw``: bits per weight of the file; ``file``: bytes of
    the file; ``ram``: bytes of file, context of ``n_ctx`` tokens and working memory together.
    """

    kind: Literal["stock", "bpw", "file", "ram"]
    amount: float = 0.0
    ftype: str = ""
    n_ctx: int = 0

    def __str__(self) -> str:
        if self.kind == "stock":
            return f"the size of stock {self.ftype}"
        if self.kind == "bpw":
            return f"{self.amount:g} bpw"
        size = f"{self.amount / 2**30:g} GiB" if self.amount >= 2**30 else f"{self.amount / 2**20:g} MiB"
        return size if self.kind == "file" else f"{size} of memory with {self.n_ctx:,} tokens of context"

    @property
    def label(self) -> str:
        """A short form for file names; of a stock size so that the Hub tells it from that stock mix."""
        if self.kind == "stock":
            return f"{self.ftype}_LWQ"
        if self.kind == "bpw":
            return f"lwq-{self.amount:g}bpw"
        size = f"{self.amount / 2**30:.4g}GiB" if self.amount >= 2**30 else f"{self.amount / 2**20:.4g}MiB"
        return f"lwq-{size}" if self.kind == "file" else f"lwq-{size}-ram"


def parse_size(text: str) -> int:
    """``12 GiB`` in bytes.

    Raises:
        ValueError: no size.
    """
    if n_bytes := _bytes(text):
        return n_bytes
    raise ValueError(f"{text!r} is no size like 500 MB or 12 GiB")


def _bytes(text: str) -> int:
    match = _AMOUNT.match(text)
    unit = match[2].lower() if match else ""
    return int(Decimal(match[1]) * _UNITS[unit]) if match and unit in _UNITS else 0


def parse_budget(text: str, n_ctx: int = 0) -> Budget:
    """``Q4_K_M``, ``4.25 bpw`` or ``12 GiB``; with ``n_ctx`` a size means memory that holds a context too.

    Raises:
        ValueError: none of these.
    """
    if text in FTYPES:
        return Budget(kind="stock", ftype=text)
    match = _AMOUNT.match(text)
    unit = match[2].lower() if match else ""
    if match and unit == "bpw" and 1 <= float(match[1]) <= 16:
        return Budget(kind="bpw", amount=float(match[1]))
    n_bytes = _bytes(text)
    if n_bytes > 0:
        return Budget(kind="ram" if n_ctx else "file", amount=float(n_bytes), n_ctx=n_ctx)
    near = text.strip().upper().replace("-", "_")
    hint = f"; perhaps you meant {near!r}" if near in FTYPES else ""
    raise ValueError(f"{text!r} is no budget: an ftype (Q4_K_M), 4.25 bpw or 12 GiB{hint}")


def context_bytes(metadata: Mapping[str, object], architecture: str, n_vocab: int, n_ctx: int) -> int:
    """Memory beside the weights, predicted: an F16 key-value cache of all layers and a working buffer.

    The buffer is that of 512 tokens at once with all their logits; sliding windows, which need less, count in full.
    """

    def number(key: str, default: int = 0) -> int:
        value = metadata.get(f"{architecture}.{key}")
        if isinstance(value, tuple):
            return max((v for v in value if isinstance(v, int)), default=default)
        return value if isinstance(value, int) else default

    n_embd, n_layer, heads = number("embedding_length", 1), number("block_count", 1), number("attention.head_count", 1)
    heads_kv = metadata.get(f"{architecture}.attention.head_count_kv", heads)
    each = heads_kv if isinstance(heads_kv, tuple) else (heads_kv,) * n_layer
    head = n_embd // max(1, heads)
    width = number("attention.key_length", head) + number("attention.value_length", head)
    cache = sum(h for h in each if isinstance(h, int)) * width * n_ctx * 2
    return int(cache + _N_UBATCH * 4 * (n_vocab + 2 * number("feed_forward_length", 4 * n_embd) + 8 * n_embd))
