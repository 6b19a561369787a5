"""What is stored is read back exactly, dequantized as the gguf package does, and told from what was planned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize
from hypothesis import given
from hypothesis import strategies as st

from lwq.errors import ModelError
from lwq.gguf import data as gguf_io
from lwq.gguf.header import read_header
from lwq.gguf.size import planned_tensors
from lwq.gguf.write import write_gguf
from lwq.llama.toolchain import Toolchain
from tests import tiny_models
from tests.gguf.test_header import SHARED
from tests.gguf.test_size import _quantize

KEYS = st.from_regex(r"[a-z]{1,8}\.[a-z_]{1,12}", fullmatch=True)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.integers(-(2**31), 2**32 - 1)
VALUES = st.one_of(st.booleans(), NUMBERS, st.floats(width=32, allow_nan=False), TEXT, st.lists(TEXT, min_size=1))
SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=4)


@SHARED
@given(metadata=st.dictionaries(KEYS, VALUES, max_size=8), shapes=st.dictionaries(KEYS, SHAPES, max_size=5))
def test_what_is_written_is_read_back(tmp_path: Path, metadata: dict[str, Any], shapes: dict[str, list[int]]) -> None:
    path = tmp_path / "any.gguf"
    tensors = {name: np.arange(np.prod(shape), dtype=np.float32).reshape(shape) for name, shape in shapes.items()}
    write_gguf(path, metadata, tensors)
    header = read_header(path)
    assert dict(header.metadata) == {k: tuple(v) if isinstance(v, list) else v for k, v in metadata.items()}
    for name, values in tensors.items():
        assert np.array_equal(gguf_io.read_tensor(header, name), values)


@pytest.mark.parametrize("ggml_type", ["f32", "f16", "bf16", "q8_0", "q4_0", "q5_1"])
def test_values_are_dequantized_as_the_gguf_package_does(ggml_type: str, tmp_path: Path) -> None:
    path = tiny_models.write_tiny_llama(tmp_path / "tiny.gguf", n_layer=1, ggml_type=ggml_type)
    header = read_header(path)
    for theirs in GGUFReader(path).tensors:
        values = gguf_io.read_tensor(header, theirs.name)
        expected = dequantize(theirs.data, GGMLQuantizationType(theirs.tensor_type))
        assert values.dtype == np.float32
        assert values.shape == tuple(reversed(theirs.shape.tolist()))
        assert np.array_equal(values.ravel(), expected.ravel())


def test_the_tensor_hash_is_of_data_alone(tmp_path: Path) -> None:
    values = {"a.weight": np.ones((4, 32), dtype=np.float32)}
    for name, said in (("one", "x"), ("two", "a longer value")):
        write_gguf(tmp_path / f"{name}.gguf", {"general.name": said}, values)
    write_gguf(tmp_path / "other.gguf", {"general.name": "x"}, {"a.weight": 2 * values["a.weight"]})
    one, two, other = (gguf_io.tensor_section_sha256(tmp_path / f"{n}.gguf") for n in ("one", "two", "other"))
    assert one == two != other


def test_a_file_not_as_planned_is_refused_with_what_differs(model: Path) -> None:
    header = read_header(model)
    types = {"blk.0.ffn_up.weight": "q4_K"}
    planned = planned_tensors(header, types=types)
    with pytest.raises(ModelError, match=r"blk\.0\.ffn_up\.weight is f16 \(256, 256\), planned q4_K"):
        gguf_io.check_against(model, planned, file_bytes=header.file_bytes)
    with pytest.raises(ModelError, match="bytes, predicted 1"):
        gguf_io.check_against(model, header.tensors, file_bytes=1)
    kept = [t for t in header.tensors if t.name != "output_norm.weight"]
    with pytest.raises(ModelError, match=r"output_norm\.weight was not planned"):
        gguf_io.check_against(model, kept, file_bytes=header.file_bytes)


@pytest.mark.tools
@pytest.mark.parametrize("ggml_type", ["q8_0", "q4_0", "q5_1", "bf16"])
def test_the_f16_base_is_the_source_dequantized_bit_for_bit(
    ggml_type: str, toolchain: Toolchain, tmp_path: Path
) -> None:
    source = read_header(tiny_models.write_tiny_llama(tmp_path / "q.gguf", n_layer=1, ggml_type=ggml_type))
    base = _quantize(toolchain, tmp_path, "--allow-requantize", "q.gguf", "base.gguf", "F16")
    for tensor in source.tensors:
        values, written = gguf_io.read_tensor(source, tensor.name), gguf_io.raw_tensor(base, tensor.name)
        assert written.ggml_type == ("f32" if len(tensor.ne) == 1 else "f16")
        as_stored = values if written.ggml_type == "f32" else values.astype(np.float16)
        assert written.data.tobytes() == as_stored.tobytes()
