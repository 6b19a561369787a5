"""Bindings and libraries are of one commit, and a written model proves that it generates."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import lwq
from lwq.engine.generation import check_generates
from lwq.errors import LwqError, ModelError, ToolchainError
from lwq.llama.process import run_tool
from lwq.llama.toolchain import Toolchain
from tests import tiny_models

REPORT = """
import sys
from pathlib import Path
from lwq.engine.generation import check_generates
from lwq.llama.toolchain import find
print(check_generates(find(), Path(sys.argv[1])))
print([line.split()[-1] for line in open("/proc/self/maps") if "libllama.so" in line][0])
"""


def _in_new_process(folder: Path, model: Path) -> list[str]:
    """stdout of a process of its own: one process works with one llama.cpp."""
    environment = {"PYTHONPATH": str(Path(lwq.__file__).parent.parent)}
    return run_tool((sys.executable, "-c", REPORT, str(model)), cwd=folder, env=environment).stdout.splitlines()


@pytest.mark.tools
@pytest.mark.parametrize("write", [tiny_models.write_tiny_llama, tiny_models.write_tiny_moe])
def test_a_sound_model_generates_the_same_tokens_each_time(
    write: Callable[[Path], Path], toolchain: Toolchain, tools_home: Path, tmp_path: Path
) -> None:
    model = write(tmp_path / "tiny.gguf")
    tokens, library = _in_new_process(tmp_path, model)
    assert tokens.count(",") == 7
    assert Path(library).resolve().parent == toolchain.lib_dir.resolve()
    assert _in_new_process(tmp_path, model)[0] == tokens


@pytest.mark.tools
def test_a_model_that_does_not_load_is_named(toolchain: Toolchain, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ModelError, match=r"broken\.gguf"):
        check_generates(toolchain, broken)


@pytest.mark.tools
def test_a_model_without_finite_logits_is_refused(toolchain: Toolchain, tmp_path: Path) -> None:
    model = tiny_models.write_tiny_llama(tmp_path / "nan.gguf", n_layer=1, ggml_type="f32")
    data = bytearray(model.read_bytes())
    data[-1024:] = b"\xff\xff\xff\x7f" * 256  # the last row of the last ffn_down: not a number
    model.write_bytes(data)
    with pytest.raises(ModelError, match="not finite"):
        check_generates(toolchain, model)


@pytest.mark.tools
@pytest.mark.parametrize("commit", ["unknown", "f" * 40])
def test_libraries_of_another_commit_are_refused(commit: str, toolchain: Toolchain, tmp_path: Path) -> None:
    with pytest.raises(ToolchainError) as caught:
        check_generates(replace(toolchain, commit=commit), tmp_path / "any.gguf")
    assert isinstance(caught.value, LwqError)
    assert commit in caught.value.message
    assert "lwq toolchain build" in caught.value.hint


@pytest.mark.tools
def test_a_libggml_from_elsewhere_is_refused(toolchain: Toolchain, tools_home: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for library in toolchain.lib_dir.glob("libggml*.so*"):
        (elsewhere / library.name).write_bytes(library.read_bytes())
    environment = {"LD_LIBRARY_PATH": str(elsewhere), "PYTHONPATH": str(Path(lwq.__file__).parent.parent)}
    argv = (sys.executable, "-c", REPORT, str(tmp_path / "any.gguf"))
    done = run_tool(argv, cwd=tmp_path, env=environment, check=False)
    assert done.returncode != 0
    assert re.search(rf"ToolchainError: libggml\S* was loaded from {elsewhere}, not from ", done.stderr)
