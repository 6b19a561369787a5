"""The compute graph of one window, kept after llama.cpp built it: where its layers end, and any tail of it again.

A probe that changes layer 25 need not compute layers 0 to 24: the residual stream that enters the layer is put back
and only the nodes behind it are computed, by the same kernels in the same order. That is right only if nothing else
reaches over the boundary; ``Graph.boundaries`` holds the places where this was checked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from lwq.engine.ggml import Ggml, Tensor
from lwq.errors import ModelError
from lwq.metrics.arrays import Bytes

_LAYER_END: Final = re.compile(r"^l_out-(\d+)$")
_FIRST_LAYER: Final = re.compile(r"-0$")
_INPUT_NORM: Final = "inp_norm-0"
"""The embedding's own norm, which ends with this node and is named as if it were of layer 0 (src/models/bloom.cpp)."""
_CACHE: Final = re.compile(r"^cache_[kv]_l\d+")
_OP_NONE: Final = 0
_COPIED: Final = re.compile(r"^[^#]+#(.+)#\d+$")
"""The scheduler's copy of a tensor on another device, which is a leaf there. Source: ggml-backend.cpp
``ggml_backend_sched_split_graph``."""
_STATE_OPS: Final = ("rs_", "conv_states", "ssm_states", "cache_r", "cache_s")


@dataclass(frozen=True, slots=True)
class Node:
    """One node or leaf as read from its structure: addresses stay valid while the context lives."""

    address: int
    name: str
    op: int
    src: tuple[int, ...]
    view_src: int


def read_node(address: int) -> Node:
    tensor = Tensor.from_address(address)
    name = bytes(tensor.name).split(b"\0")[0].decode("utf-8", "replace")
    src = tuple(int(s) for s in tensor.src if s)
    return Node(address=address, name=name, op=tensor.op, src=src, view_src=tensor.view_src or 0)


@dataclass(frozen=True, slots=True)
class Boundary:
    """A place in the graph that one tensor alone crosses."""

    index: int
    """Of the last node before it."""
    address: int
    """Of that tensor: the node's result, or the scheduler's copy of it where another device goes on."""


@dataclass(slots=True)
class Graph:
    """Nodes in order of computation, with the weights and the inputs that they read."""

    nodes: tuple[Node, ...]
    weights: dict[str, tuple[int, ...]]
    """Tensor name of the model → addresses (a tied output is a second tensor of the same name)."""
    inputs: tuple[int, ...]
    """Leaves that llama.cpp sets for each window: positions, masks, cells, wanted rows."""
    boundaries: dict[int, Boundary]
    """Layer → where its residual stream is all that the layers behind it need (−1: what enters layer 0)."""
    in_parts: frozenset[str]
    """Weights that the graph reads through views of them."""
    parts: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)

    def result(self) -> int:
        """Address of the logits, shape (n_vocab, wanted rows) in ggml order.

        Raises:
            ModelError: a graph without one (no language model).
        """
        for node in reversed(self.nodes):
            if node.name == "result_output":
                return node.address
        raise ModelError("the model's graph has no node result_output", hint="lwq measures models that predict text")

    def forget_unsound(self, ggml: Ggml) -> None:
        """Forgets boundaries behind which nodes lie on more than one device."""
        device, sound = None, len(self.nodes)
        for i in reversed(range(len(self.nodes))):
            here = ggml.device_of(self.nodes[i].address)
            if here is not None and device not in (None, here):
                break
            device = here if device is None else device
            sound = i
        self.boundaries = {layer: b for layer, b in self.boundaries.items() if b.index + 1 >= sound}

    def part(self, ggml: Ggml, start: int, stop: int) -> int:
        """The graph of the nodes from ``start`` up to, not with, ``stop``."""
        if (start, stop) not in self.parts:
            self.parts[start, stop] = ggml.graph([node.address for node in self.nodes[start:stop]])
        return self.parts[start, stop][1]

    def free(self, ggml: Ggml) -> None:
        for context, _ in self.parts.values():
            ggml.lib.ggml_free(context)
        self.parts.clear()


