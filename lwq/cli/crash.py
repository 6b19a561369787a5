"""The unexpected: one line for the user, a log file for the report; of what the system refuses no more than words."""

from __future__ import annotations

import errno
import os
import platform
import sys
import traceback
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Final

from lwq import __version__
from lwq.errors import FileError, LwqError, SpaceError, without_tokens
from lwq.llama.toolchain import home
from lwq.store.files import is_of_room, os_errors, write_atomic

_OF_THE_MACHINE: Final = frozenset(
    {
        errno.EIO, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.ESTALE,
        errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM,
    }
)  # fmt: skip
"""What no program can help; a file that is not there may be a fault of lwq."""


def write_crash_log(error: BaseException, arguments: list[str]) -> LwqError:
    """An error to show, after the traceback, versions and command line went to a log file, without tokens."""
    lines = [
        f"lwq {__version__}, Python {sys.version.split()[0]}, {platform.platform()}",
        f"command: lwq {' '.join(arguments)}",
        *(f"{name} {_version(name)}" for name in ("llama-cpp-python", "gguf", "numpy", "pydantic", "click")),
        "",
        "".join(traceback.format_exception(error)),
    ]
    path = home() / "log" / f"crash-{datetime.now(UTC):%Y%m%dT%H%M%S}.txt"
    what = f"{type(error).__name__}: {error}".splitlines()[0][:300]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, without_tokens("\n".join(lines)))
    except (OSError, LwqError):
        return LwqError(f"unexpected {what}", hint="\n".join(lines))
    return LwqError(f"unexpected {what}", hint=f"a fault of lwq; please report it with {path}")


def in_words(error: Exception, arguments: list[str]) -> LwqError:
    """What no part of lwq foresaw, as an error to show: what the machine refuses, or a fault of lwq (logged)."""
    kept = "finished steps are kept, and the same command goes on from there"
    if isinstance(error, MemoryError):
        return SpaceError("there is not enough memory", hint=f"`lwq plan` says how much is needed; {kept}")
    if isinstance(error, OSError) and is_of_room(error):
        return SpaceError(f"no room left on the disk: {error}", hint=f"free some; {kept}")
    if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
        if not error.filename:
            return FileError(f"the system refuses: {error}", hint=f"check the disk, limits and who owns it; {kept}")
        try:
            with os_errors("use it", Path(os.fsdecode(error.filename))):
                raise error
        except LwqError as told:
            return told
    if isinstance(error, FileNotFoundError) and str(error.filename).startswith(f"{home()}{os.sep}"):
        hint = "something else removes files there; the same command makes again what is lacking"
        return FileError(f"{error.filename}: vanished while lwq worked", hint=hint)
    return write_crash_log(error, arguments)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "is not installed"
