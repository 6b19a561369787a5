"""Builds the pinned llama.cpp once for all checkouts; a build that was killed goes on and never counts as done."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lwq.errors import FileError, ToolchainError, ToolError
from lwq.llama.confinement import Limits
from lwq.llama.machine import Hardware, cpu_features, find_program, look, n_cpus, need_programs
from lwq.llama.process import run_tool
from lwq.llama.source_tree import OnProgress, copy_commit, fill_source, quiet
from lwq.llama.toolchain import (
    COMMIT,
    MANIFEST,
    PIN,
    PROGRAMS,
    REMOTE,
    RPC_SERVER,
    Toolchain,
    cpu_digest,
    home,
    home_source,
    manifest_of,
    read_manifest,
    source_folder,
)
from lwq.store.files import lock, need_space, os_errors, read_json, write_json

BASE_FLAGS: Final = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=ON",
    "-DCMAKE_BUILD_RPATH_USE_ORIGIN=ON",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_SERVER=OFF",
    "-DLLAMA_CURL=OFF",
    "-DLLAMA_OPENSSL=OFF",
)
_WITHOUT_AMX: Final = tuple(
    f"-DCMAKE_{language}_FLAGS_RELEASE=-O3 -DNDEBUG -U__AMX_INT8__" for language in ("C", "CXX")
)
"""CMake's own flags of a release, and ggml's code for AMX left out: at the pinned commit GCC drops the stores that fill
its tile configuration, and the first product of quantized weights is an illegal instruction (llama.cpp's pull request
26954)."""
_RPC: Final = "-DGGML_RPC=ON"
"""Also of builds for GPUs, which can be lent to other machines."""
_BUILD_BYTES: Final = 2 * 2**30
_COUNTER: Final = re.compile(r"\[\s*(?:(\d+)/(\d+)|(\d+)%)\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildPlan:
    """What will be built, from where and into which folders."""

    source: Path
    backend: str
    flags: tuple[str, ...]
    compiler: str
    name: str
    """Of the installed folder: commit, backend, and a hash of flags, compiler and CPU features."""

    @property
    def programs(self) -> tuple[str, ...]:
        """What is built and installed."""
        return (*PROGRAMS, RPC_SERVER) if _RPC in self.flags else PROGRAMS

    @property
    def build_dir(self) -> Path:
        return home() / "build" / self.name

    @property
    def install_dir(self) -> Path:
        return home() / "toolchains" / self.name


def detect_backend(hardware: Hardware) -> str:
    """The backend that this machine can build and run."""
    if hardware.system == "Darwin":
        return "metal"
    if hardware.has_nvcc and hardware.gpus:
        return "cuda"
    if hardware.has_glslc and hardware.has_vulkan_headers and hardware.has_vulkan_device:
        return "vulkan"
    return "cpu"


def backend_flags(backend: str, hardware: Hardware) -> tuple[str, ...]:
    """CMake flags of a backend; CUDA is built for the GPUs that are here, else for all current ones.

    Raises:
        ToolchainError: the machine cannot build it.
    """
    if backend == "metal":
        if hardware.system != "Darwin":
            raise ToolchainError("--backend metal: this is not macOS", hint="use --backend cpu, cuda or vulkan")
        return ("-DGGML_METAL=ON", "-DGGML_METAL_EMBED_LIBRARY=ON", _RPC)
    if backend == "cuda":
        if not hardware.has_nvcc:
            raise ToolchainError("--backend cuda: no nvcc", hint="install the CUDA toolkit and set CUDACXX or PATH")
        native = sorted({gpu.compute_capability.replace(".", "") for gpu in hardware.gpus})
        architectures = ";".join(native) or "75;80;86;89;90"
        return ("-DGGML_CUDA=ON", f"-DCMAKE_CUDA_ARCHITECTURES={architectures}", _RPC)
    if backend == "vulkan":
        if not (hardware.has_glslc and hardware.has_vulkan_headers):
            hint = "apt-get install glslc libvulkan-dev spirv-headers"
            raise ToolchainError("--backend vulkan: no glslc or no Vulkan headers", hint=hint)
        return ("-DGGML_VULKAN=ON", _RPC)
    without_metal = () if hardware.system != "Darwin" else ("-DGGML_METAL=OFF",)
    return (*without_metal, _RPC) if backend == REMOTE else without_metal


def cpu_flags(features: tuple[str, ...]) -> tuple[str, ...]:
    """CMake flags that the features of this machine's CPU, as `machine.cpu_features` names them, make needed."""
    return _WITHOUT_AMX if "amx_int8" in features else ()


