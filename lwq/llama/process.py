"""Runs foreign programs; the only module that starts a process.

Both pipes are read as bytes by one loop, so neither can fill up while the other is waited for:
llama-quantize writes more than a pipe's 64 KiB to stderr, and chunk counters come without newline.
"""

from __future__ import annotations

import codecs
import os
import re
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lwq.errors import FileError, ToolchainError, ToolError
from lwq.llama.confinement import Limits, child_setup
from lwq.llama.process_group import StallWatch, ending, heed, peak_bytes, signal_group, signal_members
from lwq.store.signals import signals_held

OnOutput = Callable[[str, str], None]

DEFAULT_LIMITS: Final = Limits()
INTERRUPT_GRACE_SECONDS: Final = 10.0
TERMINATE_GRACE_SECONDS: Final = 2.0
N_TAIL_LINES: Final = 40

_POLL_SECONDS: Final = 0.2
_LINGER_SECONDS: Final = 0.5
_LINGER_LIMIT_SECONDS: Final = 5.0
_PIECE_BYTES: Final = 65536
_GAVE_UP: Final = re.compile(r"^\S+\.(?:c|cc|cpp|h|cu|cuh|m):\d+: (.+)$", re.MULTILINE)
"""What ``ggml_abort`` prints: the place in the source, and the check that failed."""
_STREAMS: Final = ("stdout", "stderr")
_STEERING_PREFIXES: Final = ("LLAMA_ARG_", "LLAMA_LOG_", "GGML_")
_STEERING_NAMES: Final = frozenset(
    {"LLAMA_TRACE", "LLAMA_GRAPH_REUSE_DISABLE", "LLAMA_ATTN_ROT_DISABLE", "LLAMA_KV_CACHE_DEBUG"}
    | {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_PREFIX"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """What a program said and how it ended."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str
    seconds: float
    peak_bytes: int
    """The most resident memory seen while it ran, mapped files included; 0 where it was over too soon to look."""


@dataclass(slots=True)
class _Transcript:
    """All output so far, in the order in which it came, as (stream, text)."""

    on_output: OnOutput | None
    pieces: list[tuple[str, str]] = field(default_factory=list)
    decoders: dict[str, codecs.IncrementalDecoder] = field(default_factory=dict)

    def add(self, stream: str, raw: bytes, *, final: bool = False) -> None:
        decoder = self.decoders.get(stream)
        if decoder is None:
            decoder = self.decoders[stream] = codecs.getincrementaldecoder("utf-8")(errors="replace")
        text = decoder.decode(raw, final)
        if text:
            self.pieces.append((stream, text))
            if self.on_output is not None:
                self.on_output(stream, text)

    def text_of(self, stream: str) -> str:
        return "".join(text for name, text in self.pieces if name == stream)

    def all(self) -> str:
        return "".join(text for _, text in self.pieces)


class _Hung(Exception):
    """The child has not stirred for too long."""


def echo(argv: Sequence[str]) -> str:
    """The command as a line that can be pasted into a shell."""
    return shlex.join(argv)


def tool_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment with a fixed locale and without what silently steers llama.cpp or git.

    llama-perplexity obeys ``LLAMA_ARG_CTX_SIZE`` without a word; ``GIT_DIR`` is set inside git hooks.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_STEERING_PREFIXES) and name not in _STEERING_NAMES
    }
    return {**kept, "LC_ALL": "C.UTF-8", **(extra or {})}


def run_tool(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    on_output: OnOutput | None = None,
    limits: Limits = DEFAULT_LIMITS,
    check: bool = True,
) -> Completed:
    """The output and exit status of a program that ran to its end in ``cwd``.

    Args:
        argv: absolute path of the program, then its arguments.
        env: added to :func:`tool_environment`.
        on_output: gets ("stdout" or "stderr", piece of text) as it comes, whole lines or not.
        limits: what it may do; it reaches no network unless they say so.
        check: raise on any exit status but 0.

    Raises:
        ToolchainError: the program is missing or cannot be started.
        ToolError: it failed (with ``check``) or hung.
    """
    command = tuple(argv)
    start = time.monotonic()
    transcript = _Transcript(on_output)
    with _started(command, cwd, tool_environment(env), limits) as child:
        try:
            peak = _follow(child, transcript, limits.stall_seconds)
        except _Hung:
            _stop(child, transcript, grace_seconds=0.0)
            how = f"hung: it printed nothing and used no CPU for {limits.stall_seconds:g} s"
            raise _failure(command, cwd, how, transcript.all()) from None
        except BaseException:
            _stop(child, transcript, grace_seconds=INTERRUPT_GRACE_SECONDS)
            raise
    if check and child.returncode != 0:
        raise _failure(command, cwd, ending(child.returncode), transcript.all())
    return Completed(
        argv=command,
        returncode=child.returncode,
        stdout=transcript.text_of("stdout"),
        stderr=transcript.text_of("stderr"),
        seconds=time.monotonic() - start,
        peak_bytes=peak,
    )


