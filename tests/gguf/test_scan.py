"""What a model would lose in F16 is counted as numpy rounds it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lwq.gguf.header import read_header
from lwq.gguf.scan import scan_f16_range
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
