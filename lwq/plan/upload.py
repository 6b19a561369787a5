"""A report folder's files on the Hub: sent by its own client, which goes on where it was cut, then compared there."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from lwq.errors import RefusedError, UploadError
from lwq.plan.client import AGAIN_HINT, TOKEN_HINT, hub_client, is_offline, sent
from lwq.plan.outgoing import OutFile
from lwq.store.files import os_errors

_MAIN: Final = "main"


@dataclass(frozen=True, slots=True, kw_only=True)
class OnHub:
    """Where to on the Hub."""

    repo: str
    revision: str
    private: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What is there now."""

    address: str
    commit: str
    others: tuple[str, ...]
    """Files of the repository that are not of this run."""


def hub_token() -> str | None:
    """The access token that the Hub's client uses, from HF_TOKEN or `hf auth login`."""
    token: str | None = hub_client().get_token()
    return token


def upload(files: tuple[OutFile, ...], folder: Path, place: OnHub, on_note: Callable[[str], None]) -> Published:
    """The files at that place, each compared with what the Hub says it has: size, and sha256 or git's hash.

    What the Hub already has is not sent again, so the same call goes on where another ended.

    Raises:
        RefusedError: no token or one without the right; a repository that is public though a private one is asked for.
        UploadError: the Hub could not be reached, gave up midway, or has something else than what was sent.
    """
    repo = place.repo
    if is_offline():
        raise RefusedError(f"{repo}: could not be published: HF_HUB_OFFLINE is set", hint="unset it")
    if not hub_token():
        raise RefusedError(f"{repo}: could not be published without an access token of the Hub", hint=TOKEN_HINT)
    client = hub_client()
    api = client.HfApi(library_name="lwq")
    user = sent(repo, api.whoami)["name"]
    on_note(f"signed in as {user}")
    _make_place(api, place)
    n_bytes = sum(file.n_bytes for file in files)
    on_note(f"sending {len(files)} files, {n_bytes:,} bytes")
    patterns = [glob.escape(file.path) for file in files]
    message = f"Files of {folder.resolve().name}, by lwq"
    options = {"repo_id": repo, "folder_path": folder, "allow_patterns": patterns, "revision": place.revision}
    commit = sent(repo, partial(api.upload_folder, commit_message=message, **options)).oid
    on_note("comparing what the Hub has")
    there = sent(repo, lambda: _there(api, repo, commit))
    _check_arrived(files, folder, there, repo)
    others = tuple(sorted({*there} - {file.path for file in files} - {".gitattributes"}))
    return Published(address=f"{api.endpoint}/{repo}", commit=commit, others=others)


def _make_place(api: Any, place: OnHub) -> None:
    """The repository and the branch, made where they are not there yet."""
    repo = place.repo
    sent(repo, lambda: api.create_repo(repo, private=place.private or None, exist_ok=True))
    if place.private and not sent(repo, lambda: api.repo_info(repo)).private:
        hint = "make it private in its settings on the Hub, or leave out --private"
        raise RefusedError(f"{repo}: is there already and public; nothing was sent", hint=hint)
    if place.revision != _MAIN and not place.revision.startswith("refs/"):
        sent(repo, lambda: api.create_branch(repo, branch=place.revision, exist_ok=True))


def _there(api: Any, repo: str, commit: str) -> dict[str, Any]:
    """The Hub's files of a commit, by path."""
    entries: Iterable[Any] = api.list_repo_tree(repo, recursive=True, revision=commit)
    return {entry.path: entry for entry in entries if hasattr(entry, "blob_id")}


def _check_arrived(files: tuple[OutFile, ...], folder: Path, there: dict[str, Any], repo: str) -> None:
    faults = [fault for file in files if (fault := _difference(file, folder, there.get(file.path)))]
    if faults:
        listed = "".join(f"\n  {fault}" for fault in faults)
        hint = f"leave the folder as it is while it is sent; {AGAIN_HINT}"
        raise UploadError(f"{repo}: has other files than this folder had when it was read:{listed}", hint=hint)


def _difference(file: OutFile, folder: Path, entry: Any) -> str:
    """How the Hub's file differs from the one that was read here; empty where it does not."""
    if entry is None:
        return f"{file.path}: is not there"
    if entry.size != file.n_bytes:
        return f"{file.path}: has {entry.size:,} bytes there, {file.n_bytes:,} here"
    if entry.lfs is not None:
        return "" if entry.lfs.sha256 == file.sha256 else f"{file.path}: has sha256 {entry.lfs.sha256} there"
    with os_errors("read it", folder / file.path):
        data = (folder / file.path).read_bytes()
    git = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    if hashlib.sha256(data).hexdigest() != file.sha256 or git != entry.blob_id:
        return f"{file.path}: has other content there"
    return ""
