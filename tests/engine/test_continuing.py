"""How a model goes on from a text."""

from __future__ import annotations

from pathlib import Path

import pytest

from lwq.engine.continuing import agreed, beginnings, continuations
from lwq.errors import ModelError
from lwq.llama import tools
from lwq.llama.requests import QuantizeRequest
from lwq.llama.toolchain import Toolchain
from tests.tiny_models import write_tiny_llama, write_tiny_text

pytestmark = pytest.mark.tools


def test_agreement_ends_where_the_two_differ() -> None:
    assert agreed((1, 2, 3, 4), (1, 2, 9, 4)) == 2
    assert agreed((1, 2), (1, 2)) == 2
    assert agreed((5, 2), (1, 2)) == 0


def test_a_model_goes_on_alike_each_time_and_a_coarse_copy_otherwise(toolchain: Toolchain, tmp_path: Path) -> None:
    base = write_tiny_llama(tmp_path / "base.gguf")
    tools.quantize(
        toolchain, QuantizeRequest(model="base.gguf", output="q.gguf", ftype="Q4_0"), cwd=tmp_path, threads=2
    )
    text = write_tiny_text(tmp_path / "text.txt", n_words=500).read_text(encoding="utf-8")
    prompts = beginnings(toolchain, base, text, 6, 24)
    assert len(prompts) == len(set(prompts)) == 6
    first, second = (continuations(toolchain, base, prompts, 12, n_threads=n) for n in (1, 2))
    assert first == second
    assert {len(tokens) for tokens in first} == {12}
    longer = continuations(toolchain, base, prompts, 16, n_threads=1)
    assert tuple(tokens[:12] for tokens in longer) == first
    once = tuple((*prompt, *tokens[:4]) for prompt, tokens in zip(prompts, first, strict=True))
    assert tuple(t[:8] for t in continuations(toolchain, base, once, 8, n_threads=1)) == tuple(t[4:] for t in first)
    coarse = continuations(toolchain, tmp_path / "q.gguf", prompts, 12, n_threads=1)
    assert any(agreed(a, b) < 12 for a, b in zip(first, coarse, strict=True))


def test_a_text_shorter_than_a_prompt_is_told(toolchain: Toolchain, tmp_path: Path) -> None:
    base = write_tiny_llama(tmp_path / "base.gguf")
    with pytest.raises(ModelError, match="tokens, 1000 are needed"):
        beginnings(toolchain, base, "too short", 4, 1000)
