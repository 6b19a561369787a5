"""The memory of a context, told without making one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lwq.engine.bindings import listening, load_bindings
from lwq.engine.contexts import context_memory
from lwq.errors import ModelError
from lwq.gguf.header import read_header
from lwq.llama.toolchain import Toolchain
from lwq.llama.transcripts import parse_buffers
from tests.tiny_models import write_tiny_gemma3, write_tiny_lfm2, write_tiny_llama

pytestmark = pytest.mark.tools


def allocated(toolchain: Toolchain, path: Path, n_ctx: int) -> tuple[int, int]:
    """What a real context of the loaded model says of its buffers."""
    llama = load_bindings(toolchain)
    parameters, options = llama.llama_model_default_params(), llama.llama_context_default_params()
    parameters.n_gpu_layers, options.n_ctx = 0, n_ctx
    model = llama.llama_model_load_from_file(str(path).encode(), parameters)
    with listening() as lines:
        context = llama.llama_init_from_model(model, options)
    llama.llama_free(context)
    llama.llama_model_free(model)
    return parse_buffers("".join(lines))


@pytest.mark.parametrize("write", [write_tiny_llama, write_tiny_gemma3, write_tiny_lfm2])
def test_it_is_what_a_real_context_takes(write: Callable[[Path], Path], toolchain: Toolchain, tmp_path: Path) -> None:
    path = write(tmp_path / "tiny.gguf")
    found = context_memory(toolchain, path, (256, 512, 1 << 30))
    trained = read_header(path).number(f"{read_header(path).architecture}.context_length")
    assert [memory.n_ctx for memory in found] == sorted({n for n in (256, 512) if n < trained} | {trained})
    for memory in found:
        assert (memory.cache_bytes, memory.compute_bytes) == allocated(toolchain, path, memory.n_ctx)


def test_keys_and_values_take_two_bytes_each(toolchain: Toolchain, tmp_path: Path) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    header = read_header(path)
    width = next(t.ne[1] for t in header.tensors if t.name == "blk.0.attn_k.weight")
    (memory,) = (m for m in context_memory(toolchain, path, (256,)) if m.n_ctx == 256)
    assert memory.cache_bytes == pytest.approx(2 * 2 * 256 * width * header.n_layer, abs=0.005 * 2**20)


def test_a_file_that_is_no_model_is_named(toolchain: Toolchain, tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + bytes(20))
    with pytest.raises(ModelError, match=r"broken\.gguf: llama\.cpp cannot load it"):
        context_memory(toolchain, path, (256,))
