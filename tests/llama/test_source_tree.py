"""The pinned source: from GitHub or out of the sdist, as that very commit or not at all.

A local repository stands in for GitHub and a local sdist for PyPI; git and pip are the real ones.
"""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from lwq.errors import DownloadError, ToolchainError
from lwq.llama.source_tree import Pin, copy_commit, fill_source
from tests.tiny_llama import SOURCES, commit, git

NOWHERE = "file:///nowhere/at/all"
NO_SDIST = "lwq-no-such-sdist==1.0"
BACKEND = """import os
def prepare_metadata_for_build_wheel(folder, settings=None):
    name = "llama_stand_in-1.0.dist-info"
    os.makedirs(os.path.join(folder, name))
    with open(os.path.join(folder, name, "METADATA"), "w") as file:
        file.write("Metadata-Version: 2.1\\nName: llama-stand-in\\nVersion: 1.0\\n")
    return name
"""
PYPROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
PKG_INFO = "Metadata-Version: 2.1\nName: llama-stand-in\nVersion: 1.0\n"


@pytest.fixture
def github(tmp_path: Path) -> Path:
    """A repository with two commits; the first is the pinned one."""
    folder = tmp_path / "github"
    commit(folder, SOURCES)
    commit(folder, {"llama.c": "newer\n"})
    return folder


def pin_of(github: Path, *, url: str = "", sdist: str = NO_SDIST) -> Pin:
    return Pin(commit=git(github, "rev-parse", "HEAD~1"), url=url or f"file://{github}", sdist=sdist)


def checkout(folder: Path, github: Path, pinned: str) -> Path:
    """A repository whose submodule vendor/llama.cpp is pinned and not yet filled."""
    lines = '[submodule "vendor/llama.cpp"]\n\tpath = vendor/llama.cpp\n\turl = https://example.invalid/llama.cpp\n'
    commit(folder, {".gitmodules": lines})
    git(folder, "update-index", "--add", "--cacheinfo", f"160000,{pinned},vendor/llama.cpp")
    git(folder, "commit", "--quiet", "--message", "pin")
    return folder / "vendor" / "llama.cpp"


def is_pinned(target: Path, pin: Pin) -> bool:
    whole = all((target / name).read_text(encoding="utf-8") == text for name, text in SOURCES.items())
    return whole and git(target, "rev-parse", "HEAD") == pin.commit and not git(target, "status", "--porcelain")


def test_clone_holds_exactly_the_pinned_commit(github: Path, tmp_path: Path) -> None:
    pin, target = pin_of(github), tmp_path / "src" / "llama.cpp"
    told: list[str] = []
    for _ in range(2):
        fill_source(target, pin, scratch=tmp_path / "src", on_progress=lambda what, *_: told.append(what))
    assert is_pinned(target, pin)
    assert told == ["fetching llama.cpp from GitHub"]
    assert sorted(path.name for path in (tmp_path / "src").iterdir()) == ["llama.cpp", "source.lock"]


def test_submodule_is_filled_and_the_checkout_stays_clean(github: Path, tmp_path: Path) -> None:
    pin = pin_of(github)
    target = checkout(tmp_path / "ours", github, pin.commit)
    fill_source(target, pin, scratch=tmp_path / "src")
    assert is_pinned(target, pin)
    assert git(tmp_path / "ours", "status", "--porcelain") == ""
    assert git(target, "remote", "get-url", "origin") == "https://example.invalid/llama.cpp"


def test_checkout_that_pins_another_commit_is_refused(github: Path, tmp_path: Path) -> None:
    pin, other = pin_of(github), git(github, "rev-parse", "HEAD")
    target = checkout(tmp_path / "ours", github, other)
    with pytest.raises(ToolchainError, match=f"pins {other} as vendor/llama.cpp") as caught:
        fill_source(target, pin, scratch=tmp_path / "src")
    assert pin.commit in caught.value.message
    assert not target.exists() or not any(target.iterdir())


def test_clone_at_another_commit_is_replaced(github: Path, tmp_path: Path) -> None:
    pin, target = pin_of(github), tmp_path / "src" / "llama.cpp"
    git(tmp_path, "clone", "--quiet", f"file://{github}", str(target))
    fill_source(target, pin, scratch=tmp_path / "src")
    assert is_pinned(target, pin)


def test_edited_source_is_refused_and_kept(github: Path, tmp_path: Path) -> None:
    pin, target = pin_of(github), tmp_path / "src" / "llama.cpp"
    fill_source(target, pin, scratch=tmp_path / "src")
    (target / "program.c").write_text("mine\n")
    with pytest.raises(ToolchainError, match=r"differs from the pinned commit in 1 files:\n +M program\.c") as caught:
        fill_source(target, pin, scratch=tmp_path / "src")
    assert "stash" in caught.value.hint
    assert (target / "program.c").read_text() == "mine\n"


