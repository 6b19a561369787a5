"""llama.cpp's libraries in this process, checked to be of the pin; the only importer of ``llama_cpp``."""

from __future__ import annotations

import ctypes
import os
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from lwq.errors import ToolchainError
from lwq.llama.devices import Device
from lwq.llama.toolchain import BINDINGS_VERSION, COMMIT, Toolchain

_STEERING: Final = ("GGML_", "LLAMA_")
LAST_WORD: Final = "llama.cpp: "
"""Begins the line on stderr that says why ggml gave up."""
_LEVEL_ERROR: Final = 4
SHORT_OF_MEMORY: Final = "is memory short? `lwq plan` says how much is needed; `lwq inspect` shows what the file is"
_servers: Final = set[str]()
_errors: Final = deque[str](maxlen=1)
_listeners: Final[list[list[str]]] = []
_kept: list[Any] = []  # callbacks that native code calls for as long as the process lives


def load_bindings(toolchain: Toolchain) -> ModuleType:
    """The ``llama_cpp`` module, working on the toolchain's own libraries.

    Structures are laid out for one commit: bindings and libraries of different ones would read each
    other's memory wrongly, so that is refused.

    Raises:
        ToolchainError: another version of the bindings, libraries of another commit, or libraries that
            were loaded before from elsewhere.
    """
    version = metadata.version("llama_cpp_python")
    if version != BINDINGS_VERSION:
        raise ToolchainError(
            f"llama-cpp-python {version} is installed, but {BINDINGS_VERSION} is laid out for llama.cpp {COMMIT[:12]}",
            hint=f"CMAKE_ARGS=-DLLAMA_BUILD=OFF pip install llama-cpp-python=={BINDINGS_VERSION}",
        )
    if not COMMIT.startswith(toolchain.commit[:12]) or toolchain.commit == "unknown":
        raise ToolchainError(
            f"{toolchain.lib_dir}: its libraries are of llama.cpp {toolchain.commit}, the bindings of {COMMIT[:12]}",
            hint="use the pinned build (`lwq toolchain build`, no --llama-dir) for what runs in process",
        )
    first = "llama_cpp" not in sys.modules
    if first:
        _steer()
        os.environ["LLAMA_CPP_LIB_PATH"] = str(toolchain.lib_dir)
    try:
        import llama_cpp
    except (RuntimeError, OSError, AttributeError) as error:  # a library that is cut short, lacks something, or is gone
        hint = "it is not as it was built; `lwq toolchain build` makes it again"
        raise ToolchainError(f"{toolchain.lib_dir}: its libraries cannot be loaded: {error}", hint=hint) from None

    _check_libraries(llama_cpp, toolchain)
    if first:
        _listen(llama_cpp)
    for server in toolchain.device.servers:
        _add_server(llama_cpp.llama_cpp._lib, server)
    module: ModuleType = llama_cpp
    return module


def model_parameters(llama: ModuleType, device: Device, n_layers: int) -> Any:
    """llama.cpp's parameters of a model of which so many layers lie on a device, and nothing on another.

    Raises:
        ToolchainError: the libraries do not see the device.
    """
    parameters, library = llama.llama_model_default_params(), llama.llama_cpp._lib
    if not device.names:
        return parameters
    library.ggml_backend_dev_by_name.restype = ctypes.c_void_p
    library.ggml_backend_dev_by_name.argtypes = [ctypes.c_char_p]
    handles = [] if device.is_cpu else [library.ggml_backend_dev_by_name(name.encode()) for name in device.names]
    if not all(handles):
        raise ToolchainError(f"{', '.join(device.names)}: the libraries see no such device", hint="`lwq doctor`")
    chosen = (ctypes.c_void_p * (len(handles) + 1))(*handles, None)
    shares = (ctypes.c_float * llama.llama_max_devices())(*device.sizes)
    parameters.devices, parameters.n_gpu_layers = ctypes.cast(chosen, ctypes.c_void_p), n_layers
    parameters.tensor_split = ctypes.cast(shares, type(parameters.tensor_split))
    _kept.extend((chosen, shares))
    if len(handles) > 1:
        parameters.tensor_buft_overrides = _without_pipeline(library)
    return parameters


def _without_pipeline(library: Any) -> ctypes.c_void_p:
    """Overrides that match no tensor: with some, llama.cpp does not send windows through several devices at once.

    It would keep copies of what goes from one to the next and take turns over them, so that a graph that was read once
    tells nothing of the next window (src/llama-context.cpp, ``pipeline_parallel``).
    """
    library.ggml_backend_cpu_buffer_type.restype = ctypes.c_void_p
    overrides = (_Override * 2)(_Override(b"^no tensor$", library.ggml_backend_cpu_buffer_type()), _Override())
    _kept.append(overrides)
    return ctypes.cast(overrides, ctypes.c_void_p)


