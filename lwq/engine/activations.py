"""What enters the multiplications of a graph, and which matrix of a tensor with several it is multiplied by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lwq.engine.ggml import whole
from lwq.engine.graph import read_node
from lwq.engine.replay import Replay
from lwq.metrics.arrays import Bytes, Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Activations:
    """What enters a multiplication: float32 (tokens, channels), by matrix: an expert's, or (``attn_k_b``) a head's."""

    by_expert: Mapping[int, Floats]


@dataclass(frozen=True, slots=True)
class ActivationSource:
    """Where a tensor's activations come from: the node, and which experts each token chose."""

    node: int
    chosen: int | None = None
    n_used: int = 1
    n_heads: int = 1
    """Matrices of which each is multiplied by what enters it alone."""

    @property
    def addresses(self) -> tuple[int, ...]:
        """Of the nodes whose results are wanted."""
        return (self.node,) if self.chosen is None else (self.node, self.chosen)

    def activations(self, caught: Mapping[int, Sequence[Bytes]], n_channels: int) -> Activations:
        """From the nodes' results, each row of bytes a token's, or all tokens of a head."""
        values = np.concatenate(caught[self.node]).view(np.float32)
        if self.chosen is None:
            heads = values.reshape(-1, self.n_heads, values.shape[1])
            return Activations(by_expert={h: heads[:, h].reshape(-1, n_channels) for h in range(self.n_heads)})
        experts = np.concatenate(caught[self.chosen]).view(np.int32)[:, : self.n_used]
        tokens = values.reshape(len(experts), -1, n_channels)
        each = np.broadcast_to(tokens, (len(experts), self.n_used, n_channels)).reshape(-1, n_channels)
        who = experts.reshape(-1)
        return Activations(by_expert={int(e): np.ascontiguousarray(each[who == e]) for e in np.unique(who)})


def activation_sources(session: Replay, wanted: frozenset[str]) -> dict[str, ActivationSource]:
    """Tensor → where what multiplies it comes from; tensors that only look rows up are not in it."""
    assert session.graph
    computed = {node.address for node in session.graph.nodes}
    found = {}
    for node in session.graph.nodes:
        if node.op not in session.ggml.products or (name := read_node(node.src[0]).name) not in wanted:
            continue
        matrices, entering = (session.ggml.shape(a)[2:] for a in node.src[:2])
        values, *chosen = (session.graph.copies.get(a, a) for a in node.src[1:])
        source = ActivationSource(values, n_heads=matrices[0] if matrices == entering != () else 1)
        if chosen:
            source = ActivationSource(values, whole(chosen[0]), session.ggml.shape(chosen[0])[0])
        if set(source.addresses) <= computed:
            found[name] = source
    return found
