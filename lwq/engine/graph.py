"""The compute graph of one window, kept after llama.cpp built it: where its layers end, and any tail of it again.

A probe that changes layer 25 need not compute layers 0 to 24: the residual stream that enters the layer is put back
and only the nodes behind it are computed, by the same kernels in the same order. That is right only if nothing else
reaches over the boundary; ``Graph.boundaries`` holds the places where this was checked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
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
    """Of that tensor, a node's result."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Nodes that follow each other on one device, and what they need from others."""

    device: int
    copied: tuple[tuple[int, int], ...]
    """A result of another device → the scheduler's copy of it here."""
    context: int
    graph: int


@dataclass(slots=True)
class Graph:
    """Nodes in order of computation, with the weights and the inputs that they read."""

    nodes: tuple[Node, ...]
    weights: dict[str, tuple[int, ...]]
    """Tensor name of the model → addresses (a tied output is a second tensor of the same name)."""
    inputs: tuple[int, ...]
    """Leaves that llama.cpp sets for each window before it computes: positions, masks, cells, wanted rows."""
    boundaries: dict[int, Boundary]
    """Layer → where its residual stream is all that the layers behind it need (−1: what enters layer 0)."""
    in_parts: frozenset[str]
    """Weights that the graph reads through views of them."""
    handed: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Node → the scheduler's copies of inputs that it is the first to read: they are set on the way, and not kept."""
    copies: dict[int, int] = field(default_factory=dict)
    """The scheduler's copy of a result on another device → that result."""
    devices: list[int] = field(default_factory=list)
    """Of each node."""
    parts: dict[tuple[int, int], tuple[Stretch, ...]] = field(default_factory=dict)

    def result(self) -> int:
        """Address of the logits, shape (n_vocab, wanted rows) in ggml order.

        Raises:
            ModelError: a graph without one (no language model).
        """
        for node in reversed(self.nodes):
            if node.name == "result_output":
                return node.address
        raise ModelError("the model's graph has no node result_output", hint="lwq measures models that predict text")

    def part(self, ggml: Ggml, start: int, stop: int) -> tuple[Stretch, ...]:
        """What computes the nodes from ``start`` up to, not with, ``stop``."""
        if (start, stop) not in self.parts:
            self.parts[start, stop] = tuple(self._stretches(ggml, start, stop))
        return self.parts[start, stop]

    def _stretches(self, ggml: Ggml, start: int, stop: int) -> Iterator[Stretch]:
        if not self.devices:
            self.devices = self._devices(ggml)
        for device, group in groupby(range(start, stop), self.devices.__getitem__):
            nodes = [self.nodes[i] for i in group]
            read = dict.fromkeys(source for node in nodes for source in node.src if source in self.copies)
            context, graph = ggml.graph([node.address for node in nodes])
            yield Stretch(device, tuple((self.copies[copy], copy) for copy in read), context, graph)

    def _devices(self, ggml: Ggml) -> list[int]:
        """Of each node; what has no memory goes with the node before it."""
        devices: list[int] = []
        for node in self.nodes:
            devices.append(ggml.device_of(node.address) or (devices[-1] if devices else ggml.cpu))
        return devices

    def free(self, ggml: Ggml) -> None:
        for stretches in self.parts.values():
            for stretch in stretches:
                ggml.lib.ggml_free(stretch.context)
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
    copies = _copies(nodes, leaves)
    given = [leaf for leaf in leaves.values() if leaf.op == _OP_NONE and not leaf.view_src]
    inputs = [leaf for leaf in given if leaf.address not in copies and not _is_kept(leaf, tensor_names)]
    of_others = {leaf.address for leaf in inputs if _COPIED.match(leaf.name)}
    return Graph(
        nodes=nodes,
        weights={name: tuple(leaf_addresses) for name, leaf_addresses in weights.items()},
        inputs=tuple(leaf.address for leaf in inputs if leaf.address not in of_others),
        boundaries=_boundaries(nodes, leaves, copies),
        in_parts=frozenset(viewed),
        handed=dict(_first_read(nodes, of_others)),
        copies=copies,
    )


def _first_read(nodes: Sequence[Node], leaves: set[int]) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Which of these leaves each node is the first to read."""
    left = set(leaves)
    for node in nodes:
        if read := left & {*node.src, node.view_src}:
            left -= read
            yield node.address, tuple(sorted(read))


def _is_kept(leaf: Node, tensor_names: frozenset[str]) -> bool:
    """Weights and caches keep their contents between computations; inputs may be overwritten."""
    return leaf.name in tensor_names or bool(_CACHE.match(leaf.name)) or leaf.name.startswith(_STATE_OPS)


def _copies(nodes: Sequence[Node], leaves: Mapping[int, Node]) -> dict[int, int]:
    """Copy → original, of results that the scheduler hands from device to device; only where a name is no other's."""
    times = Counter(node.name for node in nodes)
    by_name = {node.name: node.address for node in nodes if times[node.name] == 1}
    found = ((a, _COPIED.match(leaf.name)) for a, leaf in leaves.items())
    return {a: by_name[match[1]] for a, match in found if match and match[1] in by_name}


def _boundaries(nodes: Sequence[Node], leaves: Mapping[int, Node], copies: Mapping[int, int]) -> dict[int, Boundary]:
    """Ends of layers (and the start of the first) that nothing but the layer's own output crosses; none where a state
    is carried along.

    A key-value cache that layers share crosses from its first use to its last: what an earlier layer wrote there is
    of the window that was computed last. Whoever reads a copy reads its original.
    """
    if any(leaf.name.startswith(_STATE_OPS) for leaf in leaves.values()):
        return {}
    first = {node.address: i for i, node in enumerate(nodes)}
    last: dict[int, int] = {}
    for i, node in enumerate(nodes):
        for source in (copies.get(a, a) for a in (*node.src, node.view_src)):
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
        if (match := _LAYER_END.match(node.name)) and crossing == 1 and last.get(node.address, i) > i:
            boundaries[int(match[1])] = Boundary(i, node.address)
    return boundaries


def read_inputs(ggml: Ggml, addresses: Iterable[int]) -> dict[int, Bytes]:
    """Contents of inputs, to be put back before each computation of a tail."""
    return {a: ggml.read(a) for a in addresses if Tensor.from_address(a).buffer}
