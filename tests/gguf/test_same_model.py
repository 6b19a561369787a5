"""Which files may stand in one table: the model's own, pruned or not, and no other's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lwq.gguf.data import read_tensor
from lwq.gguf.header import read_header
from lwq.gguf.same_model import difference
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
