"""Which llama.cpp is used: found without starting anything, checked, and told without paths."""

from __future__ import annotations

import json
import os
import platform
import shutil
from pathlib import Path
from typing import Any, NoReturn

import pytest

from lwq.errors import ToolchainError
from lwq.llama.toolchain import (
    COMMIT,
    MANIFEST,
    PROGRAMS,
    Toolchain,
    find,
    home,
    manifest_of,
    read_manifest,
    source_folder,
)
from lwq.store.cache import sealed
from lwq.store.files import write_json

HELP = {
    "llama-quantize": "--tensor-type-file --prune-layers --dry-run --override-kv",
    "llama-perplexity": "--kl-divergence-base --multiple-choice",
    "llama-imatrix": "--show-statistics",
    "llama-bench": "-o, --output",
}
FACTS = {"backend": "cpu", "flags": ["-DCMAKE_BUILD_TYPE=Release"], "compiler": "c++ 12.2.0"}


def write_programs(bin_dir: Path, *, without: str = "") -> Path:
    """Shell scripts that answer ``--help`` as the real programs do, and note in ``started`` that they ran."""
    bin_dir.mkdir(parents=True)
    for name in PROGRAMS:
        told = HELP.get(name, "").replace(without, "") if without else HELP.get(name, "")
        script = f'#!/bin/sh\necho {name} >> "{bin_dir.parent}/started"\necho "usage: {name} {told}"\n'
        (bin_dir / name).write_text(script, encoding="utf-8")
        (bin_dir / name).chmod(0o755)
        os.utime(bin_dir / name, (1_700_000_000,) * 2)
    return bin_dir


def install_own(name: str = f"{COMMIT[:12]}-cpu-12345678") -> Path:
    """A folder that looks like our own finished build; returns its manifest."""
    folder = home() / "toolchains" / name
    write_programs(folder / "bin")
    write_json(folder / MANIFEST, manifest_of(folder, FACTS))
    return folder / MANIFEST


def refuse(*arguments: Any, **options: Any) -> NoReturn:
    raise AssertionError(f"a process was started: {arguments}")


def edit(manifest: Path, **changes: object) -> None:
    write_json(manifest, sealed({**json.loads(manifest.read_text(encoding="utf-8")), **changes}))


def test_nothing_built_is_told_with_the_command_that_builds(guarded: Path) -> None:
    with pytest.raises(ToolchainError, match=f"no llama.cpp {COMMIT[:12]} is built") as caught:
        find()
    assert "`lwq toolchain build`" in caught.value.hint


def test_own_build_is_found_without_starting_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = install_own()
    monkeypatch.setattr("subprocess.Popen", refuse)
    found = find()
    assert found.program("llama-bench") == manifest.parent / "bin" / "llama-bench"
    assert (found.stock, found.commit, found.backend) == (True, COMMIT, "cpu")
    assert not (manifest.parent / "started").exists()


def test_identity_and_facts_hold_no_path_and_no_host(tmp_path: Path) -> None:
    install_own()
    given = find(write_programs(tmp_path / "given" / "bin").parent)
    for found in (find(), given):
        told = json.dumps(found.identity) + repr(found.facts)
        for private in (str(tmp_path), str(home()), str(Path.home()), platform.node()):
            assert private not in told
    assert find().identity == {"commit": COMMIT, **FACTS}


def test_newest_whole_build_is_used_and_a_damaged_one_passed_over() -> None:
    whole, damaged = install_own(), install_own(f"{COMMIT[:12]}-cuda-87654321")
    os.utime(whole, (1_700_000_000,) * 2)
    edit(damaged, backend="cuda")
    assert find().backend == "cuda"
    (damaged.parent / "bin" / "llama-bench").unlink()
    assert find().backend == "cpu"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cpu": "0123456789abcdef"}, "another machine"),
        ({"schema": 99}, "another lwq"),
        ({"files": {}}, "does not list llama-imatrix"),
        ({"files": 1}, "is not as a build leaves it"),
        ({"files": {"llama-bench": 1}}, "is not as a build leaves it"),
        ({"links": []}, "is not as a build leaves it"),
        ({"flags": None}, "is not as a build leaves it"),
        ({"files": {name: {} for name in PROGRAMS}}, "missing or of another size"),
    ],
)
def test_manifest_that_does_not_fit_is_refused(changes: dict[str, object], words: str) -> None:
    manifest = install_own()
    edit(manifest, **changes)
    with pytest.raises(ToolchainError, match=words):
        read_manifest(manifest)


@pytest.mark.parametrize(("before", "after"), [("Release", "Releasf"), ("12.2.0", "12.2.1"), ('"cpu"', '"cqu"')])
def test_manifest_of_which_a_byte_changed_is_refused(before: str, after: str) -> None:
    """Flags, compiler and backend are in the keys of all steps and on the card."""
    manifest = install_own()
    text = manifest.read_text(encoding="utf-8")
    assert before in text
    manifest.write_text(text.replace(before, after), encoding="utf-8")
    with pytest.raises(ToolchainError, match=r"changed since it was written|another machine"):
        read_manifest(manifest)


