"""Building: what is chosen, and that only a whole build ever counts.

A tiny CMake project stands in for llama.cpp; git, CMake, builder and compiler are the real ones.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from lwq.errors import ToolchainError
from lwq.llama.build import BASE_FLAGS, backend_flags, build, cpu_flags, detect_backend, make_plan
from lwq.llama.machine import Gpu, Hardware, look
from lwq.llama.process import run_tool
from lwq.llama.toolchain import MANIFEST, PROGRAMS, find
from tests.tiny_llama import SOURCES, commit

H100 = Gpu(name="NVIDIA H100", compute_capability="9.0")
LINUX = Hardware(system="Linux", architecture="x86_64")
CUDA = Hardware(system="Linux", architecture="x86_64", has_nvcc=True, gpus=(H100, H100))
VULKAN = Hardware(
    system="Linux", architecture="x86_64", has_glslc=True, has_vulkan_headers=True, has_vulkan_device=True
)
MAC = Hardware(system="Darwin", architecture="arm64")
BUILD = (
    "import sys; from pathlib import Path; import lwq.llama.toolchain as t; t.COMMIT = sys.argv[1]\n"
    "from lwq.llama.build import build; build(backend='cpu', jobs=2, source=Path(sys.argv[2]))"
)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose commit is the pinned one for this test."""
    folder = tmp_path / "tiny"
    pinned = commit(folder, SOURCES)
    monkeypatch.setattr("lwq.llama.toolchain.COMMIT", pinned)
    monkeypatch.setattr("lwq.llama.build.COMMIT", pinned)
    return folder


