"""What must not leave this machine in a published file: local paths and access tokens."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from lwq.errors import TOKEN, FileError, without_tokens
from lwq.gguf.header import is_named_gguf, read_one
from lwq.store.files import os_errors

_PATH: Final = re.compile(
    r"(?:file:/{2,3}|(?<![\w.:/~-]))(?:/(?:home|Users)/[\w.-]+|/root(?=/)|[A-Za-z]:(?:\\{1,2}|/)Users(?:\\{1,2}|/)[\w.-]+)"
)
"""The folder of a user, on Linux, macOS and Windows."""
_TOKENS: Final = (
    TOKEN,
    re.compile(r"\bgh[pousr]_[A-Za-z0-9]{36}|\bgithub_pat_\w{50,}"),
    re.compile(r"\bpypi-AgE\w{50,}"),
    re.compile(r"\bsk-[\w-]{32,}"),
    re.compile(r"\bAKIA[0-9A-Z]{16}\b"),
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
)
_FOLDERS: Final = ("LWQ_HOME", "HF_HOME", "HF_HUB_CACHE", "PWD")
"""Variables of the environment that name folders of this user."""
_SHOWN: Final = 120
_MOST: Final = 20


def check_leaks(paths: Iterable[Path], folder: Path, token: str | None) -> None:
    """Refuses files in which a local path or an access token stands; the first places are named, no token is shown.

    Args:
        folder: where the files lie; its own path must not be in them.
        token: the one that the Hub's client would use.

    Raises:
        FileError: something would leak.
    """
    local = _local_folders(folder)
    found = [f"{path.relative_to(folder)}: {what}" for path in paths for what in _found(path, local, token)]
    if found:
        more = f"\n  and {len(found) - _MOST} more" if len(found) > _MOST else ""
        listed = "".join(f"\n  {place}" for place in found[:_MOST])
        hint = "take it out of the recipe, its notes or the texts beside it, then `lwq run` again"
        raise FileError(f"{folder}: local paths or tokens would be published:{listed}{more}", hint=hint)


def _found(path: Path, local: re.Pattern[str], token: str | None) -> Iterator[str]:
    if is_named_gguf(path.name):
        for key, text in _metadata(path):
            yield from (f"{key}: {what}" for what in _in_line(text, (local,), token))
        return
    with os_errors("read it", path):
        data = path.read_bytes()
    patterns: tuple[re.Pattern[str], ...] = (local,)
    try:
        lines = data.decode("utf-8").splitlines()
        patterns = (_PATH, local)
    except UnicodeDecodeError:  # a picture: its pixels are no text
        lines = [data.decode("latin-1")]
    for n, line in enumerate(lines, 1):
        yield from (f"line {n}: {what}" for what in _in_line(line, patterns, token))


def _in_line(line: str, paths: tuple[re.Pattern[str], ...], token: str | None) -> Iterator[str]:
    found = next((match for pattern in paths if (match := pattern.search(line))), None)
    if found:
        start = max(0, found.start() - 20)
        shown = line[start : start + _SHOWN].strip()
        yield f"a local path: {_hidden(shown, token)}"
    if any(pattern.search(line) for pattern in _TOKENS) or (token and token in line):
        yield "an access token"


def _hidden(text: str, token: str | None) -> str:
    text = text.replace(token, "hf_…") if token else text
    return without_tokens(text)


def _metadata(path: Path) -> Iterator[tuple[str, str]]:
    """(key, text) of all that a GGUF's metadata says in words."""
    for key, value in read_one(path).metadata.items():
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str):
                yield key, text


def _local_folders(folder: Path) -> re.Pattern[str]:
    """What finds this user's own folders, wherever they lie."""
    named = (os.environ.get(name, "") for name in _FOLDERS)
    given = (Path.home(), Path.cwd(), folder.absolute(), folder.resolve(), *map(Path, filter(None, named)))
    deep = {str(path) for path in given if path.is_absolute() and len(path.parts) > 2}
    return re.compile("|".join(f"{re.escape(path)}(?![\\w-])" for path in sorted(deep)) or r"(?!)")
