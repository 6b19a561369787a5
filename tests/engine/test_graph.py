"""Boundaries of layers: where the residual stream is all that crosses, from graphs written by hand."""

from __future__ import annotations

from lwq.engine.graph import Boundary, Node, _boundaries

_MUL, _SET_ROWS = 1, 2
CACHES = {100: Node(100, "cache_k_l0", 0, (), 0), 101: Node(101, "cache_k_l1", 0, (), 0)}
WEIGHT = {200: Node(200, "blk.0.attn_q.weight", 0, (), 0)}


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
    assert _boundaries(nodes, CACHES | WEIGHT) == wanted
    assert [nodes[i].name for i in (0, 3, 6)] == ["embd", "l_out-0", "l_out-1"]


def test_the_embeddings_own_norm_lies_before_the_first_layer() -> None:
    nodes = layers(100, 101)
    before = [("embd", 2, 200), ("norm-0", 3, 2), ("norm_w-0", 4, 3), ("inp_norm-0", 1, 4)]
    nodes[0:1] = [Node(address, name, _MUL, (source,), 0) for name, address, source in before]
    nodes[4] = Node(10, "norm-0", _SET_ROWS, (1, 100), 100)
    assert _boundaries(nodes, CACHES | WEIGHT)[-1] == Boundary(3, 1)


def test_a_copy_on_another_device_is_what_enters_the_first_layer() -> None:
    """Embeddings are looked up on the CPU; the scheduler's copy of them, a leaf, enters."""
    copy = {300: Node(300, "GPU0#embd#0", 0, (), 0), 301: Node(301, "GPU0#inp_pos#0", 0, (), 0)}
    nodes = [
        Node(n.address, n.name, n.op, tuple(300 if s == 1 else s for s in n.src), n.view_src) for n in layers(100, 101)
    ]
    nodes[1] = Node(10, "norm-0", _MUL, (300, 301), 100)
    found = _boundaries(nodes, CACHES | WEIGHT | copy)
    assert found[-1] == Boundary(0, 300)
    assert set(found) == {-1, 0, 1}


def test_cache_that_a_later_layer_reads_closes_the_boundaries_between() -> None:
    assert set(_boundaries(layers(100, 100), CACHES | WEIGHT)) == {-1, 1}
    assert set(_boundaries(layers(100, 101, 101), CACHES | WEIGHT)) == {-1, 0, 2}


def test_result_that_skips_a_layer_closes_its_boundary() -> None:
    nodes = layers(100, 101)
    reaching = [*nodes[:-1], Node(90, "result_output", _MUL, (22, 11), 0)]  # layer 0's attention is used at the end
    assert set(_boundaries(reaching, CACHES | WEIGHT)) == {-1}


def test_state_that_is_carried_along_leaves_no_boundary() -> None:
    assert not _boundaries(layers(100, 101), CACHES | WEIGHT | {300: Node(300, "cache_s_l0", 0, (), 0)})
