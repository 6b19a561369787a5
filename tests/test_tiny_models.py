"""The tiny models are what the other tests take them for: the real tools load, measure and quantize them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lwq.gguf.header import read_header
from lwq.llama.process import Completed, run_tool
from lwq.llama.toolchain import Toolchain
from tests import tiny_models

Writer = Callable[[Path], Path]
WRITERS: dict[str, Writer] = {
    "llama": tiny_models.write_tiny_llama,
    "untied": lambda path: tiny_models.write_tiny_llama(path, tied=False),
    "bf16": lambda path: tiny_models.write_tiny_llama(path, ggml_type="bf16"),
    "q8_0": lambda path: tiny_models.write_tiny_llama(path, ggml_type="q8_0"),
    "rows96": lambda path: tiny_models.write_tiny_llama(path, n_embd=96, n_ff=80),
    "moe": tiny_models.write_tiny_moe,
    "phi3": tiny_models.write_tiny_phi3,
    "gemma3": tiny_models.write_tiny_gemma3,
    "deci": tiny_models.write_tiny_deci,
    "split": lambda path: tiny_models.write_split_llama(path.parent),
}


def _run(toolchain: Toolchain, folder: Path, program: str, *arguments: str) -> Completed:
    return run_tool((str(toolchain.program(program)), *arguments), cwd=folder)


@pytest.mark.tools
@pytest.mark.parametrize("name", WRITERS)
def test_the_tools_run_on_every_tiny_model(name: str, toolchain: Toolchain, tmp_path: Path) -> None:
    model = WRITERS[name](tmp_path / "tiny.gguf").name
    tiny_models.write_tiny_text(tmp_path / "text.txt", n_words=200)
    text = ("-f", "text.txt", "-c", "64", "--chunks", "2", "-t", "2")
    _run(toolchain, tmp_path, "llama-imatrix", "-m", model, *text, "-o", "tiny.imatrix.gguf")
    assert read_header(tmp_path / "tiny.imatrix.gguf").number("imatrix.chunk_count") == 2
    options = ("--allow-requantize", "--imatrix", "tiny.imatrix.gguf")
    _run(toolchain, tmp_path, "llama-quantize", *options, model, "out.gguf", "Q4_K_M", "2")
    assert read_header(tmp_path / "out.gguf").number("general.file_type") == 15
    bench = _run(toolchain, tmp_path, "llama-bench", "-m", "out.gguf", "-p", "8", "-n", "4", "-r", "2", "-o", "json")
    assert '"avg_ts"' in bench.stdout


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    first, again, other = (
        tiny_models.write_tiny_llama(tmp_path / f"{name}.gguf", n_layer=1, seed=seed).read_bytes()
        for name, seed in (("first", 3), ("again", 3), ("other", 4))
    )
    assert first == again
    assert first != other
