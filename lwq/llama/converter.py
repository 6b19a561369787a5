"""llama.cpp's own Hugging Face converter, run in an environment of its own made on demand."""

from __future__ import annotations

from pathlib import Path

from lwq.errors import ModelError, ToolError
from lwq.llama.converter_env import converter_python
from lwq.llama.process import run_tool
from lwq.llama.requests import Ran
from lwq.llama.source_tree import fill_source
from lwq.llama.toolchain import PIN, home, source_folder

SCRIPT = "convert_hf_to_gguf.py"


def script() -> Path:
    """The converter's program in the pinned sources, which are fetched where they are not here."""
    return fill_source(source_folder(), PIN, scratch=home() / "src") / SCRIPT


def complaint_of(error: ToolError) -> str:
    """What the converter says at last: the line of its exception, in place of its traceback."""
    lines = [line.strip() for line in error.message.splitlines() if line.strip()]
    return f"the converter: {lines[-1]}" if lines else "the converter failed"


def hf_to_gguf(folder: str, output: str, *, outtype: str, cwd: Path, projector: bool = False) -> Ran:
    """Writes ``cwd/output`` from the safetensors folder ``cwd/folder``.

    Args:
        outtype: ``f32``, ``f16``, ``bf16``, or ``auto``: the highest 16-bit type that the folder holds.
        projector: of the folder's vision or audio tower, not the language model.

    Raises:
        ModelError: the converter does not know the model, or it is incomplete.
    """
    arguments = (folder, "--outfile", output, "--outtype", outtype, *(("--mmproj",) if projector else ()))
    try:
        done = run_tool((str(converter_python()), str(script()), *arguments), cwd=cwd)
    except ToolError as error:
        hint = "the folder needs config.json, the tokenizer and all safetensors of an architecture llama.cpp knows"
        raise ModelError(f"{folder}: {complaint_of(error)}\n{error.message}", hint=hint) from None
    prefixed = cwd / f"mmproj-{output}"
    if projector and prefixed.is_file():
        prefixed.rename(cwd / output)
    if not (cwd / output).is_file():
        raise ModelError(f"{folder}: the converter ended without writing {output}\n{done.stderr[-2000:]}")
    return Ran(argv=("python", SCRIPT, *arguments), seconds=done.seconds, peak_bytes=done.peak_bytes)
