"""A text's tokens are all of them, however many a byte becomes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from lwq.engine.vocabulary import Vocabulary, tokens_of
from lwq.errors import ModelError
from lwq.llama.toolchain import Toolchain
from tests.engine.test_engine import opened
from tests.tiny_models import write_tiny_llama

pytestmark = pytest.mark.tools


def without_a_space(path: Path) -> Path:
    """A tiny model in whose vocabulary the mark of a space is no token: three bytes stand for it."""
    whole = write_tiny_llama(path).read_bytes()
    mark = "\u2581".encode()
    path.write_bytes(whole.replace(len(mark).to_bytes(8, "little") + mark, len(mark).to_bytes(8, "little") + b"~~~"))
    return path


def test_a_text_of_more_tokens_than_bytes_is_whole(toolchain: Toolchain, tmp_path: Path) -> None:
    model, text = without_a_space(tmp_path / "tiny.gguf"), "a" + " " * 200
    with Vocabulary(toolchain, model) as vocabulary:
        tokens = vocabulary.tokens(text)
    assert len(tokens) > 3 * 200
    with opened(toolchain, model) as engine:
        windows = engine.cut(text)
    n_ctx = windows.shape[1]
    assert windows[:, 1:].tolist() == [list(tokens[i * n_ctx + 1 : (i + 1) * n_ctx]) for i in range(len(windows))]
    assert len(windows) == len(tokens) // n_ctx


def test_a_text_whose_tokens_cannot_be_counted_is_refused() -> None:
    """Source: include/llama.h, ``llama_tokenize``: INT32_MIN on overflow."""
    llama = SimpleNamespace(llama_tokenize=lambda *_: -(1 << 31))
    with pytest.raises(ModelError, match="a text of 4 bytes: llama.cpp cannot count its tokens"):
        tokens_of(llama, None, "word")
