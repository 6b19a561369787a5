"""The converter's own Python environment: PyTorch for the CPU, transformers and tokenizers, in locked versions."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Final

from lwq.errors import DownloadError, FileError, LwqError, SpaceError, ToolError
from lwq.llama.confinement import Limits
from lwq.llama.process import run_tool
from lwq.llama.source_tree import OnProgress, quiet
from lwq.llama.toolchain import home
from lwq.store.files import lock, need_space, os_errors, write_atomic

TORCH: Final = "2.13.0"
CPU_INDEX: Final = "https://download.pytorch.org/whl/cpu"
"""Where PyTorch's builds for the CPU lie; ``LWQ_TORCH_INDEX`` names a mirror."""
MODULES: Final = (
    "torch",
    "transformers",
    "numpy",
    "sentencepiece",
    "google.protobuf",
    "mistral_common",
    "yaml",
    "tqdm",
)
_DOWNLOADING: Final = Limits(network=True)
_INDEX_SECONDS: Final = 5.0
_CPU_BYTES, _CUDA_BYTES = 1_300_000_000, 8_000_000_000
_WHAT: Final = "making the converter's environment"
_PIP: Final = ("-m", "pip", "install", "--no-compile", "--no-input", "--disable-pip-version-check", "--retries", "1",
               "--timeout", "20", "--progress-bar", "off")  # fmt: skip
_MISSING: Final = """import importlib.util, sys
def has(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
print(" ".join(name for name in sys.argv[1:] if not has(name)))"""


def converter_python(on_progress: OnProgress = quiet) -> Path:
    """A Python that has what the converter imports: ``LWQ_CONVERT_PYTHON``, or an environment of our own.

    It is made once for a set of locked versions and a Python; an environment that was not finished never counts.

    Raises:
        FileError: ``LWQ_CONVERT_PYTHON`` names no program, or one that lacks a package.
        DownloadError, SpaceError: it could not be made.
    """
    if given := os.environ.get("LWQ_CONVERT_PYTHON"):
        return _given(given)
    folder = current()
    with os_errors("make the converter's environment", folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    waiting = f"waiting for another process that is {_WHAT}"
    with lock(folder.parent / f"{folder.name}.lock", on_wait=lambda: on_progress(waiting, 0, 0)):
        if not is_whole(folder):
            _make(folder, on_progress)
    return _python_of(folder)


def converter_environ() -> dict[str, str]:
    """Variables that the converter is started with: it asks no hub; in an environment of our own modules stay compiled.

    It loads tokenizers with ``trust_remote_code``, and a folder may name code that lies on the Hub: that must not come.
    To compile PyTorch and transformers each time takes longer than all else, and pip is told to leave it out.
    """
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    return offline if os.environ.get("LWQ_CONVERT_PYTHON") else {**offline, "PYTHONDONTWRITEBYTECODE": ""}


def current() -> Path:
    """The folder of the environment for the locked versions and this Python, made or not."""
    wanted = f"{_locked()}{TORCH} {sys.version_info[:2]}"
    return home() / "converter" / hashlib.sha256(wanted.encode()).hexdigest()[:16]


def environments() -> Iterator[Path]:
    """All environments of this user, of earlier versions too, whole or not."""
    yield from (p for p in sorted((home() / "converter").glob("*")) if p.is_dir())


def is_whole(folder: Path) -> bool:
    """Whether an environment was finished."""
    return (folder / "complete").exists() and _python_of(folder).exists()


def _python_of(folder: Path) -> Path:
    """The Python of an environment."""
    return folder / "bin" / "python"


def _locked() -> str:
    return resources.files("lwq.llama").joinpath("converter.lock").read_text(encoding="utf-8")


def _given(given: str) -> Path:
    """The user's own Python, which may be named from here or be on the path."""
    program = shutil.which(given)
    if program is None:
        raise FileError(f"LWQ_CONVERT_PYTHON={given}: no such program", hint="unset it, or name a Python")
    python = Path(program).absolute()
    try:
        lacks = run_tool((str(python), "-c", _MISSING, *MODULES), cwd=Path("/")).stdout.strip()
    except LwqError as error:
        raise FileError(f"LWQ_CONVERT_PYTHON={given}: is no Python: {error.message}", hint="unset it") from None
    if lacks:
        raise FileError(
            f"LWQ_CONVERT_PYTHON={given}: lacks {', '.join(lacks.split())}, which the converter imports",
            hint=f"install that, or unset it: lwq then makes an environment of its own ({_size(_CPU_BYTES)})",
        )
    return python


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB"


def _make(folder: Path, on_progress: OnProgress) -> None:
    on_progress(_WHAT, 0, 0)
    need_space(folder.parent, _CPU_BYTES, "the converter's environment")
    with os_errors("make the converter's environment", folder):
        shutil.rmtree(folder, ignore_errors=True)
        run_tool((sys.executable, "-m", "venv", str(folder)), cwd=folder.parent)
        versions = folder / "converter.lock"
        versions.write_text(_locked(), encoding="utf-8")
        heard = _Heard(on_progress=on_progress)
        _install(folder, (f"torch=={TORCH}", *_from_index(folder, on_progress)), heard)
        _install(folder, ("-r", str(versions)), heard)
        lacks = run_tool((str(_python_of(folder)), "-c", _MISSING, *MODULES), cwd=folder).stdout.strip()
        if lacks:
            raise ToolError(f"the converter's environment lacks {lacks} after its installation", hint="report it")
        write_atomic(folder / "complete", "complete\n")


def _from_index(folder: Path, on_progress: OnProgress) -> tuple[str, ...]:
    """Options for the CPU build of PyTorch where its index answers; else pip's own configuration decides.

    Raises:
        SpaceError: only a build for CUDA can be had, and there is no room for it.
    """
    if sys.platform != "linux":
        return ()
    index = os.environ.get("LWQ_TORCH_INDEX", CPU_INDEX)
    if _answers(f"{index.rstrip('/')}/torch/"):
        return ("--index-url", index)
    if _is_for_cuda(folder):
        on_progress(f"{index} does not answer, and PyPI's PyTorch brings CUDA: {_size(_CUDA_BYTES)}", 0, 0)
        need_space(folder.parent, _CUDA_BYTES, "the converter's environment with CUDA")
    return ()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=_INDEX_SECONDS) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError, urllib.error.URLError):
        return False