class Told:
    """What a build said while it ran."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, int, int]] = []

    def __call__(self, what: str, done: int, total: int) -> None:
        self.lines.append((what, done, total))

    @property
    def total(self) -> int:
        return max((total for what, _, total in self.lines if what == "building llama.cpp"), default=0)


@pytest.mark.parametrize(
    ("machine", "backend"),
    [
        (LINUX, "cpu"),
        (MAC, "metal"),
        (CUDA, "cuda"),
        (Hardware(system="Linux", architecture="x86_64", has_nvcc=True), "cpu"),
        (Hardware(system="Linux", architecture="x86_64", gpus=(H100,)), "cpu"),
        (VULKAN, "vulkan"),
        (Hardware(system="Linux", architecture="x86_64", has_glslc=True, has_vulkan_headers=True), "cpu"),
    ],
)
def test_backend_is_what_can_be_built_and_run(machine: Hardware, backend: str) -> None:
    assert detect_backend(machine) == backend


def test_flags_of_each_backend() -> None:
    assert backend_flags("cpu", LINUX) == ()
    assert backend_flags("cpu", MAC) == ("-DGGML_METAL=OFF",)
    assert backend_flags("cuda", CUDA) == ("-DGGML_CUDA=ON", "-DCMAKE_CUDA_ARCHITECTURES=90", "-DGGML_RPC=ON")
    assert backend_flags("vulkan", VULKAN) == ("-DGGML_VULKAN=ON", "-DGGML_RPC=ON")
    assert {"-DGGML_METAL=ON", "-DGGML_RPC=ON"} <= set(backend_flags("metal", MAC))
    assert {"-DBUILD_SHARED_LIBS=ON", "-DLLAMA_CURL=OFF", "-DCMAKE_BUILD_TYPE=Release"} <= set(BASE_FLAGS)


def test_code_for_amx_is_left_out_where_the_cpu_has_it() -> None:
    assert cpu_flags(("x86_64", "avx2", "avx512f")) == ()
    flags = cpu_flags(("x86_64", "amx_bf16", "amx_int8", "amx_tile", "avx2"))
    assert flags == tuple(f"-DCMAKE_{name}_FLAGS_RELEASE=-O3 -DNDEBUG -U__AMX_INT8__" for name in ("C", "CXX"))


@pytest.mark.parametrize("backend", ["metal", "cuda", "vulkan"])
def test_backend_that_cannot_be_built_is_refused_with_a_way_out(backend: str) -> None:
    with pytest.raises(ToolchainError, match=f"--backend {backend}") as caught:
        backend_flags(backend, LINUX)
    assert caught.value.hint


def test_name_depends_on_flags_and_not_on_the_source_folder(tmp_path: Path) -> None:
    names = [make_plan(look(), "cpu", tmp_path / folder).name for folder in ("one", "two")]
    assert names[0] == names[1]
    assert make_plan(VULKAN, "vulkan", tmp_path).name.rpartition("-")[2] != names[0].rpartition("-")[2]


def test_finished_build_can_be_moved_and_is_made_once(tiny: Path, guarded: Path, tmp_path: Path) -> None:
    first, again = Told(), Told()
    built = build(backend="cpu", jobs=2, source=tiny, on_progress=first)
    assert first.total >= len(PROGRAMS)
    assert find() == built
    assert build(backend="cpu", source=tiny, on_progress=again) == built
    assert again.lines == []
    assert not [path for path in (guarded / "build").iterdir() if path.is_dir()]
    shutil.rmtree(guarded / "src")
    moved = shutil.move(guarded / "toolchains", tmp_path / "elsewhere")
    for name in PROGRAMS:
        (program,) = Path(moved).glob(f"*/bin/{name}")
        assert run_tool((str(program),), cwd=tmp_path).stdout == "usage: tiny\n"


def test_corrupted_build_is_refused_and_made_again(tiny: Path) -> None:
    built = build(backend="cpu", source=tiny)
    library = next(path for path in built.lib_dir.iterdir() if path.is_file() and not path.is_symlink())
    raw = bytearray(library.read_bytes())
    raw[len(raw) // 2] ^= 1
    library.write_bytes(raw)
    with pytest.raises(ToolchainError, match="changed since it was built"):
        find()
    told = Told()
    assert build(backend="cpu", source=tiny, on_progress=told) == built
    assert told.lines[0][0] == "the installed build is damaged; building it again"
    assert find() == built


@pytest.mark.parametrize("damage", ["no program", "no link", "cut manifest", "empty manifest", "cut program"])
def test_build_that_lost_something_is_refused_and_made_again(tiny: Path, damage: str) -> None:
    built = build(backend="cpu", source=tiny)
    manifest, program = built.bin_dir.parent / MANIFEST, built.program("llama-bench")
    if damage == "no program":
        program.unlink()
    elif damage == "no link":
        next(path for path in built.lib_dir.iterdir() if path.is_symlink()).unlink()
    elif damage == "cut manifest":
        manifest.write_bytes(manifest.read_bytes()[:-100])
    elif damage == "empty manifest":
        manifest.write_text('{"schema": 1}')
    else:
        program.write_bytes(program.read_bytes()[:-1])
    with pytest.raises(ToolchainError) as caught:
        find()
    assert "lwq toolchain build" in caught.value.hint
    assert build(backend="cpu", source=tiny) == built


def start_held_build(tiny: Path, gate: Path) -> subprocess.Popen[bytes]:
    """Another process whose build is held back in the middle."""
    import lwq.llama.toolchain

    gate.mkdir()
    root = str(Path(__file__).parents[2])
    held = subprocess.Popen(
        (sys.executable, "-c", BUILD, lwq.llama.toolchain.COMMIT, str(tiny)),
        env={**os.environ, "PYTHONPATH": root, "GATE": str(gate)},
    )
    end = time.monotonic() + 60
    while not (gate / "reached").exists():
        assert held.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)
    return held


def test_killed_build_never_counts_and_goes_on(tiny: Path, guarded: Path, tmp_path: Path) -> None:
    whole = Told()
    build(backend="cpu", jobs=2, source=tiny, on_progress=whole)
    shutil.rmtree(guarded / "toolchains")
    gate = tmp_path / "gate"
    held = start_held_build(tiny, gate)
    held.kill()
    held.wait()
    with pytest.raises(ToolchainError, match="is built"):
        find()
    if sys.platform == "linux":  # elsewhere nothing ties the builder's life to ours
        wait_for_end(int((gate / "pid").read_text()))
    (gate / "open").touch()
    rest = Told()
    built = build(backend="cpu", jobs=2, source=tiny, on_progress=rest)
    assert 0 < rest.total < whole.total
    assert find() == built


def wait_for_end(pid: int) -> None:
    """Returns when the process has ended."""
    end = time.monotonic() + 10
    with suppress(psutil.NoSuchProcess):  # it may end while it is looked at
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < end, "the builder outlived lwq"
            time.sleep(0.05)


def test_second_build_waits_and_finds_the_first(tiny: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    held, told = start_held_build(tiny, gate), Told()
    opener = threading.Timer(1.0, (gate / "open").touch)
    opener.start()
    found = build(backend="cpu", source=tiny, on_progress=told)
    opener.join()
    assert held.wait() == 0
    assert [line[0] for line in told.lines] == ["waiting for another build"]
    assert find() == found


def test_half_done_build_of_another_source_folder_starts_afresh(
    tiny: Path, guarded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = start_held_build(tiny, tmp_path / "gate")
    held.kill()
    held.wait()
    monkeypatch.setattr("lwq.llama.build.home_source", lambda: tmp_path / "other" / "llama.cpp")
    shutil.rmtree(guarded / "src")
    assert build(backend="cpu", source=tiny) == find()


def test_source_at_another_commit_is_refused(tiny: Path) -> None:
    commit(tiny, {"llama.c": 'const char *answer(void) { return "something else"; }\n'})
    with pytest.raises(ToolchainError, match="is not a git checkout of llama") as caught:
        build(backend="cpu", source=tiny)
    assert "checkout" in caught.value.hint


def test_failed_compiler_is_told_and_nothing_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = commit(tmp_path / "broken", {**SOURCES, "program.c": "int main(void) { return nonsense; }\n"})
    for module in ("toolchain", "build"):
        monkeypatch.setattr(f"lwq.llama.{module}.COMMIT", pinned)
    with pytest.raises(ToolchainError, match="nonsense") as caught:
        build(backend="cpu", source=tmp_path / "broken")
    assert "run the same command again" in caught.value.hint
    with pytest.raises(ToolchainError, match="is built"):
        find()
