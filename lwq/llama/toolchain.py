"""Which llama.cpp is used, and the proof that it is whole: our own pinned build, or one that the user names."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from lwq.errors import FileError, ToolchainError, UsageError
from lwq.llama.confinement import Limits, computing
from lwq.llama.devices import CPU, RPC, Device, check_form, find_device
from lwq.llama.process import run_tool
from lwq.llama.source_tree import Pin
from lwq.record.provenance import ToolchainFacts
from lwq.store.cache import is_sealed_or_older, read_sealed, sealed, write_sealed
from lwq.store.files import os_errors, read_json, sha256_file

COMMIT: Final = "0c1e57098bba43ac29e6e3b677cdceebdd22334f"
BINDINGS_VERSION: Final = "0.3.36"
SDIST: Final = f"llama-cpp-python=={BINDINGS_VERSION}"
PIN: Final = Pin(commit=COMMIT, url="https://github.com/ggml-org/llama.cpp", sdist=SDIST)
PROGRAMS: Final = (
    "llama-imatrix", "llama-quantize", "llama-perplexity", "llama-bench", "llama-gguf-split", "llama-tokenize",
)  # fmt: skip
_GPU_BACKENDS: Final = ("cuda", "metal", "vulkan")
REMOTE: Final = "rpc"
"""The backend that computes on devices of other processes; used only where it is asked for."""
RPC_SERVER: Final = "ggml-rpc-server"
MANIFEST: Final = "manifest.json"
SCHEMA: Final = 1
_MANIFEST_KEYS: Final = frozenset({"commit", "backend", "flags", "compiler", "files"})
_LIBRARIES: Final = ("libllama*", "libggml*", "libmtmd*")
_NEEDED_OPTIONS: Final = {
    "llama-quantize": ("--tensor-type-file", "--prune-layers", "--dry-run", "--override-kv"),
    "llama-perplexity": ("--kl-divergence-base", "--multiple-choice"),
    "llama-imatrix": ("--show-statistics",),
    "llama-bench": ("--output",),
}
_COMMIT_OF_LIBRARY: Final = (
    "import ctypes, sys; g = ctypes.CDLL(sys.argv[1]); g.ggml_commit.restype = ctypes.c_char_p; "
    "print(g.ggml_commit().decode())"
)
_BUILD_HINT: Final = "`lwq toolchain build` makes it (minutes)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolchain:
    """A llama.cpp whose programs and libraries were checked."""

    bin_dir: Path
    lib_dir: Path
    commit: str
    backend: str
    flags: tuple[str, ...]
    compiler: str
    stock: bool
    """Built by lwq at the pinned commit."""
    manifest_sha256: str
    device: Device = CPU
    """On which its programs and libraries compute."""

    def program(self, name: str) -> Path:
        """Absolute path of a program."""
        return self.bin_dir / name

    @property
    def identity(self) -> dict[str, object]:
        """What of it can change a result, and so is in every key; no path and no host."""
        known: dict[str, object] = {
            "commit": self.commit,
            "backend": self.backend,
            "flags": list(self.flags),
            "compiler": self.compiler,
            **self.device.facts,
        }
        return known if self.stock else {**known, "programs": self.manifest_sha256}

    @property
    def limits(self) -> Limits:
        """What its programs, and processes that load its libraries, may do."""
        return computing(on_cpu=self.device.is_cpu, elsewhere=bool(self.device.servers))

    @property
    def facts(self) -> ToolchainFacts:
        """What a card says of it."""
        return ToolchainFacts(
            commit=self.commit,
            backend=self.backend,
            flags=self.flags,
            compiler=self.compiler,
            stock=self.stock,
            device=self.device.label,
        )


def home() -> Path:
    """The folder of all that lwq keeps: ``LWQ_HOME``, else the user's cache; UsageError where a user has no home."""
    import platformdirs

    try:
        folder = os.path.expanduser(os.environ.get("LWQ_HOME") or platformdirs.user_cache_dir("lwq"))
    except RuntimeError:
        folder = "~"
    if folder.startswith("~"):
        raise UsageError(f"{folder}: whose home is that?", hint="set LWQ_HOME to a folder for the cache")
    return Path(folder).absolute()


def source_folder() -> Path:
    """Where the source belongs: the submodule of a checkout, else a folder in the cache."""
    root = Path(__file__).resolve().parents[2]
    if (root / ".gitmodules").is_file() and (root / ".git").exists():
        return root / "vendor" / "llama.cpp"
    return home_source()