def read_graph(addresses: Sequence[int], tensor_names: frozenset[str]) -> Graph:
    """The graph behind the nodes that llama.cpp computed in this order."""
    nodes = tuple(read_node(a) for a in addresses)
    computed = {node.address for node in nodes}
    leaves: dict[int, Node] = {}
    for node in nodes:
        for source in (*node.src, node.view_src):
            if source and source not in computed and source not in leaves:
                leaves[source] = read_node(source)
    weights: dict[str, list[int]] = {}
    for leaf in leaves.values():
        if leaf.op == _OP_NONE and leaf.name in tensor_names:
            weights.setdefault(leaf.name, []).append(leaf.address)
    named = {address: name for name, of_name in weights.items() for address in of_name}
    viewed = {named[node.view_src] for node in (*nodes, *leaves.values()) if node.view_src in named}
    given = [leaf for leaf in leaves.values() if leaf.op == _OP_NONE and not leaf.view_src]
    inputs = tuple(leaf.address for leaf in given if not _is_kept(leaf, tensor_names))
    return Graph(
        nodes=nodes,
        weights={name: tuple(leaf_addresses) for name, leaf_addresses in weights.items()},
        inputs=inputs,
        boundaries=_boundaries(nodes, leaves),
        in_parts=frozenset(viewed),
    )


def _is_kept(leaf: Node, tensor_names: frozenset[str]) -> bool:
    """Weights and caches keep their contents between computations; inputs may be overwritten."""
    return leaf.name in tensor_names or bool(_CACHE.match(leaf.name)) or leaf.name.startswith(_STATE_OPS)


def _boundaries(nodes: Sequence[Node], leaves: Mapping[int, Node]) -> dict[int, Boundary]:
    """Ends of layers (and the start of the first) that nothing but the layer's own output crosses; none where a state
    is carried along.

    A key-value cache that layers share crosses from its first use to its last: what an earlier layer wrote there is
    of the window that was computed last.
    """
    if any(leaf.name.startswith(_STATE_OPS) for leaf in leaves.values()):
        return {}
    first = {node.address: i for i, node in enumerate(nodes)}
    last: dict[int, int] = {}
    for i, node in enumerate(nodes):
        for source in (*node.src, node.view_src):
            if source in leaves and _CACHE.match(leaves[source].name):
                first.setdefault(source, i)
            if source in first:
                last[source] = i
    begins = Counter(first[a] for a, end in last.items() if end > first[a])
    ends = Counter(end for a, end in last.items() if end > first[a])
    crossing, boundaries = 0, {}
    normed = next((i + 1 for i, node in enumerate(nodes) if node.name == _INPUT_NORM), 0)
    begun = next((i for i, node in enumerate(nodes) if i >= normed and _FIRST_LAYER.search(node.name)), 0)
    for i, node in enumerate(nodes):
        crossing += begins[i] - ends[i]
        if i < begun and crossing == 1 and last.get(node.address, i) > i:
            boundaries[-1] = Boundary(i, node.address)
        if i == begun - 1 and crossing == 0 and (copy := _copied(nodes[:begun], leaves)):
            boundaries[-1] = Boundary(i, copy)
        if (match := _LAYER_END.match(node.name)) and crossing == 1 and last.get(node.address, i) > i:
            boundaries[int(match[1])] = Boundary(i, node.address)
    return boundaries


def _copied(before: Sequence[Node], leaves: Mapping[int, Node]) -> int | None:
    """The one leaf that is the scheduler's copy of a node computed before, or None where there is not one."""
    names = {node.name for node in before}
    copies = [a for a, leaf in leaves.items() if (match := _COPIED.match(leaf.name)) and match[1] in names]
    return copies[0] if len(copies) == 1 else None


def read_inputs(ggml: Ggml, graph: Graph) -> dict[int, Bytes]:
    """The inputs' contents, to be put back before each computation of a tail."""
    return {a: ggml.read(a) for a in graph.inputs if Tensor.from_address(a).buffer}
