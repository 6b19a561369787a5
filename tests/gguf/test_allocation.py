"""An allocation as llama-quantize is told of it."""

from __future__ import annotations

from lwq.gguf.allocation import Allocation


def test_every_tensor_that_may_be_quantized_has_a_line_of_its_own_in_their_order() -> None:
    types = {"blk.1.ffn_up.weight": "q4_K", "output_norm.weight": "f32", "blk.0.attn_q.weight": "iq4_xs"}
    allocation = Allocation(
        ftype="Q4_K_M",
        types=tuple(types.items()),
        quantizable=("blk.0.attn_q.weight", "blk.1.ffn_up.weight"),
        pruned_layers=(),
        n_fallback=0,
    )
    assert allocation.lines() == "^blk\\.0\\.attn_q\\.weight$=iq4_xs\n^blk\\.1\\.ffn_up\\.weight$=q4_K\n"
