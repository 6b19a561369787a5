"""A model's sizes on which memory and disk depend, from its header alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from lwq.gguf.header import GgufHeader
from lwq.gguf.reader import BigArray
from lwq.gguf.types import TensorInfo

_KV_ITEM_BYTES: Final = 2
_ENDS: Final = ("attn_output", "ffn_down", "ffn_down_exps", "ffn_down_shexp", "ssm_out", "shortconv.out_proj")


@dataclass(frozen=True)
class ModelShape:
    """A model as its 16-bit base will be."""

    header: GgufHeader

    @cached_property
    def matrices(self) -> tuple[TensorInfo, ...]:
        """Tensors that are stored in 16 bits."""
        return tuple(t for t in self.header.tensors if sum(n > 1 for n in t.ne) > 1)

    @cached_property
    def base_bytes(self) -> int:
        """Bytes of the base's file."""
        n = sum(t.n_elements for t in self.matrices)
        return 2 * n + 4 * (self.header.n_params - n) + self.header.data_offset

    @cached_property
    def n_params(self) -> int:
        return self.header.n_params

    @cached_property
    def n_layer(self) -> int:
        return self.header.n_layer

    @cached_property
    def n_embd(self) -> int:
        """Width of the residual stream."""
        return self._number("embedding_length")

    @cached_property
    def n_expert(self) -> int:
        """Experts of a layer, 0 of a model without."""
        return self._number("expert_count")

    @cached_property
    def n_ff(self) -> int:
        """Channels of the widest feed-forward that one token passes."""
        used = self._number("expert_used_count")
        each = max((t.ne[0] for t in self.matrices if "ffn_down" in t.name), default=4 * self.n_embd)
        return each * max(1, used)

    @cached_property
    def n_vocab(self) -> int:
        """Rows of the token embedding."""
        return max((t.ne[1] for t in self.matrices if t.name in _VOCABULARIES), default=self.header.n_vocab)

    @cached_property
    def kv_bytes(self) -> int:
        """Bytes of keys and values that one token leaves in the cache, all layers, in F16."""
        heads = self.header.metadata.get(f"{self.header.architecture}.attention.head_count_kv")
        n_head = max(1, self._number("attention.head_count"))
        width = self.n_embd // n_head
        both = (self._number("attention.key_length") or width) + (self._number("attention.value_length") or width)
        if isinstance(heads, tuple | list):
            n_heads = sum(int(n) for n in heads)
        else:
            each = n_head if heads is None or isinstance(heads, BigArray) else int(heads)
            n_heads = each * self.n_layer
        return n_heads * both * _KV_ITEM_BYTES

    @cached_property
    def largest(self) -> int:
        """Values of the largest tensor."""
        return max((t.n_elements for t in self.matrices), default=0)

    @cached_property
    def layer_values(self) -> tuple[int, int]:
        """Values of the largest layer, and of the largest tensor of any layer."""
        each: Counter[int] = Counter()
        for t in self.matrices:
            if t.layer is not None:
                each[t.layer] += t.n_elements
        largest = max((t.n_elements for t in self.matrices if t.layer is not None), default=0)
        return max(each.values(), default=0), largest

    @cached_property
    def end_values(self) -> int:
        """Values of the tensors by which one layer writes to the residual stream: what leaving it out replaces."""
        each: Counter[int] = Counter()
        for t in self.matrices:
            if t.layer is not None and t.tensor_class in _ENDS:
                each[t.layer] += t.n_elements
        return max(each.values(), default=0)

    @cached_property
    def n_channels(self) -> int:
        """Input channels of all matrices together: what an importance matrix has a number for, of each expert."""
        return sum(t.ne[0] * (t.ne[2] if len(t.ne) > 2 else 1) for t in self.matrices)

    @cached_property
    def gathered(self) -> tuple[tuple[int, int], ...]:
        """Channels and number of Gram matrices of each place: one matrix for tensors that are multiplied by the same,
        one for each expert."""
        own = (t for t in self.matrices if t.tensor_class not in _SHARING)
        return tuple((t.ne[0], t.ne[2] if len(t.ne) > 2 else 1) for t in own)

    def _number(self, key: str) -> int:
        value = self.header.metadata.get(f"{self.header.architecture}.{key}")
        if isinstance(value, tuple | list):
            return max((int(n) for n in value), default=0)
        return int(value) if isinstance(value, int) else 0


_SHARING: Final = ("attn_k", "attn_v", "ffn_up", "ffn_up_exps", "ffn_up_shexp")
"""Classes that are multiplied by what enters another (``attn_q``, ``ffn_gate``) too."""
_VOCABULARIES: Final = ("token_embd.weight", "output.weight")
