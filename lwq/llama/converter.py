"""llama.cpp's own Hugging Face converter, run in an environment of its own made on demand."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from lwq.errors import FileError, ModelError, ToolError
from lwq.llama.process import run_tool
from lwq.llama.requests import Ran
from lwq.llama.source_tree import fill_source
from lwq.llama.toolchain import PIN, home, source_folder
from lwq.store.files import lock, os_errors, sha256_file, write_atomic

SCRIPT = "convert_hf_to_gguf.py"


def hf_to_gguf(folder: str, output: str, *, cwd: Path) -> Ran:
    """Writes ``cwd/output`` from the safetensors folder ``cwd/folder``, in the types it is stored in.

    Raises:
        ModelError: the converter does not know the model, or it is incomplete.
    """
    script = fill_source(source_folder(), PIN, scratch=home() / "src") / SCRIPT
    arguments = (folder, "--outfile", output, "--outtype", "auto")
    try:
        done = run_tool((str(converter_python(script)), str(script), *arguments), cwd=cwd)
    except ToolError as error:
        hint = "the folder needs config.json, the tokenizer and all safetensors of an architecture llama.cpp knows"
        raise ModelError(f"{folder}: {error.message}", hint=hint) from None
    if not (cwd / output).is_file():
        raise ModelError(f"{folder}: the converter ended without writing {output}\n{done.stderr[-2000:]}")
    return Ran(argv=("python", SCRIPT, *arguments), seconds=done.seconds, peak_bytes=done.peak_bytes)


def converter_python(script: Path) -> Path:
    """A Python that has what the converter imports: ``LWQ_CONVERT_PYTHON``, or an environment of our own.

    Raises:
        FileError: ``LWQ_CONVERT_PYTHON`` names no program.
    """
    if given := os.environ.get("LWQ_CONVERT_PYTHON"):
        program = shutil.which(given)
        if program is None:
            raise FileError(f"LWQ_CONVERT_PYTHON={given}: no such program", hint="unset it, or name a Python")
        return Path(program)
    requirements = script.parent / "requirements" / f"requirements-{script.stem}.txt"
    folder = home() / "converter" / sha256_file(requirements)[:16]
    python = folder / "bin" / "python"
    complete = folder / "complete"
    with os_errors("make the converter's environment", folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with lock(folder.parent / f"{folder.name}.lock"):
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)
            run_tool((sys.executable, "-m", "venv", str(folder)), cwd=folder.parent)
            run_tool((str(python), "-m", "pip", "install", "-r", str(requirements)), cwd=requirements.parent)
            write_atomic(complete, "complete\n")
    return python
