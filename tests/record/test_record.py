"""What a record sums up of tensors."""

from __future__ import annotations

from lwq.gguf.types import TensorInfo
from lwq.record.record import shares


def test_shares_add_up_and_stand_largest_first_then_by_name() -> None:
    tensors = [
        TensorInfo(name=name, ne=ne, ggml_type=ggml_type)
        for name, ne, ggml_type in (
            ("a", (32,), "f32"),
            ("b", (32, 2), "q8_0"),
            ("c", (32, 2), "q8_0"),
            ("d", (64,), "f16"),
        )
    ]
    found = [(s.name, s.n_tensors, s.n_bytes, s.n_elements) for s in shares(tensors, lambda t: t.ggml_type)]
    # Q8_0: 34 bytes for 32 elements
    assert found == [("q8_0", 2, 136, 128), ("f16", 1, 128, 64), ("f32", 1, 128, 32)]
