"""Atomic writes, hashes with a stat memo, locks, room on disk, and OS errors in words."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

from lwq.errors import FileError, SpaceError
from lwq.store.memo import fingerprint, recall, remember

OnBytes = Callable[[int, int], None]

_HASH_PIECE_BYTES: Final = 8 << 20
_RACY_SECONDS: Final = 0.1
_LOCK_POLLS: Final = ((1.0, 0.01), (-1.0, 0.2))
"""(How many seconds, how many between two tries): most locks are held for moments."""
_UNITS: Final = ("KiB", "MiB", "GiB", "TiB")
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_LOCAL: Final = "set LWQ_HOME to a folder on a local disk"
_NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS})
_OF_WHOM: Final = "see whose it is (`ls -ld` on it and on its folder); LWQ_HOME moves the cache"
_WORDS: Final = {
    errno.ENOENT: ("no such file or folder", "check the spelling of the path"),
    errno.EACCES: ("permission denied", _OF_WHOM),
    errno.EPERM: ("not permitted", _OF_WHOM),
    errno.EROFS: ("the file system is read-only", "name a folder that can be written to; LWQ_HOME moves the cache"),
    errno.EISDIR: ("is a folder, not a file", "name a file in it"),
    errno.ENOTDIR: ("a part of this path is a file, not a folder", "check the path"),
    errno.EEXIST: ("exists already", "move it away or name another"),
    errno.ENAMETOOLONG: ("the name is too long for this file system", "use a shorter name"),
    errno.EMFILE: ("too many open files", "raise the limit: `ulimit -n 4096`"),
    errno.ENFILE: ("too many open files on this machine", "end what opens them, or raise `fs.file-max`"),
    errno.EAGAIN: ("the system lacks what it takes at the moment", "`ulimit -a` shows the limits; try again"),
    errno.ENOMEM: ("there is not enough memory", "end what else runs, or raise the limit that `ulimit -a` shows"),
    errno.EIO: ("the disk reports an input/output error", "check the disk: `dmesg | tail`"),
    errno.ELOOP: ("its symbolic links go round in a circle", "check it with `ls -l`"),
}


def is_of_room(error: OSError) -> bool:
    """Whether there was no room to write; numpy tells a short write without an errno."""
    return error.errno in _NO_ROOM or (error.errno is None and "requested and" in str(error))


@contextmanager
def os_errors(what: str, path: Path) -> Iterator[None]:
    """Turns an OSError inside into a FileError or SpaceError that says what failed, where and why.

    ``what`` is the activity in words, ``write the record``.
    """
    try:
        yield
    except OSError as error:
        if is_of_room(error):
            room = human_bytes(free_bytes(path))
            raise SpaceError(
                f"{path}: cannot {what}: no room left ({room} free there)",
                hint="free some space (`lwq cache gc` drops what no recipe needs) or set LWQ_HOME to a larger disk",
            ) from error
        words, hint = _WORDS.get(error.errno or 0, (error.strerror or str(error), ""))
        raise FileError(f"{path}: cannot {what}: {words}", hint=hint) from error


def sha256_file(path: Path, *, memo: Path | None = None, on_progress: OnBytes | None = None) -> str:
    """The sha256 of a file's bytes in hex, read anew only when its stat is not in ``memo``.

    Args:
        memo: sqlite file holding (path, size, mtime, inode) -> sha256; made when missing; any number
            of processes may use it.
        on_progress: gets (bytes done, bytes in all).
    """
    with os_errors("read it", path):
        path = path.resolve(strict=True)
        stat = path.stat()
        known = recall(memo, path, stat) if memo else None
        if known is not None:
            return known
        started = time.time()
        digest = _sha256(path, stat.st_size, on_progress)
        after = path.stat()
    # A file that changed while it was read, or just before (within the file system's clock tick), is not remembered.
    if memo and fingerprint(after) == fingerprint(stat) and started - stat.st_mtime > _RACY_SECONDS:
        remember(memo, path, stat, digest)
    return digest


def known_sha256(path: Path, memo: Path) -> str | None:
    """What ``sha256_file`` remembers of a file as it is now, or None; nothing of the file is read."""
    with os_errors("look at it", path):
        path = path.resolve(strict=True)
        return recall(memo, path, path.stat()) if memo.exists() else None


def write_atomic(path: Path, data: bytes | str) -> None:
    """Replaces the file in one move: readers see the old bytes or the new, also after a crash."""
    with replacing(path) as file:
        file.write(data.encode("utf-8") if isinstance(data, str) else data)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write in pieces, which replaces the one at ``path`` in one move when all went well."""
    with os_errors("write it", path), _beside(path) as temporary:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Writes JSON whose bytes depend on the value only: sorted, indented, UTF-8, ending in a newline."""
    write_atomic(path, json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The value in a JSON file."""
    with os_errors("read it", path):
        raw = path.read_bytes()
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path}: is not JSON: {error}", hint="it was cut short or edited; delete it") from error


