"""What a model would lose in F16 is counted as numpy rounds it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwq.gguf import scan
from lwq.gguf.header import read_header
from lwq.gguf.scan import not_finite, scan_f16_range
from lwq.gguf.write import write_gguf
from tests.gguf.test_header import SHARED

SPECIAL = (65504.0, 65519.9, 65520.0, 2.0**-14, 2.0**-14 - 2.0**-25, 2.0**-24, 2.0**-25, 2.0**-26, 0.0, -0.0)
FLOATS = st.one_of(st.floats(width=32), st.sampled_from(SPECIAL).map(lambda x: float(np.float32(x))))


@SHARED
@given(values=st.lists(FLOATS, min_size=2, max_size=60))
def test_the_f16_scan_counts_what_numpy_rounds(tmp_path: Path, values: list[float]) -> None:
    source = np.array([values, values], dtype=np.float32)
    write_gguf(tmp_path / "f32.gguf", {"general.name": "x"}, {"a.weight": source})
    with np.errstate(over="ignore"):
        half = source.astype(np.float16)
    total = scan_f16_range(read_header(tmp_path / "f32.gguf")).total
    finite = np.isfinite(source)
    assert total.n_values == source.size
    assert total.n_not_finite == np.count_nonzero(~finite)
    assert total.n_overflow == np.count_nonzero(finite & np.isinf(half))
    assert total.n_zero == np.count_nonzero((source != 0) & (half == 0))
    assert total.n_subnormal == np.count_nonzero((half != 0) & (np.abs(half) < np.float16(2.0**-14)))


@pytest.mark.parametrize("chunk", [1, 3, 1 << 22])
def test_tensors_with_something_lost_are_counted_each_for_itself(
    tmp_path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "_CHUNK", chunk)
    good, lossy = np.ones((2, 4), np.float32), np.ones((2, 4), np.float32)
    lossy[0] = (1e6, -1e6, 1e-9, 1e-5)
    half = np.ones((2, 2), np.float16)
    half[1] = (np.nan, -np.inf)
    tensors = {
        "good": good,
        "lossy": lossy,
        "half": half,
        "norm": lossy[0],
        "one": lossy[:1],
        "ids": np.ones(3, np.int32),
    }
    write_gguf(tmp_path / "m.gguf", {}, tensors)
    header = read_header(tmp_path / "m.gguf")

    def counted(found: scan.RangeCounts) -> tuple[object, ...]:
        return (found.tensor, found.n_values, found.n_not_finite, found.n_overflow, found.n_zero, found.n_subnormal)

    found = scan_f16_range(header)  # those of one dimension stay as they are, whatever lies behind it
    assert [counted(one) for one in found.tensors] == [("lossy", 8, 0, 2, 1, 1), ("half", 0, 2, 0, 0, 0)]
    assert counted(found.total) == ("", 16, 2, 2, 1, 1)
    found = scan_f16_range(header, {"norm", "good"})
    assert [counted(one) for one in found.tensors] == [("half", 0, 2, 0, 0, 0), ("norm", 4, 0, 2, 1, 1)]
    assert counted(found.total) == ("", 12, 2, 2, 1, 1)
    assert not_finite(header) == "half has 2 values not finite"


@pytest.mark.parametrize("stored", [np.float16, np.float32])
def test_one_value_that_is_not_finite_is_told_as_one(tmp_path: Path, stored: type) -> None:
    write_gguf(tmp_path / "m.gguf", {}, {"a": np.array([1, 65504, np.inf, 2], stored)})
    assert not_finite(read_header(tmp_path / "m.gguf")) == "a has 1 value not finite"


def test_bf16_is_counted_as_the_float32_that_it_stands_for(tmp_path: Path) -> None:
    values = np.array([[1e6, 1e-9, 1e-5, 1.0], [0.0, -0.0, np.nan, -1e38]], np.float32)
    from lwq.gguf.data import RawTensor

    raw = RawTensor(ggml_type="bf16", ne=(4, 2), data=(values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8))
    write_gguf(tmp_path / "m.gguf", {}, {"a": raw})
    total = scan_f16_range(read_header(tmp_path / "m.gguf")).total
    assert (total.n_values, total.n_not_finite, total.n_overflow, total.n_zero, total.n_subnormal) == (8, 1, 2, 1, 1)