def _is_for_cuda(folder: Path) -> bool:
    """Whether what pip would take for PyTorch brings NVIDIA's libraries."""
    options = ("--dry-run", "--quiet", "--report", "-")
    done = run_tool(
        (str(_python_of(folder)), *_PIP, *options, f"torch=={TORCH}"), cwd=folder, limits=_DOWNLOADING, check=False
    )
    try:
        names = [item["metadata"]["name"] for item in json.loads(done.stdout)["install"]]
    except (ValueError, KeyError, TypeError):
        return False
    return any(name.lower().startswith("nvidia-") for name in names)


@dataclass(slots=True)
class _Heard:
    """What pip says that it fetches, told on: phase and megabytes."""

    on_progress: OnProgress
    rest: str = ""
    what: str = ""
    megabytes: float = 0.0
    seen: set[str] = field(default_factory=set)

    def __call__(self, stream: str, piece: str) -> None:
        *lines, self.rest = (self.rest + piece).split("\n")
        for line in lines:
            if (match := _FILE.search(line)) and match[1] not in self.seen:
                self.seen.add(match[1])
                size = float(match[2] or 0) * _UNITS.get(match[3] or "", 0.0)
                self.megabytes += size
                if size >= _LARGE or not self.what:
                    told = f" ({size:.0f} MB)" if size else ""
                    self.what = f"{_WHAT}: {match[1].split('-')[0]}{told}"
                self.on_progress(self.what, round(self.megabytes), _CPU_BYTES // 3_000_000)
            elif line.startswith("Installing collected packages"):
                self.on_progress(f"{_WHAT}: unpacking {line.count(',') + 1} packages", 0, 0)


_FILE: Final = re.compile(
    r"(?:Downloading|Processing|Using cached) (?:\S*/)?([^/\s]+\.whl)(?: \(([\d.]+) (kB|MB|GB)\))?"
)
_LARGE: Final = 5.0
"""Megabytes from which a file is told by name."""
_UNITS: Final = {"kB": 1e-3, "MB": 1.0, "GB": 1e3}


def _install(folder: Path, what: tuple[str, ...], heard: _Heard) -> None:
    done = run_tool(
        (str(_python_of(folder)), *_PIP, *what), cwd=folder, on_output=heard, limits=_DOWNLOADING, check=False
    )
    if done.returncode == 0:
        return
    said = (done.stdout + done.stderr).strip()
    if "No space left on device" in said:
        raise SpaceError(
            f"{folder}: no room left for the converter's environment",
            hint="free some (`lwq cache gc`), set LWQ_HOME to a larger disk, or TMPDIR if that is the full one",
        )
    last = next((line for line in reversed(said.splitlines()) if line.startswith("ERROR")), "") or said[-300:]
    raise DownloadError(
        f"the converter's environment could not be made: pip: {last.removeprefix('ERROR: ')}",
        hint="check the network; behind a mirror set PIP_INDEX_URL and LWQ_TORCH_INDEX, or name a Python that has all"
        " (LWQ_CONVERT_PYTHON)",
    )