@contextmanager
def lock(path: Path, *, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Holds a lock that all processes of this machine respect and that dies with its holder.

    ``on_wait`` is called once when another process holds it.
    """
    from filelock import FileLock, Timeout

    with _locking(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(path)
        try:
            held.acquire(blocking=False)
        except Timeout:
            if on_wait is not None:
                on_wait()
            for seconds, poll in _LOCK_POLLS:
                with suppress(Timeout):
                    held.acquire(timeout=seconds, poll_interval=poll)
                    break
    try:
        yield
    finally:
        held.release()


@contextmanager
def lock_if_free(path: Path) -> Iterator[bool]:
    """Whether nobody holds that lock; it is held meanwhile."""
    from filelock import FileLock, Timeout

    held = FileLock(path)
    with _locking(path), suppress(Timeout):
        held.acquire(blocking=False)
    try:
        yield held.is_locked
    finally:
        held.release()


@contextmanager
def _locking(path: Path) -> Iterator[None]:
    """What the system refuses is told; where there are no locks (NFS without its daemon), with the way out."""
    with os_errors("make the lock", path):
        try:
            yield
        except (NotImplementedError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
                raise
            raise FileError(f"{path}: this file system has no locks", hint=_LOCAL) from error


def free_bytes(path: Path) -> int:
    """Bytes that this user can still write at ``path``, which need not exist yet."""
    place = path.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free


def need_space(path: Path, n_bytes: int, what: str) -> None:
    """Raises SpaceError unless ``n_bytes`` for ``what`` fit on the disk of ``path``."""
    free = free_bytes(path)
    if n_bytes > free:
        raise SpaceError(
            f"{path}: {what} needs {human_bytes(n_bytes)} and the disk has {human_bytes(free)} free",
            hint=f"free {human_bytes(n_bytes - free)} (`lwq cache gc` drops what no recipe needs) "
            "or set LWQ_HOME to a larger disk",
        )


def link_or_copy(src: Path, dst: Path) -> None:
    """Makes ``dst`` the same file as ``src`` (a hard link), or a copy where links cannot be; replaces in one move."""
    with os_errors("read it", src):
        src = src.resolve(strict=True)
    with os_errors(f"put {src.name} there", dst), _beside(dst) as temporary:
        try:
            os.link(src, temporary)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise
            need_space(dst, src.stat().st_size, f"a copy of {src.name}")
            shutil.copyfile(src, temporary)
        os.replace(temporary, dst)


def human_bytes(n_bytes: int) -> str:
    """A size for people: ``812 B``, ``1.50 KiB``, ``13.34 GiB``."""
    value, unit = float(n_bytes), "B"
    for larger in _UNITS:
        if abs(value) < 1024:
            break
        value, unit = value / 1024, larger
    return f"{n_bytes} B" if unit == "B" else f"{value:.2f} {unit}"


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A free name in the same folder; nothing is left under it, nor of what killed processes wrote for this path."""
    for left in begun_with(path.parent, f".{path.name[:100]}."):
        *_, whose, end = left.name.split(".")
        pid = whose.partition("-")[0]
        if end == "tmp" and pid.isdecimal() and not is_running(int(pid)):
            left.unlink(missing_ok=True)
    temporary = path.parent / f".{path.name[:100]}.{os.getpid()}-{time.monotonic_ns()}.tmp"
    try:
        yield temporary
    finally:  # also after a rename onto a hard link of itself, which leaves the old name in place
        with suppress(FileNotFoundError, NotADirectoryError):
            temporary.unlink()


def begun_with(folder: Path, start: str) -> list[Path]:
    """What lies in a folder under names that begin so; nothing where it cannot be listed."""
    with suppress(OSError):
        return [folder / name for name in os.listdir(folder) if name.startswith(start)]
    return []


def is_running(pid: int) -> bool:
    """Whether a process of this machine still runs, whoever's it is."""
    try:
        os.kill(pid, 0)
    except OSError as error:  # another user's runs too
        return not isinstance(error, ProcessLookupError)
    return True


def _sync_folder(folder: Path) -> None:
    """Makes a rename outlive a power cut, where the file system lets folders be synced."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def _sha256(path: Path, n_bytes: int, on_progress: OnBytes | None) -> str:
    digest, done = hashlib.sha256(), 0
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(_HASH_PIECE_BYTES):
            digest.update(piece)
            done += len(piece)
            if on_progress is not None:
                on_progress(done, n_bytes)
    return digest.hexdigest()