def test_checkout_that_was_broken_off_is_completed(github: Path, tmp_path: Path) -> None:
    pin, target = pin_of(github), tmp_path / "src" / "llama.cpp"
    fill_source(target, pin, scratch=tmp_path / "src")
    (target / "program.c").unlink()
    shutil.rmtree(github)
    fill_source(target, pin, scratch=tmp_path / "src")
    assert is_pinned(target, pin)


def test_submodule_whose_clone_was_broken_off_is_filled(github: Path, tmp_path: Path) -> None:
    pin = pin_of(github)
    target = checkout(tmp_path / "ours", github, pin.commit)
    module = tmp_path / "ours" / ".git" / "modules" / "vendor" / "llama.cpp"
    module.mkdir(parents=True)
    git(module, "init", "--quiet", "--bare")
    fill_source(target, pin, scratch=tmp_path / "src")
    assert is_pinned(target, pin)


def test_leftovers_of_a_killed_fetch_are_removed(github: Path, tmp_path: Path) -> None:
    left = tmp_path / "src" / ".source-abc" / "llama.cpp"
    left.mkdir(parents=True)
    fill_source(tmp_path / "src" / "llama.cpp", pin_of(github), scratch=tmp_path / "src")
    assert not left.parent.exists()


def make_sdist(folder: Path, github: Path, pinned: str) -> Path:
    """An sdist that carries the git folder of its submodule, as the one on PyPI does."""
    bare = folder / "bare"
    folder.mkdir()
    git(folder, "clone", "--quiet", "--bare", f"file://{github}", str(bare))
    git(bare, "update-ref", "--no-deref", "HEAD", pinned)
    archive = folder / "llama_stand_in-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as sdist:
        for name, text in (("PKG-INFO", PKG_INFO), ("pyproject.toml", PYPROJECT), ("backend.py", BACKEND)):
            member = tarfile.TarInfo(f"llama_stand_in-1.0/{name}")
            member.size = len(text.encode())
            sdist.addfile(member, io.BytesIO(text.encode()))
        sdist.add(bare, "llama_stand_in-1.0/.git/modules/vendor/llama.cpp")
    shutil.rmtree(bare)
    return archive


@pytest.fixture
def offline_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for the only index."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "pypi"))
    return tmp_path / "pypi"


def test_where_github_does_not_answer_the_sdist_has_it(github: Path, tmp_path: Path, offline_pip: Path) -> None:
    pin = pin_of(github, url=NOWHERE, sdist="llama-stand-in==1.0")
    make_sdist(offline_pip, github, pin.commit)
    in_checkout, in_cache = checkout(tmp_path / "ours", github, pin.commit), tmp_path / "src" / "llama.cpp"
    for target in (in_checkout, in_cache):
        fill_source(target, pin, scratch=tmp_path / "src")
        assert is_pinned(target, pin)
    assert sorted(path.name for path in (tmp_path / "src").iterdir()) == ["llama.cpp", "source.lock"]


def test_sdist_of_another_commit_is_refused(github: Path, tmp_path: Path, offline_pip: Path) -> None:
    real = pin_of(github)
    make_sdist(offline_pip, github, real.commit)
    wanted = Pin(commit="0" * 39 + "1", url=NOWHERE, sdist="llama-stand-in==1.0")
    with pytest.raises(DownloadError, match="could not be fetched"):
        fill_source(tmp_path / "src" / "llama.cpp", wanted, scratch=tmp_path / "src")
    assert not (tmp_path / "src" / "llama.cpp").exists()


def test_where_no_place_has_it_both_reasons_are_told(tmp_path: Path, offline_pip: Path) -> None:
    pin = Pin(commit="0" * 39 + "1", url=NOWHERE, sdist=NO_SDIST)
    with pytest.raises(DownloadError) as caught:
        fill_source(tmp_path / "src" / "llama.cpp", pin, scratch=tmp_path / "src")
    assert "GitHub: git: exit status" in caught.value.message
    assert "PyPI: " in caught.value.message
    assert "--source FOLDER" in caught.value.hint


def test_copy_takes_the_commit_and_not_the_edits(github: Path, tmp_path: Path) -> None:
    pin = pin_of(github)
    git(github, "checkout", "--quiet", pin.commit)
    (github / "program.c").write_text("mine\n")
    assert is_pinned(copy_commit(github, tmp_path / "copy", pin.commit), pin)
