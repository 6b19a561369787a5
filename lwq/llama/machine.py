"""What this machine has: programs (and the packages that bring them), CPU features, GPUs."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import shutil
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lwq.errors import ToolchainError, ToolError
from lwq.llama.confinement import Limits
from lwq.llama.limits import memory_limits
from lwq.llama.process import run_tool

DEBIAN_PACKAGES: Final = {
    "git": "git",
    "cmake": "cmake",
    "make": "make",
    "cc": "build-essential",
    "c++": "build-essential",
    "ninja": "ninja-build",
    "ccache": "ccache",
    "nvcc": "nvidia-cuda-toolkit",
    "glslc": "glslc libvulkan-dev spirv-headers",
}
_BREW_PACKAGES: Final = {"cmake": "cmake", "ninja": "ninja", "ccache": "ccache"}
_COMPILER_VARIABLES: Final = {"cc": "CC", "c++": "CXX", "nvcc": "CUDACXX"}
_ALSO_NAMED: Final = {"cc": ("gcc", "clang"), "c++": ("g++", "clang++"), "ninja": ("ninja-build",), "make": ("gmake",)}
_ISA_PREFIXES: Final = ("sse", "ssse", "avx", "amx", "bmi", "fma", "f16c", "gfni", "vaes", "sha", "popcnt", "movbe")
_PROBING: Final = Limits(stall_seconds=15.0)
_LOOK_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One NVIDIA GPU as nvidia-smi reports it."""

    name: str
    compute_capability: str
    """``9.0``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What decides the backend."""

    system: str
    """``Linux`` or ``Darwin``."""
    architecture: str
    has_nvcc: bool = False
    gpus: tuple[Gpu, ...] = ()
    has_glslc: bool = False
    has_vulkan_headers: bool = False
    has_vulkan_device: bool = False


def find_program(name: str) -> Path | None:
    """Absolute path of a program: what ``CC``, ``CXX`` or ``CUDACXX`` say, else the first on PATH."""
    given = os.environ.get(_COMPILER_VARIABLES.get(name, ""), "")
    names = (given,) if given else (name, *_ALSO_NAMED.get(name, ()))
    for candidate in names:
        path = shutil.which(candidate)
        if path:
            return Path(path).absolute()
    if name == "nvcc":
        usual = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "bin" / "nvcc"
        return usual if os.access(usual, os.X_OK) else None
    return None


def need_programs(*names: str) -> tuple[Path, ...]:
    """Absolute paths of programs; one error names all that are missing and how to install them."""
    paths = {name: find_program(name) for name in names}
    missing = tuple(name for name, path in paths.items() if path is None)
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise ToolchainError(f"{', '.join(missing)}: {verb} not installed (not on PATH)", hint=how_to_install(missing))
    return tuple(path for path in paths.values() if path is not None)


def how_to_install(names: tuple[str, ...]) -> str:
    """The command that installs programs on this system."""
    if sys.platform == "darwin":
        brewed = " ".join(_BREW_PACKAGES[name] for name in names if name in _BREW_PACKAGES)
        return f"brew install {brewed}" if brewed else "xcode-select --install"
    packages = dict.fromkeys(DEBIAN_PACKAGES.get(name, name) for name in names)
    return f"sudo apt-get install {' '.join(packages)}"


def cpu_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, ...]:
    """What ``-march=native`` can make use of: a build is only good for CPUs with the same list.

    On systems without /proc/cpuinfo the name of the architecture alone.
    """
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return (platform.machine(),)
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in {"flags", "Features"}:
            arm = name.strip() == "Features"
            features = {word for word in value.split() if arm or word.startswith(_ISA_PREFIXES)}
            return (platform.machine(), *sorted(features))
    return (platform.machine(),)


@functools.cache
def cpu_name() -> str:
    """The processor's name, as the system tells it; never a host name."""
    if sys.platform == "darwin":
        sysctl = Path("/usr/sbin/sysctl")
        return run_tool((str(sysctl), "-n", "machdep.cpu.brand_string"), cwd=Path("/")).stdout.strip()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name"))
    return next(names, platform.machine())