@contextmanager
def _started(
    argv: tuple[str, ...], cwd: Path, env: dict[str, str], limits: Limits
) -> Iterator[subprocess.Popen[bytes]]:
    """A child in a session of its own, with stdin closed, that dies when lwq dies."""
    program = _runnable(argv, cwd)
    try:
        with signals_held():
            child = subprocess.Popen(
                argv,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
                preexec_fn=child_setup(limits),
            )
    except OSError as error:
        why = "its interpreter is missing" if isinstance(error, FileNotFoundError) else error.strerror
        raise ToolchainError(
            f"{program}: cannot be started: {why}", hint="it is not a program for this machine; build it again"
        ) from error
    try:
        yield child
    finally:
        for pipe in (child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()


def _runnable(argv: tuple[str, ...], cwd: Path) -> Path:
    if not argv or not os.path.isabs(argv[0]):
        raise ToolchainError(f"{echo(argv)}: a program must be named by its absolute path")
    program = Path(argv[0])
    if not os.path.isfile(program):
        raise ToolchainError(f"{program}: no such program", hint="`lwq doctor` shows what is missing")
    if not os.access(program, os.X_OK):
        raise ToolchainError(f"{program}: is not executable", hint=f"chmod +x {shlex.quote(str(program))}")
    if not cwd.is_dir():
        raise FileError(f"{cwd}: the folder to run {program.name} in does not exist")
    return program


def _follow(child: subprocess.Popen[bytes], transcript: _Transcript, stall_seconds: float) -> int:
    """Reads both pipes until the child has ended and said all; the most memory that it was seen with.

    A grandchild may keep the pipes open, or even write to them: once the child has ended, half a
    second of silence is the end, and so are five seconds of anything.
    """
    watch, ended_at, peak = StallWatch(child.pid, stall_seconds), 0.0, 0
    with _pipes(child) as pipes:
        while True:
            heed()
            if not ended_at and child.poll() is not None:
                ended_at = time.monotonic()
            if _read(child, pipes, transcript):
                watch.heard()
            if child.returncode is None:
                peak = max(peak, peak_bytes(child.pid))
            silence = time.monotonic() - watch.alive_at
            overtime = time.monotonic() - ended_at
            if ended_at and (not pipes.get_map() or silence > _LINGER_SECONDS or overtime > _LINGER_LIMIT_SECONDS):
                break
            if not ended_at and watch.is_hung():
                raise _Hung
    for stream in _STREAMS:
        transcript.add(stream, b"", final=True)
    return peak


@contextmanager
def _pipes(child: subprocess.Popen[bytes]) -> Iterator[selectors.BaseSelector]:
    with selectors.DefaultSelector() as selector:
        for name, pipe in zip(_STREAMS, (child.stdout, child.stderr), strict=True):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)
                selector.register(pipe, selectors.EVENT_READ, name)
        yield selector


def _read(child: subprocess.Popen[bytes], pipes: selectors.BaseSelector, transcript: _Transcript) -> bool:
    """Whether something was read within a moment; closed pipes are let go."""
    if not pipes.get_map():
        with suppress(subprocess.TimeoutExpired):
            child.wait(_POLL_SECONDS)
        return False
    heard = False
    for key, _ in pipes.select(_POLL_SECONDS):
        raw = os.read(key.fd, _PIECE_BYTES)
        if raw:
            heard = True
            transcript.add(key.data, raw)
        else:
            pipes.unregister(key.fileobj)
    return heard


def _stop(child: subprocess.Popen[bytes], transcript: _Transcript, *, grace_seconds: float) -> None:
    """Ends the child's whole session: asks it (as ^C does), then tells it, then kills it.

    Its output is still read meanwhile, or a tool that reports what it saves would block.
    A second ^C skips the rest of the waiting.
    """
    transcript.on_output = None
    try:
        if grace_seconds:
            signal_group(child.pid, signal.SIGINT)
            _drain(child, transcript, grace_seconds)
        if child.poll() is None:
            signal_members(child.pid, signal.SIGTERM)
            _drain(child, transcript, TERMINATE_GRACE_SECONDS)
    finally:
        signal_members(child.pid, signal.SIGKILL)
        child.wait()


def _drain(child: subprocess.Popen[bytes], transcript: _Transcript, seconds: float) -> None:
    end = time.monotonic() + seconds
    with _pipes(child) as pipes:
        while child.poll() is None and time.monotonic() < end:
            _read(child, pipes, transcript)


def failure(done: Completed, cwd: Path) -> ToolError:
    """The error of a program that ended badly and was run without ``check``."""
    return _failure(done.argv, cwd, ending(done.returncode), done.stdout + done.stderr)


def _failure(argv: tuple[str, ...], cwd: Path, how: str, output: str) -> ToolError:
    """An error with the program, how it ended, the command to paste and its last lines."""
    tail = "\n".join(output.splitlines()[-N_TAIL_LINES:]) or "(it printed nothing)"
    gave_up = _GAVE_UP.search(output)
    why = f": {gave_up[1].strip()}" if gave_up else ""
    return ToolError(
        f"{Path(argv[0]).name}: {how}{why}\n  ran in {cwd}:\n  {echo(argv)}\n  its last lines:\n{tail}",
        hint="paste the command in that folder to see all of its output",
    )
