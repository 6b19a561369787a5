"""What the converter would write of a folder, without its data: all that is known of a model before it is converted.

llama.cpp's own converter runs with a writer that leaves the data out, so names, shapes, types and metadata are those of
the conversion for every architecture it knows; the file is sparse, as long as the real one would be.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lwq.errors import ModelError, ToolError
from lwq.gguf.hf_tokenizer import as_before_5
from lwq.llama.confinement import Limits, most_memory_bytes
from lwq.llama.converter import complaint_of, script, staged
from lwq.llama.converter_env import converter_environ, converter_python, current, is_whole
from lwq.llama.process import run_tool
from lwq.llama.toolchain import COMMIT, home
from lwq.store.files import lock, os_errors
from lwq.store.temporary import temporary_folder

_WITHOUT_DATA: Final = """
import os, runpy, sys
sys.argv = sys.argv[1:]
if os.environ.get("USE_TORCH") == "0" and not os.path.exists(os.path.join(sys.argv[1], "tekken.json")):
    sys.modules["mistral_common"] = None
here = os.path.dirname(sys.argv[0])
sys.path[:0] = [here, os.path.join(here, "gguf-py")]
from gguf.gguf_writer import GGUFWriter, WriterState

def write_tensors_to_file(self, *, progress=False):
    self.write_ti_data_to_file()
    for file, tensors in zip(self.fout, self.tensors):
        self.write_padding(file, file.tell())
        data = sum(GGUFWriter.ggml_pad(info.nbytes, self.data_alignment) for info in tensors.values())
        file.truncate(file.tell() + data)
    self.state = WriterState.WEIGHTS

GGUFWriter.write_tensors_to_file = write_tensors_to_file
runpy.run_path(sys.argv[0], run_name="__main__")
"""

_LEAN: Final = {"USE_TORCH": "0"}
"""transformers then reads configurations and tokenizers without loading PyTorch's own parts, which takes seconds."""


def twins() -> Iterator[Path]:
    """All twins that were made; each can be made again."""
    yield from sorted((home() / "twins").glob("*.gguf"))


def twin_of(folder: Path, outtype: str, name: str) -> Path | None:
    """The sparse twin of what the converter would write of a folder, made once for its files as they are now.

    Args:
        name: under which the conversion sees the folder; it goes into the metadata.

    Returns:
        None where the converter's environment is not there yet (``lwq toolchain converter`` makes it).

    Raises:
        FileError: ``LWQ_CONVERT_PYTHON`` cannot be used.
        ModelError: the converter does not take the folder, in its own words.
    """
    if not os.environ.get("LWQ_CONVERT_PYTHON") and not is_whole(current()):
        return None
    program = converter_python()
    name = name or folder.resolve().name
    facts = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.iterdir()) if p.is_file()]
    key = hashlib.sha256(repr((COMMIT, outtype, name, str(folder.resolve()), facts)).encode()).hexdigest()[:16]
    twin = home() / "twins" / f"{key}.gguf"
    with os_errors("make the twin of a folder", twin):
        twin.parent.mkdir(parents=True, exist_ok=True)
    with lock(twin.with_suffix(".lock")):
        if not twin.exists():
            _make(program, folder, outtype, name, twin)
    return twin


def _make(program: Path, folder: Path, outtype: str, name: str, twin: Path) -> None:
    said = hint = ""
    with temporary_folder(twin.parent) as scratch, staged(folder, scratch / name, as_before_5(folder)):
        link, unfinished = scratch / name, scratch / "unfinished"
        arguments = (str(link), "--outfile", str(unfinished), "--outtype", outtype)
        command = (str(program), "-c", _WITHOUT_DATA, str(script()), *arguments)
        limits = Limits(memory_bytes=most_memory_bytes())
        for lean in (_LEAN, {}):  # some tokenizers may want all of transformers
            try:
                run_tool(command, cwd=twin.parent, env={**converter_environ(), **lean}, limits=limits)
            except ToolError as error:
                said, hint = complaint_of(error)
            else:
                os.replace(unfinished, twin)
                return
    raise ModelError(f"{folder}: {said}", hint=hint)
