"""Inputs that are nearly right, for every reader of files: what it does not take, it refuses in words, and soon.

    .venv/bin/python -m tests.fuzzing SECONDS [SEED [READER…]]      (`make fuzz SECONDS=600`)

Each input is a sound one with one to four changes that know its structure (a key's value, a node of JSON, a cell, a
line) or do not (bytes). A failure is told with the seed and the number that make it again: `one` has the input. Each
reader has a process of its own, so that one that dies takes no other along.
"""

from __future__ import annotations

import mmap
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

from lwq.errors import LwqError
from tests.fuzz_readers import CORPUS, Reader, readers

MOST_SECONDS: Final = 5
"""Of computing; a machine that is busy is no fault."""
_MOST_WAITING: Final = 60
MOST_BYTES: Final = 1 << 30
_MOST_KEPT: Final = 3
_FAST: Final = Path("/dev/shm")
_PROGRAMS: Final = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "pty.spawn")
_WRITES: Final = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.truncate")
_REACHES: Final = ("socket.connect", "pickle.find_class", "ctypes.dlopen")


class Outside:
    """An audit hook: what a reader does beyond reading its file and writing beside it, while on."""

    def __init__(self) -> None:
        self.room = ""
        self.found = ""

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.room:
            return
        if event == "open":
            path, mode, flags = arguments
            writes = set(mode or "") & set("wax+") or (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes and isinstance(path, (str, bytes)):
                self.check(event, os.fsdecode(path))
        elif event in _WRITES:
            for path in arguments[:2]:
                if isinstance(path, (str, bytes, os.PathLike)):
                    self.check(event, os.fsdecode(path))
        elif event in _PROGRAMS or event in _REACHES:
            self.found = f"{event} {arguments!r}"[:200]

    def check(self, event: str, path: str) -> None:
        whole = os.path.abspath(path)
        if not (whole + os.sep).startswith((self.room, "/dev/null")):
            self.found = f"{event} of {whole}"[:200]


OUTSIDE = Outside()
sys.addaudithook(OUTSIDE)


def one(reader: Reader, seed: int, number: int) -> bytes:
    """The input of that number: always the same."""
    chance = random.Random(seed * 1_000_003 + number)
    data = chance.choice(reader.seeds)
    for _ in range(chance.choice((1, 1, 2, 4))):
        data = chance.choice(reader.changes)(chance, data)
    return data


def _late(_: int, __: FrameType | None) -> None:
    raise TimeoutError(f"took more than {MOST_SECONDS} s")


@contextmanager
def soon(path: Path) -> Iterator[None]:
    """Inside, :func:`fault` tells what takes too long, and what reaches beyond the folder of the input."""
    before = [(sign, signal.signal(sign, _late)) for sign in (signal.SIGALRM, signal.SIGPROF)]
    OUTSIDE.room = str(path.parent.resolve()) + os.sep
    try:
        yield
    finally:
        OUTSIDE.room = ""
        for sign, handler in before:
            signal.signal(sign, handler)


def fault(reader: Reader, data: bytes, path: Path) -> BaseException | None:
    """What came of an input beside an answer or a refusal in words."""
    path.write_bytes(data)
    OUTSIDE.found = ""
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    signal.alarm(_MOST_WAITING)
    try:
        reader.read(path)
    except LwqError as error:
        if not error.message:
            return AssertionError("refused without a word")
    except Exception as error:
        return error
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
    return PermissionError(OUTSIDE.found) if OUTSIDE.found else None


def _try(name: str, reader: Reader, seed: int, seconds: float, path: Path, progress: mmap.mmap) -> None:
    """Reads inputs for so long; their number and that of faults stand in ``progress``."""
    used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (used + MOST_BYTES, -1))
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + _MOST_WAITING, -1))  # where no signal is heard
    ends, number, n_faults = time.monotonic() + seconds, 0, 0
    with soon(path):
        while time.monotonic() < ends:
            struct.pack_into("qq", progress, 0, number, n_faults)
            data = one(reader, seed, number)
            if error := fault(reader, data, path):
                n_faults += 1
                if n_faults <= _MOST_KEPT:
                    kept = CORPUS / name / f"{type(error).__name__} {seed}-{number}"
                    OUTSIDE.room, room = "", OUTSIDE.room
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    kept.write_bytes(data)
                    OUTSIDE.room = room
                print(f"{name}: seed {seed}, number {number}: {type(error).__name__}: {str(error)[:200]}", flush=True)
            number += 1
    struct.pack_into("qq", progress, 0, number, n_faults)


def _of_reader(name: str, reader: Reader, seed: int, seconds: float) -> tuple[int, int]:
    """How many inputs it was given, and how many faults there were."""
    progress = mmap.mmap(-1, 16)
    with tempfile.TemporaryDirectory(dir=_FAST if _FAST.is_dir() else None) as folder:
        if not (child := os.fork()):
            try:
                _try(name, reader, seed, seconds, Path(folder) / "input", progress)
            except BaseException as error:
                print(f"{name}: {type(error).__name__}: {str(error)[:200]}", flush=True)
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
    number, n_faults = struct.unpack("qq", progress[:])
    if status:
        print(f"{name}: seed {seed}, number {number}: the process died ({status})", flush=True)
    return number, n_faults + bool(status)


def main(seconds: float, seed: int, names: Sequence[str] = ()) -> int:
    """Reads inputs for so long, as long with each reader; the number of faults."""
    asked = {name: reader for name, reader in readers().items() if name in names or not names}
    n_faults = n_inputs = 0
    for name, reader in asked.items():
        n, n_wrong = _of_reader(name, reader, seed, seconds / len(asked))
        print(f"{name:28}{n:>12,}{n_wrong:>8,}", flush=True)
        n_inputs, n_faults = n_inputs + n, n_faults + n_wrong
    print(f"{len(asked)} readers, {n_inputs:,} inputs, {n_faults} faults (seed {seed})")
    return n_faults


if __name__ == "__main__":
    sys.exit(bool(main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0, sys.argv[3:])))
