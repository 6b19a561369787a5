"""sdist and wheel, the same bytes wherever and whenever they are built, and what is in them."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
_BUILD: Final = "import sys; from setuptools import build_meta as b; getattr(b, sys.argv[1])(sys.argv[2])"
_BESIDE: Final = ("CHANGELOG.md", "LICENSE", "MANIFEST.in", "PKG-INFO", "README.md", "pyproject.toml", "setup.cfg")
_NOT_SHIPPED: Final = ("lwq/llama/converter.in",)


class Unfit(Exception):
    """Something is not as a release must be."""


def build(out: Path, work: Path, commit: str = "HEAD") -> tuple[Path, Path]:
    """The sdist of a commit and the wheel built from that sdist, in ``out``.

    Args:
        work: an empty folder; its place is in neither file.
    """
    out.mkdir(parents=True, exist_ok=True)
    epoch = _git("log", "-1", "--format=%ct", commit).decode().strip()
    source = _unpacked(_git("archive", "--prefix=lwq/", commit), work / "commit")
    sdist = _built("build_sdist", source, work / "sdist", epoch)
    fixed = out / sdist.name
    fixed.write_bytes(_repacked(sdist.read_bytes(), int(epoch)))
    wheel = _built("build_wheel", _unpacked(fixed.read_bytes(), work / "again"), work / "wheel", epoch)
    return fixed, Path(wheel.replace(out / wheel.name))


def check_contents(sdist: Path, wheel: Path, commit: str = "HEAD") -> None:
    """Raises Unfit unless both hold all of the package and nothing else: no tests, no vendor sources."""
    package = set(_git("ls-tree", "-r", "--name-only", commit, "lwq").decode().splitlines())
    package -= set(_NOT_SHIPPED)
    with zipfile.ZipFile(wheel) as archive:
        _compare(wheel, {n for n in archive.namelist() if ".dist-info/" not in n}, package)
    with tarfile.open(sdist) as archive:
        names = {m.name.partition("/")[2] for m in archive if m.isfile()}
    _compare(sdist, {n for n in names if not n.startswith("lwq.egg-info/")}, package | set(_BESIDE))


def _compare(path: Path, have: set[str], wanted: set[str]) -> None:
    if lacks := sorted(wanted - have):
        raise Unfit(f"{path.name}: lacks {', '.join(lacks[:8])}")
    if more := sorted(have - wanted):
        raise Unfit(f"{path.name}: holds what is no part of it: {', '.join(more[:8])}")


def _git(*arguments: str) -> bytes:
    return subprocess.run(("git", *arguments), cwd=ROOT, check=True, capture_output=True).stdout


def _unpacked(archive: bytes, into: Path) -> Path:
    """The one folder in an archive."""
    into.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(into, filter="data")
    (folder,) = into.iterdir()
    return folder


def _built(what: str, source: Path, out: Path, epoch: str) -> Path:
    """By the build backend, under an umask and a zone of its own."""
    out.mkdir(parents=True)
    environ = {**os.environ, "SOURCE_DATE_EPOCH": epoch, "TZ": "UTC", "PYTHONDONTWRITEBYTECODE": "1"}
    command = (sys.executable, "-c", _BUILD, what, str(out))
    done = subprocess.run(command, cwd=source, env=environ, capture_output=True, text=True, check=False, umask=0o022)
    if done.returncode:
        raise Unfit(f"{what}: {(done.stderr or done.stdout).strip()[-1000:]}")
    (path,) = out.iterdir()
    return path


def _repacked(sdist: bytes, epoch: int) -> bytes:
    """The sdist without what setuptools leaves in it of the machine: times, owners, the order of files."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(sdist)) as old, tarfile.open(fileobj=raw, mode="w") as new:
        for member in sorted(old, key=lambda m: m.name):
            clean = tarfile.TarInfo(member.name)
            clean.type, clean.size, clean.mtime = member.type, member.size, epoch
            clean.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            new.addfile(clean, old.extractfile(member) if member.isfile() else None)
    return gzip.compress(raw.getvalue(), mtime=epoch)
