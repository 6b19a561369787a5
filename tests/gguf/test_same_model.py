"""Which files may stand in one table: the model's own, pruned or not, and no other's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import quantize

from lwq.gguf.data import RawTensor, read_tensor
from lwq.gguf.header import GgufHeader, read_header
from lwq.gguf.reader import MetaEntry, MetaValue
from lwq.gguf.same_model import difference
from lwq.gguf.write import write_gguf
from tests.tiny_models import write_tiny_gemma3, write_tiny_llama


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("same") / "base.gguf")


def told(base: Path, other: Path) -> str:
    return difference(read_header(base), read_header(other))


def test_the_file_itself_and_one_of_fewer_layers_are_of_the_model(base: Path, tmp_path: Path) -> None:
    assert told(base, base) == ""
    assert told(base, write_tiny_llama(tmp_path / "fewer.gguf", n_layer=3)) == ""


def test_other_architecture_and_more_layers_are_not(base: Path, tmp_path: Path) -> None:
    assert "general.architecture is 'gemma3', the base has 'llama'" in told(
        base, write_tiny_gemma3(tmp_path / "g.gguf")
    )
    assert "5 layers, the base has 4" in told(base, write_tiny_llama(tmp_path / "more.gguf", n_layer=5))


@pytest.mark.parametrize("ggml_type", ["f32", "q8_0", "q4_0"])
def test_the_same_weights_in_another_type_are_the_model(base: Path, tmp_path: Path, ggml_type: str) -> None:
    assert told(base, write_tiny_llama(tmp_path / "typed.gguf", ggml_type=ggml_type)) == ""


@pytest.mark.parametrize("ggml_type", ["f16", "q4_0"])
def test_same_shapes_with_other_weights_are_another_model(base: Path, tmp_path: Path, ggml_type: str) -> None:
    other = write_tiny_llama(tmp_path / "other.gguf", ggml_type=ggml_type, seed=1)
    ours, theirs = (read_tensor(read_header(path), "output_norm.weight").tobytes() for path in (base, other))
    other.write_bytes(other.read_bytes().replace(theirs, ours))
    expected = f"token_embd.weight is 142 % away from the base's, more than {ggml_type.upper()} explains"
    assert told(base, other) == expected


@pytest.mark.parametrize(
    ("name", "stored", "factor", "is_other"),
    [
        ("output_norm.weight", "<f4", 1.004, False),
        ("output_norm.weight", "<f4", 1.02, True),
        ("token_embd.weight", "<f2", 1.004, False),
        ("token_embd.weight", "<f2", 1.02, True),
    ],
)
def test_a_little_training_shows_where_the_type_can_hold_it(
    base: Path, tmp_path: Path, name: str, stored: str, factor: float, is_other: bool
) -> None:
    values = read_tensor(read_header(base), name)
    raw = base.read_bytes()
    at = raw.index(values.astype(stored).tobytes())
    changed = (values * np.float32(factor)).astype(stored).tobytes()
    (tmp_path / "other.gguf").write_bytes(raw[:at] + changed + raw[at + len(changed) :])
    expected = f"{name} is 2 % away from the base's, more than {'F16' if stored == '<f2' else 'F32'} explains"
    assert told(base, tmp_path / "other.gguf") == (expected if is_other else "")


def test_one_other_token_is_another_vocabulary(base: Path, tmp_path: Path) -> None:
    raw = base.read_bytes()
    token = next(str(t) for t in _tokens(base) if len(str(t)) > 4 and raw.count(str(t).encode()) == 1)
    swapped = token[:-1] + chr(ord(token[-1]) ^ 1)
    (tmp_path / "other.gguf").write_bytes(raw.replace(token.encode(), swapped.encode()))
    assert f"is {swapped!r}, the base has {token!r}" in told(base, tmp_path / "other.gguf")


def _tokens(path: Path) -> tuple[object, ...]:
    from lwq.gguf.header import read_array

    return read_array(read_header(path), "tokenizer.ggml.tokens")


@pytest.mark.parametrize(
    "key", ["tokenizer.ggml.bos_token_id", "llama.feed_forward_length", "llama.attention.head_count_kv"]
)
def test_other_numbers_of_tokenizer_and_layers_are_another_model(base: Path, tmp_path: Path, key: str) -> None:
    raw, name = base.read_bytes(), key.encode()
    at = raw.index(name + (4).to_bytes(4, "little")) + len(name) + 4  # a uint32
    (tmp_path / "other.gguf").write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
    assert f"{key} is " in told(base, tmp_path / "other.gguf")


def stating(header: GgufHeader, **values: MetaValue | None) -> GgufHeader:
    """The header with other values under some keys (``__`` for a dot), or without them."""
    stated = {key.replace("__", "."): value for key, value in values.items()}
    entries = [e for e in header.entries if e.key not in stated]
    added = [MetaEntry(key=k, value_type="", value=v, offset=0, n_bytes=0) for k, v in stated.items() if v is not None]
    return replace(header, entries=(*entries, *added))


@pytest.mark.parametrize("key", ["tokenizer.ggml.model", "tokenizer.ggml.pre"])
def test_another_tokenizer_is_told_by_its_name(base: Path, key: str) -> None:
    header = stating(read_header(base), **{key.replace(".", "__"): "one"})
    other = stating(header, **{key.replace(".", "__"): "two"})
    assert difference(header, other) == f"{key} is 'two', the base has 'one'"
    lacking = stating(header, **{key.replace(".", "__"): None})
    assert difference(header, lacking) == f"{key} is '', the base has 'one'"


@pytest.mark.parametrize("key", ["embedding_length", "attention.head_count", "expert_count"])
def test_sizes_are_compared_even_where_one_file_does_not_say(base: Path, key: str) -> None:
    header = read_header(base)
    had = header.number(f"llama.{key}")
    assert difference(header, stating(header, **{f"llama.{key}": 7})) == f"llama.{key} is 7, the base has {had}"
    assert difference(stating(header, **{f"llama.{key}": 7}), stating(header, **{f"llama.{key}": None})) == (
        f"llama.{key} is None, the base has 7"
    )


@pytest.mark.parametrize(
    "key",
    ["tokenizer.ggml.bos_token_id", "tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_space_prefix",
     "llama.feed_forward_length", "llama.attention.head_count_kv", "llama.attention.key_length"],
)  # fmt: skip
def test_what_older_files_lack_is_compared_where_both_say(base: Path, key: str) -> None:
    one, two, none = (stating(read_header(base), **{key: value}) for value in (1, 2, None))
    assert difference(one, two) == f"{key} is 2, the base has 1"
    assert difference(one, none) == difference(none, two) == ""
    assert difference(one, stating(one, **{key: (1, 2)})) == ""  # a number for each layer


def test_vocabularies_of_another_size_are_told_before_their_words(base: Path) -> None:
    header = read_header(base)
    other = stating(header, tokenizer__ggml__tokens=("a", "b"))
    assert difference(header, other) == "vocabulary of 2 tokens, the base has 320"


def test_merges_are_compared_where_both_files_have_them(base: Path) -> None:
    plain = read_header(base)
    merges = ("a b", "c d", "e f")
    header = stating(plain, tokenizer__ggml__merges=merges)
    assert difference(header, header) == difference(header, plain) == difference(plain, header) == ""
    swapped = stating(plain, tokenizer__ggml__merges=("a b", "c x", "e y"))
    assert difference(header, swapped) == "merge 1 is 'c x', the base has 'c d'"
    longer = stating(plain, tokenizer__ggml__merges=merges * 500)
    assert difference(header, longer) == "1,500 merges, the base has 3"
    assert difference(longer, header) == "3 merges, the base has 1,500"


def test_weights_of_another_shape_are_told_and_those_that_a_file_lacks_are_not(base: Path) -> None:
    header = read_header(base)

    def with_norm(**change: object) -> GgufHeader:
        kept = [t for t in header.tensors if t.name != "output_norm.weight"]
        own = [replace(t, **change) for t in header.tensors if t.name == "output_norm.weight"] if change else []
        return replace(header, shards=(replace(header.shards[0], tensors=(*own, *kept)),))

    assert difference(header, with_norm(ne=(128, 2))) == "output_norm.weight is [128, 2], the base has [256]"
    assert difference(header, with_norm()) == difference(with_norm(), header) == ""


def test_weights_may_be_as_far_away_as_their_types_explain(tmp_path: Path) -> None:
    """F32 and F16 explain nothing but a hundredth; Q4_0, of 4.5 bits, 5 · 2^-4.5 = 0.22 more; from 1 on, none does."""
    values = np.random.default_rng(1).standard_normal((4, 64), dtype=np.float32)
    noise = np.random.default_rng(2).standard_normal((4, 64), dtype=np.float32)
    noise *= np.linalg.norm(values) / np.linalg.norm(noise)

    def written(name: str, changed: np.ndarray, ggml_type: str = "f32") -> GgufHeader:
        raw = quantize(changed.astype(np.float32), GGMLQuantizationType[ggml_type.upper()])
        tensor = RawTensor(ggml_type=ggml_type, ne=(64, 4), data=raw.view(np.uint8).reshape(4, -1))
        write_gguf(tmp_path / f"{name}.gguf", {"general.architecture": "x"}, {"token_embd.weight": tensor})
        return read_header(tmp_path / f"{name}.gguf")

    source = written("base", values)
    for far, ggml_type, told in (
        (0.009, "f32", ""), (0.012, "f32", "1 % away from the base's, more than F32 explains"), (0.009, "f16", ""),
        (0.2, "q4_0", ""), (0.3, "q4_0", "% away from the base's, more than Q4_0 explains"),
    ):  # fmt: skip
        found = difference(source, written("other", values + far * noise, ggml_type))
        assert found.endswith(told)
        assert bool(found) == bool(told)
    coarse = written("coarse", values, "q4_0")
    assert difference(coarse, written("other", values + 0.3 * noise, "q4_0")) == ""  # both explain a part
    assert difference(coarse, written("other", values + 1.5 * noise, "q4_0"))


def test_rows_that_cannot_be_read_as_floats_are_not_compared(tmp_path: Path) -> None:
    for name, fill in (("a", 0), ("b", 9)):
        raw = RawTensor(ggml_type="q8_1", ne=(32, 4), data=np.full((4, 36), fill, np.uint8))
        write_gguf(tmp_path / f"{name}.gguf", {"general.architecture": "x"}, {"token_embd.weight": raw})
    assert difference(read_header(tmp_path / "a.gguf"), read_header(tmp_path / "b.gguf")) == ""


def test_base_of_zeros_is_compared_without_a_division_by_zero(tmp_path: Path) -> None:
    for name, fill in (("a", 0), ("b", 0), ("c", 1)):
        write_gguf(
            tmp_path / f"{name}.gguf",
            {"general.architecture": "x"},
            {"token_embd.weight": np.full((4, 32), fill, np.float32)},
        )
    a, b, c = (read_header(tmp_path / f"{name}.gguf") for name in "abc")
    assert difference(a, b) == ""
    assert difference(a, c).startswith("token_embd.weight is ")
