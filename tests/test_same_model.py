"""Which files may stand in one table: the model's own, pruned or not, and no other's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lwq.gguf_header import read_header
from lwq.gguf_io import read_tensor
from lwq.same_model import difference
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


def test_same_shapes_with_another_norm_are_another_model(base: Path, tmp_path: Path) -> None:
    header = read_header(base)
    norm = read_tensor(header, "output_norm.weight")
    raw = base.read_bytes()
    at = raw.index(norm.astype("<f4").tobytes())
    for factor, is_other in ((1.02, False), (1.5, True)):
        changed = (norm * np.float32(factor)).astype("<f4").tobytes()
        (tmp_path / "other.gguf").write_bytes(raw[:at] + changed + raw[at + len(changed) :])
        assert ("output_norm.weight is 50 % away" in told(base, tmp_path / "other.gguf")) is is_other


def test_one_other_token_is_another_vocabulary(base: Path, tmp_path: Path) -> None:
    raw = base.read_bytes()
    token = next(str(t) for t in _tokens(base) if len(str(t)) > 4 and raw.count(str(t).encode()) == 1)
    swapped = token[:-1] + chr(ord(token[-1]) ^ 1)
    (tmp_path / "other.gguf").write_bytes(raw.replace(token.encode(), swapped.encode()))
    assert f"is {swapped!r}, the base has {token!r}" in told(base, tmp_path / "other.gguf")


def _tokens(path: Path) -> tuple[object, ...]:
    from lwq.gguf_header import read_array

    return read_array(read_header(path), "tokenizer.ggml.tokens")
