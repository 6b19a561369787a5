"""Boundaries of layers: where the residual stream is all that crosses, from graphs written by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lwq.engine.graph import Boundary, Node, _boundaries, _copies, _first_read

_MUL, _SET_ROWS = 1, 2
CACHES = {100: Node(100, "cache_k_l0", 0, (), 0), 101: Node(101, "cache_k_l1", 0, (), 0)}
WEIGHT = {200: Node(200, "blk.0.attn_q.weight", 0, (), 0)}


def boundaries(nodes: Sequence[Node], leaves: Mapping[int, Node]) -> dict[int, Boundary]:
    return _boundaries(nodes, leaves, _copies(nodes, leaves))


def layers(*reads: int) -> list[Node]:
    """Three layers: each writes a cache, reads one, and adds to the stream; ``reads`` names the caches read."""
    nodes, stream = [Node(1, "embd", _MUL, (200,), 0)], 1
    for layer, read in enumerate(reads):
        at = 10 * (layer + 1)
        written = 100 + min(layer, 1)
        nodes.append(Node(at, "write", _SET_ROWS, (stream, written), written))
        nodes.append(Node(at + 1, "attention", _MUL, (stream, read), 0))
        nodes.append(Node(at + 2, f"l_out-{layer}", _MUL, (stream, at + 1), 0))
        stream = at + 2
    return [*nodes, Node(90, "result_output", _MUL, (stream, 200), 0)]


def test_layers_that_keep_to_their_own_cache_have_a_boundary_each() -> None:
    nodes = layers(100, 101)
    wanted = {-1: Boundary(0, 1), 0: Boundary(3, 12), 1: Boundary(6, 22)}
    assert boundaries(nodes, CACHES | WEIGHT) == wanted
    assert [nodes[i].name for i in (0, 3, 6)] == ["embd", "l_out-0", "l_out-1"]


def test_the_embeddings_own_norm_lies_before_the_first_layer() -> None:
    nodes = layers(100, 101)
    before = [("embd", 2, 200), ("norm-0", 3, 2), ("norm_w-0", 4, 3), ("inp_norm-0", 1, 4)]
    nodes[0:1] = [Node(address, name, _MUL, (source,), 0) for name, address, source in before]
    nodes[4] = Node(10, "norm-0", _SET_ROWS, (1, 100), 100)
    assert boundaries(nodes, CACHES | WEIGHT)[-1] == Boundary(3, 1)


def handed_over(nodes: Sequence[Node], stream: int, copy: int) -> list[Node]:
    """The same where what reads the stream reads a copy of it."""
    return [Node(n.address, n.name, n.op, tuple(copy if s == stream else s for s in n.src), n.view_src) for n in nodes]


def test_what_reads_a_copy_on_another_device_reads_its_original() -> None:
    """Embeddings are looked up on the CPU, layer 1 lies on a second GPU; copies of the stream enter, as leaves."""
    copies = {300: Node(300, "GPU0#embd#0", 0, (), 0), 302: Node(302, "GPU1#l_out-0#0", 0, (), 0)}
    nodes = handed_over(handed_over(layers(100, 101), 1, 300), 12, 302)
    assert boundaries(nodes, CACHES | WEIGHT | copies) == boundaries(layers(100, 101), CACHES | WEIGHT)
    assert _copies(nodes, copies) == {300: 1, 302: 12}
    assert not _copies([*nodes, Node(91, "embd", _MUL, (), 0)], {300: copies[300]})  # which of the two is unknown


def test_copies_of_inputs_are_read_when_the_first_node_asks_for_them() -> None:
    nodes = [Node(1, "a", _MUL, (300, 301), 0), Node(2, "b", _MUL, (1, 301), 0), Node(3, "c", _MUL, (2,), 302)]
    assert dict(_first_read(nodes, {300, 301, 302, 303})) == {1: (300, 301), 3: (302,)}


def test_cache_that_a_later_layer_reads_closes_the_boundaries_between() -> None:
    assert set(boundaries(layers(100, 100), CACHES | WEIGHT)) == {-1, 1}
    assert set(boundaries(layers(100, 101, 101), CACHES | WEIGHT)) == {-1, 0, 2}


def test_result_that_skips_a_layer_closes_its_boundary() -> None:
    nodes = layers(100, 101)
    reaching = [*nodes[:-1], Node(90, "result_output", _MUL, (22, 11), 0)]  # layer 0's attention is used at the end
    assert set(boundaries(reaching, CACHES | WEIGHT)) == {-1}


def test_state_that_is_carried_along_leaves_no_boundary() -> None:
    assert not boundaries(layers(100, 101), CACHES | WEIGHT | {300: Node(300, "cache_s_l0", 0, (), 0)})