def home_source() -> Path:
    """Where the source is kept outside a checkout."""
    return home() / "src" / f"llama.cpp-{COMMIT[:12]}"


def find(llama_dir: Path | None = None, *, backend: str = "") -> Toolchain:
    """The llama.cpp to use: ``llama_dir``, then ``LWQ_LLAMA_DIR``, then our own newest build.

    Starts no process for our own build, nor for a given one that was checked before.

    Args:
        backend: only our own build of that backend; any but ``rpc`` when empty.

    Raises:
        ToolchainError: none, half of one, a damaged one, or one that lacks what lwq needs.
    """
    given = llama_dir or (Path(os.environ["LWQ_LLAMA_DIR"]) if os.environ.get("LWQ_LLAMA_DIR") else None)
    if given is not None and not backend:
        return _given(given.expanduser().absolute())
    built = home().glob(f"toolchains/{COMMIT[:12]}-{backend or '*'}-*/{MANIFEST}")
    wanted = (p for p in built if backend or not p.parent.name.startswith(f"{COMMIT[:12]}-{REMOTE}-"))
    manifests = sorted(wanted, key=lambda p: p.stat().st_mtime)
    faults = []
    for manifest in reversed(manifests):
        try:
            return read_manifest(manifest)
        except (ToolchainError, FileError) as error:
            faults.append(error.message)
    if faults:
        raise ToolchainError("\n".join(faults), hint=_BUILD_HINT)
    of_backend = f" for {backend}" if backend else ""
    hint = f"`lwq toolchain build --backend {backend}` makes it (minutes)" if backend else _BUILD_HINT
    raise ToolchainError(f"{home() / 'toolchains'}: no llama.cpp {COMMIT[:12]} is built{of_backend}", hint=hint)


def find_server() -> Toolchain:
    """Our own build whose RPC server lends what this machine has: one for its GPUs where there is one.

    Raises:
        ToolchainError: none is built.
    """
    for backend in _GPU_BACKENDS:
        if any(home().glob(f"toolchains/{COMMIT[:12]}-{backend}-*/bin/{RPC_SERVER}")):
            return find(backend=backend)
    return find(backend=REMOTE)


def find_for(device: str, llama_dir: Path | None = None) -> Toolchain:
    """The llama.cpp to use on a device (``devices.FORMS``).

    Starts a process, which lists devices, for all but our own build for the CPU.

    Raises:
        UsageError: what names no device.
        ToolchainError: as of ``find``; a device that the build does not see.
    """
    check_form(device)
    backend = ""
    if llama_dir is None and not os.environ.get("LWQ_LLAMA_DIR"):
        backends = (REMOTE,) if device.startswith(RPC) else _GPU_BACKENDS if device.startswith("gpu") else ()
        built = (b for b in backends if any(home().glob(f"toolchains/{COMMIT[:12]}-{b}-*/{MANIFEST}")))
        backend = next(built, REMOTE if device.startswith(RPC) else "")
    toolchain = find(llama_dir, backend=backend)
    found = find_device(toolchain.program("llama-perplexity"), device, toolchain.backend)
    return replace(toolchain, device=found)


def read_manifest(manifest: Path) -> Toolchain:
    """The toolchain of a manifest, if every file is what it was when it was built."""
    stored = read_json(manifest)
    if not isinstance(stored, dict) or stored.get("schema") != SCHEMA or stored.get("cpu") != cpu_digest():
        raise ToolchainError(f"{manifest}: was built for another machine or by another lwq", hint=_BUILD_HINT)
    if not is_sealed_or_older(stored):
        raise ToolchainError(f"{manifest}: changed since it was written", hint=_BUILD_HINT)
    if lacking := _MANIFEST_KEYS - stored.keys():
        raise ToolchainError(f"{manifest}: lacks {', '.join(sorted(lacking))}", hint=_BUILD_HINT)
    folder, files, links = manifest.parent / "bin", stored["files"], stored.get("links", {})
    parts = (files, links, *files.values()) if isinstance(files, dict) else (files,)
    if not all(isinstance(part, dict) for part in parts) or not isinstance(stored["flags"], list):
        raise ToolchainError(f"{manifest}: is not as a build leaves it", hint=_BUILD_HINT)
    if missing := [name for name in PROGRAMS if name not in files]:
        raise ToolchainError(f"{manifest}: does not list {', '.join(missing)}", hint=_BUILD_HINT)
    for name, facts in files.items():
        _check_file(folder / name, facts)
    for name, target in links.items():
        if not (folder / name).is_symlink() or os.readlink(folder / name) != target:
            raise ToolchainError(f"{folder / name}: no longer names {target}", hint=_BUILD_HINT)
    return Toolchain(
        bin_dir=folder,
        lib_dir=folder,
        commit=stored["commit"],
        backend=stored["backend"],
        flags=tuple(stored["flags"]),
        compiler=stored["compiler"],
        stock=True,
        manifest_sha256=_digest(stored["files"]),
    )


