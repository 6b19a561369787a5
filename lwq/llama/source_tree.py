"""Fills a folder with the pinned llama.cpp source; git itself proves that it is that commit.

Objects come from GitHub or, where GitHub does not answer, out of the git folder that the sdist of
llama-cpp-python carries. They always travel as a pack (``file://``, never a path), so git computes
the hash of each.
"""

from __future__ import annotations

import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lwq.errors import DownloadError, ToolchainError, ToolError
from lwq.llama.confinement import Limits
from lwq.llama.machine import need_programs
from lwq.llama.process import Completed, run_tool
from lwq.store.files import lock, os_errors
from lwq.store.temporary import temporary_folder

OnProgress = Callable[[str, int, int], None]
"""Gets what is being done, units done, units in all (0: not known)."""

_PROBING: Final = Limits(stall_seconds=12.0, network=True)
_FETCHING: Final = Limits(stall_seconds=120.0, network=True)
_TEMPORARY: Final = ".source-"
_SDIST_GIT: Final = ".git/modules/vendor/llama.cpp/"
_SDIST_PARTS: Final = ("HEAD", "packed-refs", "shallow", "objects/", "refs/")
_GIT_ENVIRONMENT: Final = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_HTTP_LOW_SPEED_LIMIT": "1000",
    "GIT_HTTP_LOW_SPEED_TIME": "20",
    "GIT_ADVICE": "0",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """Which source, and the two places that have it."""

    commit: str
    url: str
    sdist: str
    """Requirement of the sdist whose git folder holds the commit, ``llama-cpp-python==0.3.36``."""


def quiet(what: str, done: int, total: int) -> None:
    """Ignores progress."""


def fill_source(target: Path, pin: Pin, *, scratch: Path, on_progress: OnProgress = quiet) -> Path:
    """``target``, holding exactly the pinned commit: as a submodule in a checkout, else as a clone.

    Args:
        scratch: folder for downloads, which are deleted at the end.

    Raises:
        DownloadError: neither place has it.
        ToolchainError: the folder was edited, the checkout pins another commit, or git is missing.
    """
    need_programs("git")
    with lock(scratch / "source.lock", on_wait=lambda: on_progress("waiting for another fetch", 0, 0)):
        for left in scratch.glob(f"{_TEMPORARY}*"):  # of a fetch that was killed
            shutil.rmtree(left)
        if not _is_whole(target, pin):
            _fill(target, pin, scratch, on_progress)
    return target


def _fill(target: Path, pin: Pin, scratch: Path, on_progress: OnProgress) -> None:
    root = _checkout_of(target)
    reasons = []
    for place, has_network in (("GitHub", True), ("PyPI", False)):
        on_progress(f"fetching llama.cpp from {place}", 0, 0)
        try:
            with _network(pin) if has_network else _sdist_objects(pin, scratch) as url:
                _fill_submodule(root, target, pin, url) if root else _fill_clone(target, pin.commit, url)
        except (ToolError, DownloadError) as error:
            reasons.append(f"{place}: {error.message}")
            continue
        if not _is_whole(target, pin):
            raise ToolchainError(f"{target}: git left another commit than {pin.commit} there")
        return
    raise DownloadError(
        f"{target}: llama.cpp {pin.commit[:12]} could not be fetched\n" + "\n".join(reasons),
        hint=f"check the network, or clone {pin.url} elsewhere and use `lwq toolchain build --source FOLDER`",
    )


def copy_commit(source: Path, target: Path, commit: str) -> Path:
    """``target``, a clone of the commit from the git folder of ``source`` (whose files are not looked at)."""
    need_programs("git")
    if _head(target) == commit and not _changes(target):
        return target
    if _head(source) != commit:
        raise ToolchainError(
            f"{source}: is not a git checkout of llama.cpp {commit}", hint=f"git -C {source} checkout {commit}"
        )
    _fill_clone(target, commit, f"file://{source.resolve()}")
    return target


def _is_whole(target: Path, pin: Pin) -> bool:
    """Whether the commit is checked out and nothing changed; edits are an error, missing files are not."""
    if _head(target) != pin.commit:
        return False
    changes = _changes(target)
    edited = tuple(line for line in changes if not line.startswith(" D"))
    if edited:
        shown = "\n".join(f"  {line}" for line in edited[:10])
        raise ToolchainError(
            f"{target}: differs from the pinned commit in {len(edited)} files:\n{shown}",
            hint=f"`git -C {target} stash --include-untracked` puts your changes aside",
        )
    if changes:  # a checkout that was broken off
        _git(target, "checkout", "--force", pin.commit, "--", ".")
    return True


