"""A model of the Hub as far as its headers tell: what a plan needs, without the values.

A stand-in has a file's true header and length; behind the header is a hole, which takes no room on the disk. Headers
are fetched by ranges: of a safetensors file to the byte, of a GGUF in pieces that grow until it is read.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from lwq.errors import DownloadError, LwqError, ModelError
from lwq.gguf.header import read_one
from lwq.store.files import lock, os_errors
from lwq.store.temporary import temporary_folder

_SAFETENSORS: Final = ".safetensors"
_MOST_BYTES: Final = 100_000_000
"""Of a safetensors file's header, as the format allows."""
_GGUF_BYTES: Final = (1 << 20, 1 << 26)
"""Of a GGUF that are asked for at first, and at most."""
_N_AT_ONCE: Final = 8
_N_TRIES: Final = 3
_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A model's repository at one commit."""

    client: Any
    name: str
    commit: str
    sizes: dict[str, int]
    """Name of each file → its bytes, 0 where the Hub does not say."""

    def place(self, home: Path) -> Path:
        """The folder of what stands in for this commit's files."""
        return home / "looked-at" / f"{self.name.replace('/', '--')}--{self.commit[:16]}"

    def part(self, file: str, first: int, n_bytes: int) -> tuple[bytes, int]:
        """So many bytes of a file from ``first`` on, as far as it reaches, and its length."""
        for left in reversed(range(_N_TRIES)):
            try:
                return self._part(file, first, first + n_bytes - 1)
            except Exception as error:
                status = getattr(getattr(error, "response", None), "status_code", 500)
                if not left or isinstance(error, LwqError) or status < 500:
                    raise
                time.sleep(1)
        raise AssertionError("the last try raises or returns")

    def _part(self, file: str, first: int, last: int) -> tuple[bytes, int]:
        utils = self.client.utils
        url, session = self.client.hf_hub_url(self.name, file, revision=self.commit), utils.get_session()
        asked = {"Range": f"bytes={first}-{last}", "Accept-Encoding": "identity"}
        options = {"headers": {**utils.build_hf_headers(), **asked}, "timeout": _SECONDS}
        with session.stream("GET", url, **options) as answer:
            if answer.status_code >= 400:
                answer.read()
                utils.hf_raise_for_status(answer)
            n_bytes = int(answer.headers.get("Content-Length") or last + 2)
            if answer.status_code == 206:
                n_bytes = int(answer.headers["Content-Range"].rpartition("/")[2])
            elif first or n_bytes > last + 1:  # the whole file is coming, and nothing of it has been read yet
                hint = "`lwq run` fetches the model, and `lwq plan` then knows it"
                raise DownloadError(f"{url}: the server gives no parts of files", hint=hint)
            return answer.read(), n_bytes


def repository(client: Any, name: str, revision: str | None) -> Repository:
    """What the Hub says of a repository, its newest commit where no revision is named."""
    info = client.model_info(name, revision=revision, files_metadata=True)
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    return Repository(client=client, name=name, commit=info.sha, sizes=sizes)


def stand_ins(home: Path) -> Iterator[Path]:
    """Folders of all that was looked at; each can be made again."""
    yield from (p for p in sorted((home / "looked-at").glob("*")) if p.is_dir())


def folder_of(repo: Repository, files: Sequence[str], home: Path) -> Path:
    """A folder like the one that these files would make: the small ones as they are, stand-ins of the safetensors.

    It bears the repository's name, which the converter writes into the metadata of what it makes.
    """
    place = repo.place(home)
    folder = place / repo.name.rpartition("/")[2]
    with _scratch(place) as scratch:
        if not folder.is_dir():
            made = scratch / folder.name
            made.mkdir()
            _each(partial(_put, repo, made), files)
            made.rename(folder)
    return folder


def ggufs_of(repo: Repository, files: Sequence[str], home: Path) -> tuple[Path, ...]:
    """Stand-ins of GGUFs, all in one folder."""
    place = repo.place(home)
    folder = place.with_name(f"{place.name}--ggufs")
    paths = {file: folder / Path(file).name for file in files}
    with _scratch(folder) as scratch:
        missing = [file for file, path in paths.items() if not path.is_file()]
        _each(partial(_put_gguf, repo, scratch), missing)
        for file in missing:
            (scratch / paths[file].name).rename(paths[file])
    return tuple(paths.values())


@contextmanager
def _scratch(place: Path) -> Iterator[Path]:
    """A folder inside ``place`` for what is not finished; nobody else writes there meanwhile."""
    with lock(place.with_name(f"{place.name}.lock")):
        with os_errors("write what stands in for a model", place):
            place.mkdir(parents=True, exist_ok=True)
        with temporary_folder(place, prefix=".unfinished-") as folder:
            yield folder


def _each(what: Callable[[str], None], files: Sequence[str]) -> None:
    with ThreadPoolExecutor(_N_AT_ONCE) as pool:
        for _ in pool.map(what, files):
            pass


def _put(repo: Repository, folder: Path, file: str) -> None:
    if not file.endswith(_SAFETENSORS):
        found = repo.client.hf_hub_download(repo.name, file, revision=repo.commit)
        with os_errors("copy it", folder / file):
            shutil.copyfile(found, folder / file)
        return
    start, n_file = repo.part(file, 0, 8)
    n_header = int.from_bytes(start, "little")
    if 0 < n_header <= min(_MOST_BYTES, n_file - 8):
        start += repo.part(file, 8, n_header)[0]
    _write_sparse(folder / file, start, n_file)


def _put_gguf(repo: Repository, folder: Path, file: str) -> None:
    path, (n_next, most) = folder / Path(file).name, _GGUF_BYTES
    start, n_file = repo.part(file, 0, n_next)
    while True:
        _write_sparse(path, start, n_file)
        try:
            n_header = read_one(path).data_offset
        except ModelError:
            if start[:4] != b"GGUF" or len(start) >= min(n_file, most):
                raise
        else:
            if n_header <= len(start):
                _write_sparse(path, start[:n_header], n_file)
                return
        start += repo.part(file, len(start), len(start))[0]  # twice as much


def _write_sparse(path: Path, start: bytes, n_bytes: int) -> None:
    with os_errors("write what stands in for a model", path), path.open("wb") as file:
        file.write(start)
        file.truncate(n_bytes)
