"""The header is what the gguf package reads; what is damaged or no GGUF is refused, and each fault is named."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lwq.errors import ModelError
from lwq.gguf import data as gguf_io
from lwq.gguf.header import (
    is_named_gguf,
    read_array,
    read_header,
    read_one,
    shard_paths,
    whole_name,
    without_extension,
)
from lwq.gguf.reader import BigArray, shown
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


def test_a_header_says_how_much_there_is_of_what(model: Path) -> None:
    header = read_header(model)
    assert (header.n_layer_all, header.n_layer_nextn, header.n_layer, header.tensors_nextn) == (2, 0, 2, ())
    assert (header.n_kv, header.n_vocab) == (len(header.metadata), tiny_models.N_VOCAB) == (len(header.kv_bytes), 320)
    assert header.n_params == sum(int(np.prod(t.shape)) for t in GGUFReader(model).tensors)
    assert header.text("general.name") == "tiny"
    assert (header.text("no.key"), header.text("no.key", "x"), header.text("llama.block_count", "x")) == ("", "x", "x")
    assert (header.number("llama.block_count"), header.number("general.name"), header.number("no.key")) == (
        2,
        None,
        None,
    )
    shard, tensor = header.find("blk.1.ffn_up.weight")
    assert (shard.path, tensor.name, tensor.layer) == (model, "blk.1.ffn_up.weight", 1)
    with pytest.raises(ModelError, match=f"no tensor 'x' among {len(header.tensors)}") as caught:
        header.find("x")
    assert caught.value.hint == "`lwq inspect tiny.gguf` lists the tensors"


def test_blocks_that_predict_further_tokens_are_no_layers(tmp_path: Path) -> None:
    header = read_header(tiny_models.write_tiny_glm4(tmp_path / "mtp.gguf"))
    assert (header.n_layer_all, header.n_layer_nextn, header.n_layer) == (5, 1, 4)
    assert {t.layer for t in header.tensors_nextn} == {4}
    assert len(header.tensors_nextn) == sum(t.name.startswith("blk.4.") for t in header.tensors)
    entries = tuple(
        replace(e, value={"glm4.nextn_predict_layers": n}.get(e.key, e.value)) for n in (9,) for e in header.entries
    )
    assert (replace(header, entries=entries).n_layer_nextn, replace(header, entries=entries).tensors_nextn) == (5, ())


def test_what_a_file_without_a_model_does_not_say_is_nothing(tmp_path: Path) -> None:
    write_gguf(tmp_path / "bare.gguf", {"flag": True, "words": ("a", "b")}, {})
    header = read_header(tmp_path / "bare.gguf")
    assert (header.architecture, header.n_layer, header.n_vocab, header.n_params) == ("", 0, 0, 0)
    assert header.number("flag") is None
    write_gguf(tmp_path / "few.gguf", {"tokenizer.ggml.tokens": ("a", "b")}, {})
    assert read_header(tmp_path / "few.gguf").n_vocab == 2


@pytest.mark.parametrize("items", [[1, -2, 3], [0.5, 1.5], [True, False], ["a", "é"]])
def test_arrays_of_every_kind_are_read_whole_however_long(items: list[object], tmp_path: Path) -> None:
    write_gguf(tmp_path / "a.gguf", {"short": items, "long": items * 3000, "n": 1}, {})
    header = read_header(tmp_path / "a.gguf")
    assert isinstance(header.metadata["long"], BigArray)
    assert read_array(header, "short") == tuple(items)
    assert read_array(header, "long") == tuple(items * 3000)
    for key in ("n", "none"):
        with pytest.raises(ModelError, match=rf"a.gguf: {key} is no array of the metadata"):
            read_array(header, key)


def test_arrays_are_left_in_the_file_from_a_number_and_a_size_on(tmp_path: Path) -> None:
    kv = {"many": [1] * 2048, "more": [1] * 2049, "texts": ["x" * 1000] * 1000, "large": ["x" * 1100] * 1000}
    write_gguf(tmp_path / "a.gguf", kv, {})
    found = read_header(tmp_path / "a.gguf").metadata
    assert {k: isinstance(v, BigArray) for k, v in found.items()} == {
        "many": False, "more": True, "texts": False, "large": True,
    }  # fmt: skip


def test_what_is_no_file_is_told_as_what_it_is(tmp_path: Path) -> None:
    for path, said in (
        (Path("/dev/null"), "/dev/null: not a regular file, expected a GGUF"),
        (tmp_path / ("x" * 300), "cannot be looked at: File name too long"),
        (tmp_path / "a\0b", "cannot be looked at: .*null"),
        (tmp_path / "missing.gguf", "missing.gguf: no such file, expected a GGUF"),
        (tmp_path, "a folder, expected a GGUF file"),
    ):
        with pytest.raises(ModelError, match=said) as caught:
            read_header(path)
        assert caught.value.hint


def test_names_lose_their_ending_and_their_shard() -> None:
    assert [is_named_gguf(n) for n in ("a.gguf", "A.GGUF", "a.gguf.txt", "gguf")] == [True, True, False, False]
    assert [without_extension(n) for n in ("a.gguf", "A.GGUF", "a.bin")] == ["a", "A", "a.bin"]
    names = ("m-00001-of-00003.gguf", "m.gguf", "m-1-of-3.gguf", "m")
    assert [whole_name(n) for n in names] == ["m", "m", "m-1-of-3", "m"]
    folder = Path("folder")
    assert shard_paths(folder / "m-00002-of-00003.gguf") == tuple(
        folder / f"m-0000{i}-of-00003.gguf" for i in (1, 2, 3)
    )
    assert shard_paths(folder / "m.gguf") == (folder / "m.gguf",)


def test_of_many_missing_shards_three_are_named(tmp_path: Path) -> None:
    first = tiny_models.write_split_llama(tmp_path, n_shards=5)
    others = [tmp_path / f"tiny-0000{i}-of-00005.gguf" for i in (2, 3, 4, 5)]
    listed = ", ".join(other.name for other in others[:3])
    others[0].unlink()
    others[1].unlink()
    others[2].unlink()
    with pytest.raises(ModelError) as caught:
        read_header(first)
    assert caught.value.message == f"{first}: missing shard {listed}"
    others[3].unlink()
    with pytest.raises(ModelError) as caught:
        read_header(first)
    assert caught.value.message == f"{first}: missing shard {listed}, …"
    assert caught.value.hint == f"fetch what is missing into {tmp_path}"


def test_a_shard_by_itself_is_read_as_one_file(tmp_path: Path) -> None:
    first = tiny_models.write_split_llama(tmp_path, n_shards=3)
    one, whole = read_one(first), read_header(first)
    assert (len(one.shards), one.tensors) == (1, whole.shards[0].tensors)
    assert whole.file_bytes == sum(p.stat().st_size for p in shard_paths(first))
    assert (whole.version, whole.alignment, whole.entries) == (one.version, one.alignment, one.entries)
    assert whole.data_offset == one.data_offset


def test_shards_under_another_name_are_asked_for_by_their_own(tmp_path: Path) -> None:
    first = tiny_models.write_split_llama(tmp_path, n_shards=3)
    other = first.rename(tmp_path / "model.gguf")
    with pytest.raises(ModelError, match=r"has split.count = 3, expected a name that ends in -00001-of-00003.gguf"):
        read_header(other)


@pytest.mark.parametrize("alignment", [32, 64])
@pytest.mark.parametrize("is_padded", [True, False])
def test_shards_joined_by_cat_are_told(is_padded: bool, alignment: int, tmp_path: Path) -> None:
    """The last tensor's data may lack its padding."""
    tensors = {"a": np.ones(3, np.float32)}  # 12 bytes
    split = {"split.no": 0, "split.count": 2, "split.tensors.count": 2, "general.alignment": alignment}
    write_gguf(tmp_path / "one.gguf", split, tensors)
    write_gguf(tmp_path / "two.gguf", {**split, "split.no": 1}, {"b": np.ones(3, np.float32)})
    one, two = ((tmp_path / f"{n}.gguf").read_bytes() for n in ("one", "two"))
    one = one if is_padded else one[: 12 - alignment]
    (tmp_path / "both.gguf").write_bytes(one + two)
    with pytest.raises(ModelError, match=f"a second GGUF follows at byte {len(one)}: its shards were joined by `cat`"):
        read_header(tmp_path / "both.gguf")


def test_keys_of_a_split_that_were_left_over_in_a_whole_file_are_none(tmp_path: Path) -> None:
    split = {"split.no": 0, "split.count": 2, "split.tensors.count": 1}
    write_gguf(tmp_path / "whole.gguf", split, {"a": np.ones(3, np.float32)})
    assert len(read_header(tmp_path / "whole.gguf").shards) == 1
    write_gguf(tmp_path / "one.gguf", {"split.count": 0}, {"a": np.ones(3, np.float32)})
    assert len(read_header(tmp_path / "one.gguf").tensors) == 1


def test_values_are_shown_in_a_line() -> None:
    assert shown("a\nb") == "'a\\nb'"
    assert shown("x" * 78) == f"'{'x' * 78}'"
    assert shown("x" * 200) == f"'{'x' * 79}…"
    assert shown(tuple(range(500))) == f"{str(tuple(range(80)))[:80]}…"
    assert shown(b"x" * 200) == f"b'{'x' * 78}…"
    assert shown(10**100) == f"1{'0' * 79}…"
