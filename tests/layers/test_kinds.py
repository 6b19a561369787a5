"""What each layer is, is what llama.cpp makes of it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from lwq.layers.kinds import KINDS, Hparams
from tests.layers.test_pruning import WINDOW, of


@pytest.mark.parametrize(
    ("arch", "values", "kinds"),
    [
        ("gemma2", {}, "wfwfwf"),
        ("gpt-oss", {}, "wfwfwf"),
        ("cohere2", {}, "wwwfwww"),
        ("cohere2", {"attention__sliding_window_pattern": 3}, "wwfwwf"),
        ("gemma3", WINDOW, "wwwwwfw"),
        ("gemma3", {}, "......."),
        ("olmo2", WINDOW, "wwwfw"),
        ("laguna", WINDOW, "fwwwfw"),
        ("spark2_5", {"attention__sliding_window_pattern": (True, False, True)}, "wfw"),
        ("exaone4", {}, "." * 30),
        ("exaone4", {}, "wwwf" * 16),
    ],
)
def test_windows_lie_where_llama_cpp_has_them(arch: str, values: Mapping[str, object], kinds: str) -> None:
    """Source: src/llama-hparams.cpp ``set_swa_pattern`` with the period of each src/models/*.cpp, by hand."""
    h = Hparams(architecture=arch, n_layer=len(kinds), metadata=of(arch, **values))
    letters = {"window": "w", "full": "f", "no window": "."}
    assert "".join(letters[str(label)] for label in KINDS[arch][0].labels(h)) == kinds