def _head(folder: Path) -> str | None:
    if not (folder / ".git").exists():
        return None
    done = _git(folder, "rev-parse", "--verify", "HEAD", check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def _changes(folder: Path) -> tuple[str, ...]:
    return tuple(_git(folder, "status", "--porcelain").stdout.splitlines())


def _checkout_of(target: Path) -> Path | None:
    """Root of the checkout of lwq whose submodule ``target`` is."""
    root = target.absolute().parent.parent
    return root if (root / ".gitmodules").is_file() and (root / ".git").exists() else None


def _fill_submodule(root: Path, target: Path, pin: Pin, url: str) -> None:
    path = target.absolute().relative_to(root).as_posix()
    entry = _git(root, "ls-files", "--stage", "--", path).stdout.split()
    if len(entry) < 2 or entry[:2] != ["160000", pin.commit]:
        pinned = entry[1] if len(entry) > 1 else "nothing"
        raise ToolchainError(
            f"{root}: pins {pinned} as {path}, but this lwq is made for {pin.commit}",
            hint=f"`git -C {root} checkout -- {path}`, or move both pins together",
        )
    if _head(target) is not None:
        _git(target, "fetch", "--depth", "1", "--no-tags", url, pin.commit)
    else:
        _forget_broken_module(root, path)
    _git(root, "submodule", "init", path)
    options = ("-c", "protocol.file.allow=always", "-c", f"submodule.{path}.url={url}")
    _git(root, *options, "submodule", "update", "--depth", "1", path)
    _git(root, "submodule", "sync", path)


def _forget_broken_module(root: Path, path: str) -> None:
    """Removes the git folder of a submodule whose clone was broken off, which git would trip over."""
    common = _git(root, "rev-parse", "--path-format=absolute", "--git-common-dir").stdout.strip()
    module = Path(common) / "modules" / path
    if module.is_dir() and _git(module, "rev-parse", "--verify", "HEAD^{commit}", check=False).returncode != 0:
        shutil.rmtree(module)


def _fill_clone(target: Path, commit: str, url: str) -> None:
    """A shallow clone, made beside its place and moved there when complete."""
    with os_errors("make the source folder", target), _folder_in(target.parent) as folder:
        clone = folder / "llama.cpp"
        clone.mkdir()
        _git(clone, "init", "--quiet")
        _git(clone, "fetch", "--quiet", "--depth", "1", "--no-tags", url, commit)
        _git(clone, "-c", "advice.detachedHead=false", "checkout", "--quiet", "--detach", commit)
        if target.exists():
            shutil.rmtree(target)
        clone.rename(target)


@contextmanager
def _network(pin: Pin) -> Iterator[str]:
    """The public address, once it has answered; a silent network is given up after a few seconds."""
    with temporary_folder() as folder:
        _git(folder, "ls-remote", "--exit-code", pin.url, "HEAD", limits=_PROBING)
    yield pin.url


@contextmanager
def _sdist_objects(pin: Pin, scratch: Path) -> Iterator[str]:
    """Address of the git objects in the sdist, downloaded with this Python's pip; gone afterwards."""
    with os_errors("unpack llama.cpp", scratch), _folder_in(scratch) as folder:
        package = pin.sdist.partition("==")[0]
        pip = (sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", package, "--dest", ".", pin.sdist)
        run_tool(pip, cwd=folder, env={"CMAKE_ARGS": "-DLLAMA_BUILD=OFF"}, limits=_FETCHING)
        archives = tuple(folder.glob("*.tar.gz"))
        if len(archives) != 1:
            raise DownloadError(f"{pin.sdist}: pip brought {len(archives)} sdists, not one")
        repository = folder / "llama.cpp.git"
        _unpack_objects(archives[0], repository)
        archives[0].unlink()
        yield f"file://{repository.resolve()}"


def _unpack_objects(archive: Path, repository: Path) -> None:
    """Writes the git objects in the sdist as a bare repository; its own configuration is left out."""
    (repository / "refs").mkdir(parents=True)
    (repository / "objects").mkdir()
    try:
        with tarfile.open(archive, "r:gz") as sdist:
            for member in sdist:
                part = member.name.partition(_SDIST_GIT)[2]
                if not member.isfile() or not part.startswith(_SDIST_PARTS) or ".." in Path(part).parts:
                    continue
                content = sdist.extractfile(member)
                place = repository / part
                place.parent.mkdir(parents=True, exist_ok=True)
                with open(place, "wb") as file:
                    shutil.copyfileobj(content, file) if content else None
    except (tarfile.TarError, EOFError) as error:
        raise DownloadError(f"{archive.name}: is not a whole sdist: {error}") from error
    if not (repository / "HEAD").is_file():
        raise DownloadError(f"{archive.name}: holds no git folder of llama.cpp", hint="another sdist than expected")
    (repository / "config").write_text("[core]\n\trepositoryformatversion = 0\n\tbare = true\n", encoding="utf-8")


@contextmanager
def _folder_in(parent: Path) -> Iterator[Path]:
    parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(parent, prefix=_TEMPORARY) as folder:
        yield folder


def _git(folder: Path, *arguments: str, check: bool = True, limits: Limits = _FETCHING) -> Completed:
    (git,) = need_programs("git")
    argv: Sequence[str] = (str(git), *arguments)
    return run_tool(argv, cwd=folder, env=_GIT_ENVIRONMENT, limits=limits, check=check)
