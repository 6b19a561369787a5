"""An importance matrix is read as it was written, experts without a token are told, and what is none is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter

from lwq.errors import FileError
from lwq.gguf.imatrix import read_imatrix, tokens_of_experts, unreached_experts
from lwq.gguf.statistics import ImatrixEntry
from tests.tiny_models import write_tiny_imatrix, write_tiny_llama


@pytest.mark.parametrize("content", [b"", b"\x01\x00\x00\x00legacy", b"GGUF"])
def test_what_is_no_imatrix_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "imatrix.dat"
    path.write_bytes(content)
    with pytest.raises(FileError) as caught:
        read_imatrix(path)
    assert ("--in-file OLD -o NEW.gguf" in caught.value.hint) is (b"legacy" in content)


def test_one_that_is_not_there_is_told_as_that(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such file") as caught:
        read_imatrix(tmp_path / "none.gguf")
    assert "spelling" in caught.value.hint


def test_model_is_no_imatrix(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no importance matrix"):
        read_imatrix(write_tiny_llama(tmp_path / "m.gguf"))


def test_sums_and_counts_are_read_by_name_with_where_they_come_from(tmp_path: Path) -> None:
    sums = {"blk.1.b.weight": np.array([[1.0, 2]]), "blk.0.a.weight": np.array([[3.0, 4, 5], [6, 7, 8]])}
    found = read_imatrix(write_tiny_imatrix(tmp_path / "i.gguf", sums, n_chunks=3))
    assert (found.datasets, found.n_chunks, found.chunk_size) == (("calibration.txt",), 3, 64)
    assert [e.name for e in found.entries] == ["blk.0.a.weight", "blk.1.b.weight"]
    for one in found.entries:
        assert one.in_sum2.tolist() == sums[one.name].tolist()
        assert (one.in_sum2.dtype, one.counts.dtype) == (np.float32, np.int64)
        assert one.counts.tolist() == [192] * len(sums[one.name])


def bare(path: Path, *counts: float) -> Path:
    """Sums 1 to 4 of one tensor, and how often it was counted, without any key."""
    writer = GGUFWriter(path, arch="")
    writer.kv_data[0].clear()
    writer.add_tensor("x.in_sum2", np.array([[1.0, 2, 3, 4]], np.float32))
    writer.add_tensor("x.counts", np.array(counts, np.float32).reshape(-1, 1))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_counts_are_numbers_that_64_bits_hold(tmp_path: Path) -> None:
    assert read_imatrix(bare(tmp_path / "a.gguf", 2.0**61)).entries[0].counts.tolist() == [2**61]
    with pytest.raises(FileError, match="x was counted 4.61169e\\+18 times"):
        read_imatrix(bare(tmp_path / "b.gguf", 2.0**62))


def test_of_what_an_imatrix_does_not_say_there_is_none(tmp_path: Path) -> None:
    found = read_imatrix(bare(tmp_path / "bare.gguf", 2.6, 0.4))
    assert (found.datasets, found.n_chunks, found.chunk_size) == ((), 0, 0)
    assert found.entries[0].in_sum2.tolist() == [[1, 2], [3, 4]]
    assert found.entries[0].counts.tolist() == [3, 0]  # whole numbers


def experts(name: str, *counts: int) -> ImatrixEntry:
    return ImatrixEntry(name=name, in_sum2=np.ones((len(counts), 2), np.float32), counts=np.array(counts, np.int64))


def test_an_expert_saw_what_the_tensor_of_its_layer_with_the_least_saw() -> None:
    found = tokens_of_experts(
        [
            experts("blk.1.ffn_up_exps.weight", 5, 0, 7),
            experts("blk.1.ffn_down_exps.weight", 4, 1, 9),
            experts("blk.0.ffn_up_exps.weight", 1, 2),
            experts("blk.0.other_exps.weight", 0, 0, 0),
            experts("blk.2.ffn_up.weight", 0),
            experts("x_exps.weight", 0, 0),
        ]
    )
    assert {layer: seen.tolist() for layer, seen in found.items()} == {1: [4, 0, 7], 0: [1, 2]}


def test_experts_that_no_token_reached_are_told_by_layer() -> None:
    assert unreached_experts([]) == unreached_experts([experts("blk.0.ffn_up_exps.weight", 1, 2)]) == ""
    two = [
        experts("blk.11.a_exps.weight", 0, 1, 0, 5),
        experts("blk.2.a_exps.weight", 3, 0, 1, 1),
        experts("blk.3.a_exps.weight", 1, 1, 1, 1),
    ]
    assert unreached_experts(two) == (
        "Calibration never reached 3 of 12 experts (25.0%):"
        " layer 2: expert 1 (1 of 4); layer 11: experts 0, 2 (2 of 4)."
    )
    many = [experts(f"blk.{i}.a_exps.weight", *[0] * n, *[1] * (8 - n)) for i, n in enumerate((6, 7, 1, 1, 1, 1))]
    assert unreached_experts(many) == (
        "Calibration never reached 17 of 48 experts (35.4%): layer 0: experts 0, 1, 2, 3, 4, 5 (6 of 8); layer 1:"
        " experts 0, 1, 2, 3, 4, 5, … (7 of 8); layer 2: expert 0 (1 of 8); layer 3: expert 0 (1 of 8); and others in 2"
        " layers."
    )
    assert unreached_experts(many[:4]).endswith("layer 3: expert 0 (1 of 8).")