def build(
    *, backend: str = "auto", jobs: int | None = None, on_progress: OnProgress = quiet, source: Path | None = None
) -> Toolchain:
    """The installed toolchain, built now unless it is there already.

    Args:
        source: a git clone of llama.cpp to take the pinned commit from, where the network has none.

    Raises:
        ToolchainError: a program is missing, the compiler failed, or ``source`` is at another commit.
        DownloadError: the source could not be fetched.
    """
    plan = make_plan(look(), backend, home_source() if source else source_folder())
    with lock(home() / "build" / "build.lock", on_wait=lambda: on_progress("waiting for another build", 0, 0)):
        if (plan.install_dir / MANIFEST).is_file():
            try:
                return read_manifest(plan.install_dir / MANIFEST)
            except (ToolchainError, FileError):
                on_progress("the installed build is damaged; building it again", 0, 0)
        if source:
            copy_commit(source, plan.source, COMMIT)
        else:
            fill_source(plan.source, PIN, scratch=home() / "src", on_progress=on_progress)
        need_space(home(), _BUILD_BYTES, "building llama.cpp")
        _configure(plan)
        _compile(plan, jobs or n_cpus(), on_progress)
        return _install(plan)


def make_plan(hardware: Hardware, backend: str, source: Path) -> BuildPlan:
    """Everything settled before CMake runs."""
    chosen = detect_backend(hardware) if backend == "auto" else backend
    flags = (*BASE_FLAGS, *backend_flags(chosen, hardware), *cpu_flags(cpu_features()))
    _builder()
    _, compiler, _ = need_programs("cmake", "c++", "git")
    version = run_tool((str(compiler), "--version"), cwd=Path("/")).stdout.splitlines()[0].strip()
    digest = hashlib.sha256("\n".join((*flags, version, cpu_digest())).encode()).hexdigest()[:8]
    name = f"{COMMIT[:12]}-{chosen}-{digest}"
    return BuildPlan(source=source, backend=chosen, flags=flags, compiler=version, name=name)


def _configure(plan: BuildPlan) -> None:
    """CMake's own files; a half-done build of another source folder, or by another builder, is thrown away."""
    folder, origin = plan.build_dir, plan.build_dir / "origin.json"
    (cmake,) = need_programs("cmake")
    name, builder = _builder()
    generator = ("-G", "Ninja" if name == "ninja" else "Unix Makefiles", f"-DCMAKE_MAKE_PROGRAM={builder}")
    ours = {"source": str(plan.source), "builder": str(builder)}
    with os_errors("make the build folder", folder):
        if folder.exists() and (not origin.exists() or read_json(origin) != ours):
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
    write_json(origin, ours)
    cached = ("-DGGML_CCACHE=ON",) if find_program("ccache") else ("-DGGML_CCACHE=OFF",)
    argv = (str(cmake), "-S", str(plan.source), "-B", str(folder), *generator, *plan.flags, *cached)
    try:
        run_tool(argv, cwd=folder, limits=Limits(stall_seconds=600, network=True))
    except ToolError as error:
        raise ToolchainError(error.message, hint=f"remove {folder} to start afresh") from None


def _builder() -> tuple[str, Path]:
    """What carries out CMake's plan: ninja where it is installed, else make."""
    name = "ninja" if find_program("ninja") else "make"
    return name, need_programs(name)[0]


def _compile(plan: BuildPlan, jobs: int, on_progress: OnProgress) -> None:
    """Programs and libraries in the build folder.

    The builder is started itself, not through ``cmake --build``: when lwq is killed the system tells
    only the direct child, and a builder that goes on would meet the next build in the same folder.
    """
    _, builder = _builder()

    def listen(stream: str, piece: str) -> None:
        if counts := _COUNTER.findall(piece):
            done, total, percent = counts[-1]
            on_progress("building llama.cpp", int(done or percent), int(total or 100))

    argv = (str(builder), "-C", str(plan.build_dir), f"-j{jobs}", *plan.programs)
    try:
        run_tool(argv, cwd=plan.build_dir, on_output=listen, limits=Limits(stall_seconds=1800, network=True))
    except ToolError as error:
        raise ToolchainError(error.message, hint="what was compiled is kept; run the same command again") from None


def _install(plan: BuildPlan) -> Toolchain:
    """Programs and libraries in their final folder, manifest last; the build folder goes."""
    built = plan.build_dir / "bin"
    plan.install_dir.parent.mkdir(parents=True, exist_ok=True)
    for left in plan.install_dir.parent.glob(f".{plan.name}.*"):  # of an installation that was killed
        shutil.rmtree(left)
    temporary = Path(tempfile.mkdtemp(prefix=f".{plan.name}.", dir=plan.install_dir.parent))
    try:
        with os_errors("install llama.cpp", temporary):
            (temporary / "bin").mkdir()
            for path in sorted(built.iterdir()):
                if path.name in plan.programs or path.name.startswith("lib"):
                    shutil.copy2(path, temporary / "bin" / path.name, follow_symlinks=False)
            facts = {"backend": plan.backend, "flags": list(plan.flags), "compiler": plan.compiler}
            write_json(temporary / MANIFEST, manifest_of(temporary, facts))
            shutil.rmtree(plan.install_dir, ignore_errors=True)
            os.replace(temporary, plan.install_dir)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(plan.build_dir, ignore_errors=True)
    return read_manifest(plan.install_dir / MANIFEST)