def test_manifest_of_before_there_were_seals_is_read() -> None:
    manifest = install_own()
    stored = json.loads(manifest.read_text(encoding="utf-8"))
    del stored["seal"]
    write_json(manifest, stored)
    assert read_manifest(manifest).backend == "cpu"


def test_program_of_same_size_with_other_bytes_is_refused() -> None:
    manifest = install_own()
    find()
    program = manifest.parent / "bin" / "llama-bench"
    program.write_bytes(program.read_bytes().replace(b"usage", b"USAGE"))
    with pytest.raises(ToolchainError, match="llama-bench: changed since it was built"):
        find()


def test_rpc_build_is_used_only_where_it_is_asked_for() -> None:
    remote = install_own(f"{COMMIT[:12]}-rpc-12345678")
    with pytest.raises(ToolchainError, match="no llama.cpp"):
        find()
    own = install_own()
    os.utime(own, (1_600_000_000,) * 2)
    os.utime(remote, (1_700_000_000,) * 2)
    assert find().bin_dir == own.parent / "bin"
    assert find(backend="rpc").bin_dir == remote.parent / "bin"


@pytest.mark.parametrize("inside", ["bin", "."])
def test_given_folder_is_examined_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str) -> None:
    bin_dir = write_programs(tmp_path / "llama" / inside if inside == "bin" else tmp_path / "llama")
    monkeypatch.setenv("LWQ_LLAMA_DIR", str(tmp_path / "llama"))
    first = find()
    started = bin_dir.parent / "started"
    n_started = len(started.read_text().splitlines())
    assert (first.bin_dir, first.stock, first.commit, n_started) == (bin_dir, False, "unknown", len(HELP))
    assert find() == first
    assert len(started.read_text().splitlines()) == n_started


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"commit": "abc", "seal": ""}', b"\xff", b"[]"])
def test_note_of_a_given_folder_that_is_damaged_is_made_again(tmp_path: Path, damage: bytes) -> None:
    given = write_programs(tmp_path / "llama" / "bin").parent
    whole = find(given)
    (note,) = (home() / "given").iterdir()
    good = note.read_bytes()
    note.write_bytes(damage)
    assert find(given) == whole
    assert note.read_bytes() == good


def test_option_goes_before_variable_and_own_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_own()
    one, two = (write_programs(tmp_path / name / "bin") for name in ("one", "two"))
    monkeypatch.setenv("LWQ_LLAMA_DIR", str(one.parent))
    assert find(two.parent).bin_dir == two
    assert find().bin_dir == one
    monkeypatch.delenv("LWQ_LLAMA_DIR")
    assert find().stock


def test_given_program_or_library_that_changes_is_another_identity(tmp_path: Path) -> None:
    bin_dir = write_programs(tmp_path / "llama" / "bin")
    library = tmp_path / "llama" / "lib" / "libllama.so"
    library.parent.mkdir()
    library.write_bytes(b"one")
    seen = [find(tmp_path / "llama")]
    assert seen[0].lib_dir == library.parent
    library.write_bytes(b"another")
    seen.append(find(tmp_path / "llama"))
    with open(bin_dir / "llama-quantize", "a", encoding="utf-8") as file:
        file.write("# newer\n")
    seen.append(find(tmp_path / "llama"))
    assert len({json.dumps(found.identity, sort_keys=True) for found in seen}) == 3


@pytest.mark.parametrize(
    "option", sorted({word.strip(",") for text in HELP.values() for word in text.split()} - {"-o"})
)
def test_given_folder_without_a_needed_option_is_refused_each_time(tmp_path: Path, option: str) -> None:
    folder = write_programs(tmp_path / "llama" / "bin", without=option).parent
    for _ in range(2):
        with pytest.raises(ToolchainError, match=f"has no {option}"):
            find(folder)


def test_given_folder_without_a_program_is_refused(tmp_path: Path) -> None:
    bin_dir = write_programs(tmp_path / "llama" / "bin")
    (bin_dir / "llama-tokenize").unlink()
    (bin_dir / "llama-bench").chmod(0o644)
    with pytest.raises(ToolchainError, match="lacks llama-bench, llama-tokenize"):
        find(bin_dir.parent)
    with pytest.raises(ToolchainError, match="no llama-imatrix in it"):
        find(tmp_path)


def test_source_of_a_checkout_is_its_submodule() -> None:
    assert source_folder() == Path(__file__).resolve().parents[2] / "vendor" / "llama.cpp"


@pytest.mark.tools
def test_real_folder_given_by_the_user_tells_its_commit(toolchain: Toolchain, tmp_path: Path) -> None:
    shutil.copytree(toolchain.bin_dir, tmp_path / "llama", symlinks=True)
    found = find(tmp_path / "llama")
    assert not found.stock
    assert COMMIT.startswith(found.commit)
    assert len(found.commit) >= 7