def _check_file(path: Path, facts: Mapping[str, Any]) -> None:
    if not path.is_file() or path.stat().st_size != facts.get("n_bytes"):
        raise ToolchainError(f"{path}: missing or of another size than when it was built", hint=_BUILD_HINT)
    if sha256_file(path, memo=home() / "hashes.sqlite") != facts.get("sha256"):
        raise ToolchainError(f"{path}: changed since it was built", hint=_BUILD_HINT)


def cpu_digest() -> str:
    """Short hash of the CPU's features: a native build runs only where they are the same."""
    from lwq.llama.machine import cpu_features

    return hashlib.sha256(" ".join(cpu_features()).encode()).hexdigest()[:16]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _given(folder: Path) -> Toolchain:
    """An installed llama.cpp, after checking programs, options and libraries (once for each version of its files)."""
    bin_dir = next((d for d in (folder / "bin", folder) if (d / PROGRAMS[0]).is_file()), None)
    if bin_dir is None:
        raise ToolchainError(f"{folder}: no {PROGRAMS[0]} in it or its bin/", hint="name a llama.cpp installation")
    if missing := [name for name in PROGRAMS if not os.access(bin_dir / name, os.X_OK)]:
        hint = "build these targets too, or drop --llama-dir"
        raise ToolchainError(f"{bin_dir}: lacks {', '.join(missing)}", hint=hint)
    lib_dir = next((d for d in (folder / "lib", bin_dir, folder) if list(d.glob("libllama.*"))), bin_dir)
    libraries = (path for pattern in _LIBRARIES for path in lib_dir.glob(pattern) if path.is_file())
    parts = (*(bin_dir / name for name in PROGRAMS), *sorted(libraries))
    hashes = {path.name: sha256_file(path, memo=home() / "hashes.sqlite") for path in parts}
    memo = home() / "given" / f"{_digest([str(folder), hashes])[:24]}.json"
    known = read_sealed(memo)
    if known is None:
        _check_options(bin_dir)
        known = {"commit": _commit_of(lib_dir)}
        with os_errors("note what was checked", memo):
            memo.parent.mkdir(parents=True, exist_ok=True)
        write_sealed(memo, known)
    return Toolchain(
        bin_dir=bin_dir,
        lib_dir=lib_dir,
        commit=str(known["commit"]),
        backend="given",
        flags=(),
        compiler="unknown",
        stock=False,
        manifest_sha256=_digest(hashes),
    )


def _check_options(bin_dir: Path) -> None:
    for name, options in _NEEDED_OPTIONS.items():
        done = run_tool((str(bin_dir / name), "--help"), cwd=bin_dir, check=False, limits=Limits(stall_seconds=60))
        usage = done.stdout + done.stderr
        if lacking := [option for option in options if option not in usage]:
            hint = f"it is too old or no llama.cpp; the pinned commit is {COMMIT[:12]}"
            raise ToolchainError(f"{bin_dir / name}: has no {', '.join(lacking)}", hint=hint)


def _commit_of(lib_dir: Path) -> str:
    """What libggml-base says of itself, asked in a process of its own; ``unknown`` where it does not say."""
    libraries = sorted(lib_dir.glob("libggml-base.so*")) or sorted(lib_dir.glob("libggml-base*.dylib"))
    if not libraries:
        return "unknown"
    command = (sys.executable, "-c", _COMMIT_OF_LIBRARY, str(libraries[0]))
    done = run_tool(command, cwd=lib_dir, check=False, limits=Limits(stall_seconds=60))
    return done.stdout.strip() or "unknown"


def manifest_of(folder: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest of a finished build: facts, and hash and size of each program and library in ``folder/bin``."""
    paths = sorted((folder / "bin").iterdir())
    links = {p.name: os.readlink(p) for p in paths if p.is_symlink()}
    files = {
        p.name: {"sha256": sha256_file(p), "n_bytes": p.stat().st_size}
        for p in paths
        if p.is_file() and not p.is_symlink()
    }
    return sealed({"schema": SCHEMA, "commit": COMMIT, "cpu": cpu_digest(), "files": files, "links": links, **facts})
