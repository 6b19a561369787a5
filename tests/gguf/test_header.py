"""The header is what the gguf package reads; what is damaged or no GGUF is refused, and each fault is named."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lwq.errors import ModelError
from lwq.gguf import data as gguf_io
from lwq.gguf.header import read_array, read_header
from lwq.gguf.reader import BigArray
from lwq.gguf.write import write_gguf
from tests import tiny_models

SHARED = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_the_header_is_what_the_gguf_package_reads(model: Path) -> None:
    ours, theirs = read_header(model), GGUFReader(model)
    assert [(t.name, t.ne, t.ggml_type.upper()) for t in ours.tensors] == [
        (t.name, tuple(t.shape.tolist()), t.tensor_type.name) for t in theirs.tensors
    ]
    assert ours.metadata["llama.block_count"] == ours.n_layer == 2
    assert ours.architecture == "llama"
    assert ours.file_bytes == model.stat().st_size
    assert ours.data_offset == theirs.data_offset
    tokens = read_array(ours, "tokenizer.ggml.tokens")
    assert (tokens[:3], len(tokens)) == (("<unk>", "<s>", "</s>"), tiny_models.N_VOCAB)
    whole = 24 + sum(ours.kv_bytes.values()) + sum(8 + len(t.name) + 4 + 8 * len(t.ne) + 12 for t in ours.tensors)
    assert ours.data_offset == -(-whole // 32) * 32


def test_long_arrays_stay_in_the_file_until_asked_for(tmp_path: Path) -> None:
    words = tuple(f"word{i}" for i in range(5000))
    write_gguf(tmp_path / "long.gguf", {"general.architecture": "none", "a.words": words}, {})
    header = read_header(tmp_path / "long.gguf")
    assert isinstance(header.metadata["a.words"], BigArray)
    assert read_array(header, "a.words") == words


@SHARED
@given(cut=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, model: Path, cut: float) -> None:
    part = tmp_path / "part.gguf"
    whole = model.read_bytes()
    part.write_bytes(whole[: int(cut * len(whole))])
    with pytest.raises(ModelError, match=r"part\.gguf: (truncated|empty|starts with|announces)") as caught:
        read_header(part)
    assert caught.value.hint


@SHARED
@given(at=st.integers(0, 6000), byte=st.integers(0, 255))
def test_a_damaged_header_is_refused_or_read_but_never_crashes(tmp_path: Path, model: Path, at: int, byte: int) -> None:
    data = bytearray(model.read_bytes())
    data[at] = byte
    (tmp_path / "bad.gguf").write_bytes(data)
    with suppress(ModelError):
        assert read_header(tmp_path / "bad.gguf").file_bytes == len(data)


def _at_tensor(data: bytearray, name: str) -> int:
    """Where the number of dimensions of that tensor stands."""
    return data.index(struct.pack("<Q", len(name)) + name.encode()) + 8 + len(name)


def _set_type(data: bytearray) -> None:
    struct.pack_into("<i", data, _at_tensor(data, "output_norm.weight") + 4 + 8, 99)


def _set_offset(data: bytearray) -> None:
    struct.pack_into("<Q", data, _at_tensor(data, "output_norm.weight") + 4 + 8 + 4, 7)


def _set_twice(data: bytearray) -> None:
    at = data.index(b"blk.1.ffn_gate.weight")
    data[at : at + 21] = b"blk.0.ffn_gate.weight"


def _set_big_endian(data: bytearray) -> None:
    data[4:8] = struct.pack(">I", 3)


def _set_version(data: bytearray) -> None:
    data[4:8] = struct.pack("<I", 1)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_set_type, "'output_norm.weight' has ggml type 99"),
        (_set_offset, r"offset 7 \(not aligned\), expected"),
        (_set_twice, "tensor 'blk.0.ffn_gate.weight' appears twice"),
        (_set_big_endian, "big-endian"),
        (_set_version, "version 1, expected 2 or 3"),
    ],
)
def test_each_fault_is_named(damage: Callable[[bytearray], None], said: str, model: Path, tmp_path: Path) -> None:
    data = bytearray(model.read_bytes())
    damage(data)
    (tmp_path / "bad.gguf").write_bytes(data)
    with pytest.raises(ModelError, match=said) as caught:
        read_header(tmp_path / "bad.gguf")
    assert caught.value.message.startswith(str(tmp_path / "bad.gguf"))
    assert caught.value.hint


@pytest.mark.parametrize(
    ("content", "said", "way_out"),
    [
        (b"Once upon a time there was a text.", "starts with b'Once', expected b'GGUF'", "GGUF format"),
        (b"version https://git-lfs.github.com/spec/v1", "starts with b'vers'", "git lfs pull"),
        (b"<html>not found</html>", "starts with b'<htm'", "web page"),
        (b"", r"empty \(0 bytes\)", "again"),
    ],
)
def test_what_is_no_gguf_says_what_it_is(content: bytes, said: str, way_out: str, tmp_path: Path) -> None:
    (tmp_path / "text.gguf").write_bytes(content)
    with pytest.raises(ModelError, match=said) as caught:
        read_header(tmp_path / "text.gguf")
    assert way_out in caught.value.hint


def test_a_folder_and_a_missing_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="a folder"):
        read_header(tmp_path)
    with pytest.raises(ModelError, match="no such file"):
        read_header(tmp_path / "missing.gguf")


def test_a_split_model_reads_as_one(tmp_path: Path) -> None:
    first = tiny_models.write_split_llama(tmp_path, n_shards=3)
    whole = tiny_models.write_tiny_llama(tmp_path / "whole.gguf", n_layer=2)
    header, one = read_header(first), read_header(whole)
    assert len(header.shards) == 3
    assert {t.name for t in header.tensors} == {t.name for t in one.tensors}
    for tensor in one.tensors:
        assert np.array_equal(gguf_io.read_tensor(header, tensor.name), gguf_io.read_tensor(one, tensor.name))


def test_a_missing_or_wrong_shard_is_named(tmp_path: Path) -> None:
    first = tiny_models.write_split_llama(tmp_path, n_shards=3)
    second, third = (tmp_path / f"tiny-0000{i}-of-00003.gguf" for i in (2, 3))
    with pytest.raises(ModelError, match="shard 2 of 3, expected the first") as caught:
        read_header(second)
    assert caught.value.hint == f"give {first.name}"
    second.write_bytes(third.read_bytes())
    with pytest.raises(ModelError, match=r"tiny-00002.*split.no, split.count are \(2, 3\), expected \(1, 3\)"):
        read_header(first)
    third.unlink()
    with pytest.raises(ModelError, match=r"missing shard tiny-00003-of-00003\.gguf"):
        read_header(first)
