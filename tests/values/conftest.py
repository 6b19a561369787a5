"""The real libggml."""

from __future__ import annotations

import pytest

from lwq.engine.bindings import load_bindings
from lwq.engine.ggml import Ggml
from lwq.llama.toolchain import Toolchain


@pytest.fixture(scope="session")
def ggml(toolchain: Toolchain) -> Ggml:
    return Ggml(load_bindings(toolchain).llama_cpp._lib)