class _Override(ctypes.Structure):
    """``struct llama_model_tensor_buft_override``; one without a pattern ends a list."""

    _fields_ = (("pattern", ctypes.c_char_p), ("buffer_type", ctypes.c_void_p))


def _add_server(library: Any, server: str) -> None:
    """Makes the devices of an RPC server known to the libraries, once.

    Raises:
        ToolchainError: libraries without RPC.
    """
    if server in _servers:
        return
    if not hasattr(library, "ggml_backend_rpc_add_server"):
        raise ToolchainError("these libraries know no RPC", hint="`lwq toolchain build --backend rpc`")
    library.ggml_backend_rpc_add_server.restype = ctypes.c_void_p
    library.ggml_backend_rpc_add_server.argtypes = [ctypes.c_char_p]
    library.ggml_backend_register.argtypes = [ctypes.c_void_p]
    library.ggml_backend_register(library.ggml_backend_rpc_add_server(server.encode()))
    _servers.add(server)


def said() -> str:
    """What llama.cpp logged last as an error, as the end of a message; empty where it logged none."""
    return f": {_errors.pop()}" if _errors else ""


@contextmanager
def listening() -> Iterator[list[str]]:
    """What llama.cpp logs meanwhile, piece by piece."""
    heard: list[str] = []
    _listeners.append(heard)
    try:
        yield heard
    finally:
        _listeners.remove(heard)


def _steer() -> None:
    """What the libraries read from the environment when they are loaded is lwq's own, not the user's.

    Whoever swaps tensors under a graph must not have a graph replayed that was recorded before: llama.cpp reuses its
    graph from one window to the next, and CUDA graphs and RPC servers then repeat it without looking at its tensors
    (src/llama-context.cpp, ggml-cuda.cu ``ggml_cuda_graph_update_required``, ggml-rpc.cpp ``graph_compute``).
    """
    for name in [n for n in os.environ if n.startswith(_STEERING)]:
        del os.environ[name]
    os.environ |= {"LLAMA_GRAPH_REUSE_DISABLE": "1", "GGML_CUDA_DISABLE_GRAPHS": "1"}


def _check_libraries(llama_cpp: Any, toolchain: Toolchain) -> None:
    """Every library of llama.cpp in this process is the toolchain's own, and of the pinned commit.

    ``LD_LIBRARY_PATH`` goes before the place that is written in libllama, so its libggml can be another's.
    """
    library = llama_cpp.llama_cpp._lib
    for loaded in sorted({Path(library._name).resolve(), *_mapped_libraries()}):
        if loaded.parent != toolchain.lib_dir.resolve():
            raise ToolchainError(
                f"{loaded.name} was loaded from {loaded.parent}, not from {toolchain.lib_dir}",
                hint="start a new process without LD_LIBRARY_PATH; one process works with one llama.cpp",
            )
    library.ggml_commit.restype = ctypes.c_char_p
    commit = library.ggml_commit().decode("utf-8", "replace")
    if not commit or not COMMIT.startswith(commit):
        raise ToolchainError(
            f"{toolchain.lib_dir}: its libggml says that it is of {commit or 'no commit'}, expected {COMMIT[:12]}",
            hint="`lwq toolchain build` makes the pinned one",
        )


def _mapped_libraries() -> set[Path]:
    """Files of llama.cpp's libraries in this process's memory, where the system tells (Linux)."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    files = {line.split(maxsplit=5)[5] for line in lines if line.count("/lib")}
    return {Path(file) for file in files if Path(file).name.startswith(("libllama", "libggml"))}


def _listen(llama_cpp: Any) -> None:
    """Native log lines go to who listens, errors are kept; what ggml says before it aborts goes to stderr."""

    def log(level: int, text: bytes, _: Any) -> None:
        for heard in _listeners:
            heard.append(text.decode("utf-8", "replace"))
        if level == _LEVEL_ERROR and (line := text.decode("utf-8", "replace").strip()):
            _errors.append(line)

    def give_up(message: bytes) -> None:
        os.write(2, LAST_WORD.encode() + b" ".join(message.split()) + b"\n")

    hearing, giving_up = llama_cpp.llama_log_callback(log), ctypes.CFUNCTYPE(None, ctypes.c_char_p)(give_up)
    _kept.extend((hearing, giving_up))
    llama_cpp.llama_log_set(hearing, ctypes.c_void_p(0))
    llama_cpp.llama_cpp._lib.ggml_set_abort_callback(giving_up)
