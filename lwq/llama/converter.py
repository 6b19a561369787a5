"""llama.cpp's own Hugging Face converter, run in an environment of its own made on demand."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from lwq.errors import ModelError, ToolError
from lwq.llama.confinement import Limits, most_memory_bytes
from lwq.llama.converter_env import converter_environ, converter_python
from lwq.llama.process import run_tool
from lwq.llama.requests import Ran
from lwq.llama.source_tree import OnProgress, fill_source, quiet
from lwq.llama.toolchain import PIN, home, source_folder
from lwq.store.files import write_atomic

SCRIPT = "convert_hf_to_gguf.py"


def script(on_progress: OnProgress = quiet) -> Path:
    """The converter's program in the pinned sources, which are fetched where they are not here."""
    return fill_source(source_folder(), PIN, scratch=home() / "src", on_progress=on_progress) / SCRIPT


@contextmanager
def staged(folder: Path, at: Path, files: Mapping[str, Any]) -> Iterator[None]:
    """The folder under another path, with these JSON files (name → what JSON) in place of its own or beside them."""
    if not files:
        at.symlink_to(folder.resolve())
        try:
            yield
        finally:
            at.unlink()
        return
    at.mkdir()
    try:
        for path in folder.iterdir():
            if path.name not in files:
                (at / path.name).symlink_to(path.resolve())
        for name, content in files.items():
            write_atomic(at / name, json.dumps(content))
        yield
    finally:
        shutil.rmtree(at)


def complaint_of(error: ToolError) -> tuple[str, str]:
    """What the converter says at last, in a sentence with a way out, in place of its traceback."""
    lines = [line.strip() for line in error.message.splitlines() if line.strip(" ^~")]
    last = lines[-1] if lines else "failed"
    for pattern, said, hint in _KNOWN:
        if match := re.search(pattern, last):
            return said.format(*match.groups()), hint
    where = next((i for i in reversed(range(len(lines) - 1)) if lines[i].startswith("File ")), None)
    if where is not None and _BARE.fullmatch(last):
        last = f"{last.rstrip(':')} at `{lines[where + 1]}`"
    return f"the converter: {last}", _HINT


_HINT: Final = "the folder needs config.json, the tokenizer and all safetensors of an architecture llama.cpp knows"
_BARE: Final = re.compile(r"[\w.]+(?:Error|Exception):?")
"""An exception that says nothing more; the line of source that raised it does."""
_KNOWN: Final = (
    (
        r"^KeyError: (.+)$",
        "the converter misses {0}, in config.json or among the tokens",
        "take config.json and the tokenizer's files as their publisher ships them, all of one version",
    ),
    (
        r"^ValueError: Can not map tensor (.+)$",
        "the converter knows no tensor {0} in this architecture",
        "merge adapters and remove what was added to the model; a newer lwq may pin a llama.cpp that knows it",
    ),
    (
        r"^FileNotFoundError: File not found: .*?([^/]+)$",
        "lacks {0}, which the converter needs for this architecture",
        "fetch it into the folder",
    ),
    (
        r"BPE pre-tokenizer was not recognized",
        "its tokenizer splits words in none of the ways that the pinned llama.cpp knows",
        "take all files of the tokenizer as its publisher ships them, tokenizer.model too where there is one; a newer"
        " lwq may pin a llama.cpp that knows it",
    ),
    (
        r"^ValueError: Tokenizer class (\S+) does not exist",
        "its tokenizer class {0} is none that the converter's transformers knows",
        "take the tokenizer's files as the model's publisher ships them, or set LWQ_CONVERT_PYTHON to a Python whose"
        " transformers knows it",
    ),
    (
        r"^AttributeError: .*has no attribute '?mergeable_ranks",
        "its tokenizer is not the one of this architecture's publisher, with ranks of tiktoken and code of its own",
        "take the tokenizer's files (its code and its ranks too) as the model's publisher ships them",
    ),
    (
        r"^struct\.error: (.+)$",
        "a value in config.json is of another type than the converter expects ({0})",
        "compare it with the config.json of a published model of this architecture",
    ),
    (
        r"No space left on device",
        "the disk is full",
        "free some room (`lwq cache gc`), or set LWQ_HOME to a larger disk",
    ),
)


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
        command = (str(converter_python()), str(script()), *arguments)
        done = run_tool(command, cwd=cwd, env=converter_environ(), limits=Limits(memory_bytes=most_memory_bytes()))
    except ToolError as error:
        said, hint = complaint_of(error)
        raise ModelError(f"{folder}: {said}\n{error.message}", hint=hint) from None
    prefixed = cwd / f"mmproj-{output}"
    if projector and prefixed.is_file():
        prefixed.rename(cwd / output)
    if not (cwd / output).is_file():
        raise ModelError(f"{folder}: the converter ended without writing {output}\n{done.stderr[-2000:]}")
    return Ran(argv=("python", SCRIPT, *arguments), seconds=done.seconds, peak_bytes=done.peak_bytes)
