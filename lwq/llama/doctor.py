"""What lwq needs on this machine, checked one by one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from lwq.errors import LwqError
from lwq.llama.confinement import Limits
from lwq.llama.converter_env import converter_python, current, is_whole
from lwq.llama.machine import find_program, how_to_install, look, python_child
from lwq.llama.process import run_tool
from lwq.llama.process_group import ending
from lwq.llama.toolchain import BINDINGS_VERSION, COMMIT, PROGRAMS, Toolchain, find, home
from lwq.store.files import free_bytes, human_bytes

Status = Literal["PASS", "WARN", "FAIL"]
_ROOM = 10 * 2**30
_LOOK = Limits(stall_seconds=60)
_LOAD = (
    "import sys; from pathlib import Path; from lwq.engine.bindings import load_bindings; "
    "from lwq.llama.toolchain import find; load_bindings(find(Path(sys.argv[1]) if sys.argv[1] else None))"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing looked at; ``fix`` is what to do where it is not PASS."""

    name: str
    status: Status
    detail: str
    fix: str = ""


def doctor(llama_dir: Path | None) -> tuple[Check, ...]:
    """All checks, whatever fails."""
    checks = [_program(name, "FAIL") for name in ("git", "cmake", "c++")]
    checks += [_program(name, "WARN") for name in ("ninja", "ccache")]
    checks += [_room(), _bindings(), _converter()]
    try:
        toolchain = find(llama_dir)
    except LwqError as error:
        return (*checks, Check(name="toolchain", status="FAIL", detail=error.message, fix=error.hint))
    programs = (_runs(toolchain, name) for name in PROGRAMS)
    return (*checks, _toolchain(toolchain), *programs, _libraries(toolchain, llama_dir), _gpu(toolchain))


def _program(name: str, without: Status) -> Check:
    path = find_program(name)
    if path:
        return Check(name=name, status="PASS", detail=str(path))
    use = "building is slower without it" if without == "WARN" else "llama.cpp cannot be built without it"
    return Check(name=name, status=without, detail=use, fix=how_to_install((name,)))


def _room() -> Check:
    free = free_bytes(home())
    status: Status = "PASS" if free >= _ROOM else "WARN"
    return Check(
        name="disk", status=status, detail=f"{human_bytes(free)} free for {home()}", fix="set LWQ_HOME to a larger disk"
    )


def _bindings() -> Check:
    try:
        version = metadata.version("llama_cpp_python")
    except metadata.PackageNotFoundError:
        version = "none"
    fix = f"CMAKE_ARGS=-DLLAMA_BUILD=OFF pip install llama-cpp-python=={BINDINGS_VERSION}"
    right: Status = "PASS" if version == BINDINGS_VERSION else "FAIL"
    return Check(
        name="bindings", status=right, detail=f"llama-cpp-python {version}, {BINDINGS_VERSION} is needed", fix=fix
    )


def _converter() -> Check:
    """The Python that converts Hugging Face folders."""
    if os.environ.get("LWQ_CONVERT_PYTHON"):
        try:
            return Check(name="converter", status="PASS", detail=f"LWQ_CONVERT_PYTHON: {converter_python()}")
        except LwqError as error:
            return Check(name="converter", status="FAIL", detail=error.message, fix=error.hint)
    made = is_whole(current())
    detail = f"ready in {current()}" if made else "made when a Hugging Face folder is first converted (1.3 GB)"
    return Check(name="converter", status="PASS", detail=detail)


def _toolchain(toolchain: Toolchain) -> Check:
    pinned = toolchain.stock and toolchain.commit == COMMIT
    return Check(
        name="toolchain",
        status="PASS" if pinned else "WARN",
        detail=f"{toolchain.commit[:12]} ({toolchain.backend}) in {toolchain.bin_dir}",
        fix=f"lwq is made for {COMMIT[:12]}; drop --llama-dir and LWQ_LLAMA_DIR, `lwq toolchain build`",
    )


def _runs(toolchain: Toolchain, name: str) -> Check:
    try:
        done = run_tool((str(toolchain.program(name)), "--help"), cwd=Path("/"), limits=_LOOK, check=False)
    except LwqError as error:
        return Check(name=name, status="FAIL", detail=error.message, fix="`lwq toolchain build`")
    usage = "usage" in (done.stdout + done.stderr).lower()
    status: Status = "PASS" if usage else "FAIL"
    return Check(name=name, status=status, detail="runs" if usage else "does not run", fix="`lwq toolchain build`")


def _libraries(toolchain: Toolchain, llama_dir: Path | None) -> Check:
    """Whether a process of ours can load llama.cpp's libraries beside numpy's."""
    command, environ = python_child(_LOAD, str(llama_dir or ""), lib_dir=toolchain.lib_dir)
    done = run_tool(command, cwd=Path("/"), env=environ, limits=_LOOK, check=False)
    if done.returncode == 0:
        return Check(name="libraries", status="PASS", detail="load in process")
    last = (done.stderr.strip().splitlines() or [ending(done.returncode)])[-1]
    detail = ending(done.returncode) if done.returncode < 0 else last
    fix = "build with a compiler that links libstdc++ dynamically: CXX=g++ `lwq toolchain build`"
    return Check(name="libraries", status="FAIL", detail=f"cannot be loaded: {detail}", fix=fix)


def _gpu(toolchain: Toolchain) -> Check:
    gpus = look().gpus
    if not gpus:
        return Check(name="gpu", status="PASS", detail="no NVIDIA GPU seen")
    names = ", ".join(gpu.name for gpu in gpus)
    used = toolchain.backend == "cuda"
    return Check(
        name="gpu",
        status="PASS" if used else "WARN",
        detail=f"{names}, {'used' if used else f'not used by the {toolchain.backend} build'}",
        fix="`lwq toolchain build --backend cuda`",
    )