def n_cpus() -> int:
    """CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def look() -> Hardware:
    """This machine."""
    sdk = os.environ.get("VULKAN_SDK")
    include = Path(sdk) / "include" if sdk else Path("/usr/include")
    return Hardware(
        system=platform.system(),
        architecture=platform.machine(),
        has_nvcc=find_program("nvcc") is not None,
        gpus=nvidia_gpus(),
        has_glslc=find_program("glslc") is not None,
        has_vulkan_headers=(include / "vulkan" / "vulkan.h").is_file(),
        has_vulkan_device=any(Path("/dev/dri").glob("renderD*")),
    )


def nvidia_gpus() -> tuple[Gpu, ...]:
    """The NVIDIA GPUs that the driver can use now; none where there is no driver."""
    smi = find_program("nvidia-smi")
    if smi is None:
        return ()
    query = (str(smi), "--query-gpu=name,compute_cap", "--format=csv,noheader")
    try:
        done = run_tool(query, cwd=Path("/"), limits=_PROBING, check=False)
    except (ToolError, ToolchainError):
        return ()
    return parse_gpus(done.stdout) if done.returncode == 0 else ()


def parse_gpus(text: str) -> tuple[Gpu, ...]:
    """GPUs in ``nvidia-smi --query-gpu=name,compute_cap --format=csv,noheader``."""
    rows = (line.rpartition(",") for line in text.splitlines() if "," in line)
    return tuple(
        Gpu(name=name.strip(), compute_capability=capability.strip())
        for name, _, capability in rows
        if capability.strip().replace(".", "").isdigit()
    )


def available_memory_bytes(*, of_files: bool = False) -> int:
    """Memory that a new allocation of this process can have: without swapping, within its limits.

    Args:
        of_files: for pages of mapped files instead.
    """
    return min(limit.free for limit in memory_limits() if not (of_files and limit.mapped == "free"))


def room_bytes(base_bytes: int, available_bytes: int | None = None) -> int:
    """Memory that what is kept to save time may take beside a model: a tenth of it or 1 GiB, if so much is free.

    Beside a mix of it too, about a third of a base. It decides how long something takes, never what comes out.

    Args:
        available_bytes: what is free; what is free now when None.
    """
    available = available_memory_bytes() if available_bytes is None else available_bytes
    return min(max(1 << 30, base_bytes // 10), max(0, int(0.3 * (available - base_bytes // 3))))


def python_child(code: str, *arguments: str, lib_dir: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    """(command, what its environment has besides) of a Python process of ours that loads llama.cpp's libraries."""
    package = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    return (sys.executable, "-P", "-c", code, *arguments), {"PYTHONPATH": path, **preloaded(lib_dir)}


def preloaded(lib_dir: Path) -> dict[str, str]:
    """``LD_PRELOAD`` for a process that loads these libraries beside numpy's, where their C++ library is inside them.

    A compiler may be set up to link libstdc++ statically. Its symbols are then exported, and mix with those of the
    shared one that numpy loads: the process dies while it loads the second.
    """
    libraries = [p for name in ("libllama.so", "libggml-base.so") if (p := lib_dir / name).is_file()]
    if not libraries or all(b"libstdc++.so" in p.read_bytes() or b"libc++.so" in p.read_bytes() for p in libraries):
        return {}
    return {"LD_PRELOAD": " ".join(filter(None, ("libstdc++.so.6", os.environ.get("LD_PRELOAD"))))}


def give_back_pages() -> None:
    """Pages that this process freed, but whose addresses the C library keeps (glibc), go back to the system."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


def busy_share() -> float:
    """Share of this process's CPUs in use for half a second in which nothing of ours runs."""
    import psutil

    shares = psutil.cpu_percent(interval=_LOOK_SECONDS, percpu=True)
    if hasattr(os, "sched_getaffinity"):
        ours = [shares[cpu] for cpu in os.sched_getaffinity(0) if cpu < len(shares)]
        shares = ours or shares
    return statistics.fmean(shares) / 100
