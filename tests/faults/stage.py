"""Where a case plays: a home, a user's folder and lwq as a process in them, with faults of the disk and of life.

lwq is started by forking a process that has imported it, and so are its children that compute in process: hundreds of
cases would else spend their time on imports. Its tools are ``replay.c``: what the real ones did for the same arguments
and the same bytes, recorded once. Cases that are to be real start ``python -m lwq`` and the real tools.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lwq.engine.bindings import load_bindings
from lwq.llama.toolchain import COMMIT, PROGRAMS, Toolchain, manifest_of, read_manifest
from lwq.report.record_json import record_from_json, record_to_json
from lwq.report.write import write_report
from lwq.store.files import write_json
from lwq.values.compiled import current
from tests.tiny_models import write_tiny_llama, write_tiny_text

HERE: Final = Path(__file__).parent
LIBRARY: Final = "faults.so"
MOST_SECONDS: Final = 120.0
_RECORDING_SECONDS: Final = 1200.0
_CHILD: Final = "lwq.plan.child"
_SINGLE: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "LWQ_THREADS": "1"}
BASIC: Final = """name = "tiny"
model = "tiny model.gguf"
[calibration]
text = "calibration.txt"
n_ctx = 64
n_chunks = 2
[evaluation]
text = "evaluation.txt"
n_ctx = 64
n_chunks = 4
[bench]
tests = []
[[targets]]
name = "hand"
ftype = "Q4_K_M"
tensor_types = ['ffn_down=q6_k']
"""
RICH: Final = """name = "tiny"
model = "tiny model.gguf"
[calibration]
text = "calibration.txt"
n_ctx = 64
n_chunks = 4
[selection]
text = "selection.txt"
n_ctx = 64
n_chunks = 4
[evaluation]
text = "evaluation.txt"
n_ctx = 64
n_chunks = 4
[sensitivity]
n_windows = 2
[bench]
tests = []
[[targets]]
budget = "Q4_0"
types = ["q8_0", "q5_0", "q4_0"]
"""
MODEL: Final = "tiny model.gguf"
RECIPES: Final = {"basic": BASIC, "edited": BASIC.replace("q6_k", "q8_0"), "rich": RICH}


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What goes wrong for a process and its children; nothing as it stands."""

    rules: tuple[str, ...] = ()
    """``OPS,MODE,ERRNO,FROM,COUNT,PREFIX`` each, as of ``faults.c``."""
    clock: str = ""
    replay: str = ""
    """``PROGRAM WHAT``, as of ``replay.c``."""
    limits: tuple[tuple[int, int], ...] = ()
    """(resource, bytes above what the process has) each."""
    user: int = 0


NONE: Final = Faults()
_TOLD: Final = (signal.SIGINT, signal.SIGTERM)
"""Signals that end lwq, and must not end what starts it in its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a process ended and what it said."""

    code: int
    """Negative: the signal that killed it."""
    out: str
    err: str


@dataclass(slots=True)
class Started:
    """lwq at work."""

    pid: int
    out: Path
    err: Path
    process: subprocess.Popen[bytes] | None = None
    ended: Ended | None = None

    def poll(self) -> Ended | None:
        """How it ended, or None while it works."""
        if self.ended is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                words = (p.read_text(encoding="utf-8", errors="replace") for p in (self.out, self.err))
                self.ended = Ended(code=os.waitstatus_to_exitcode(status), out=next(words), err=next(words))
        return self.ended

    def wait(self, seconds: float = MOST_SECONDS) -> Ended:
        """How it ended; what takes too long is killed, and has hung."""
        end = time.monotonic() + seconds
        while (ended := self.poll()) is None:
            if time.monotonic() > end:
                self.send(signal.SIGKILL)
                os.waitpid(self.pid, 0)
                self.ended = Ended(code=-99, out="", err=f"hung for {seconds:g} s")
                return self.ended
            time.sleep(0.003)
        return ended

    def send(self, number: int) -> None:
        with suppress(ProcessLookupError):
            if self.ended is None:
                os.kill(self.pid, number)


@dataclass(slots=True)
class World:
    """A user's folder, a home and a folder for temporary files."""

    root: Path
    stage: Stage
    n_started: int = 0

    @property
    def home(self) -> Path:
        return self.root / "the home"

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def report(self) -> Path:
        return self.work / "reports" / "tiny"

    def use(self, recipe: str) -> None:
        """Puts that recipe in the user's folder."""
        (self.work / "tiny.toml").write_text(RECIPES[recipe], encoding="utf-8")

    def start(self, *arguments: str, faults: Faults = NONE, real: bool = False) -> Started:
        """lwq with these arguments, in the user's folder.

        Args:
            real: as a process of its own, ``python -m lwq``.
        """
        self.n_started += 1
        said = self.stage.root / "said"
        said.mkdir(exist_ok=True)
        out, err = (said / f"{self.root.name}.{self.n_started}.{name}" for name in ("out", "err"))
        environ = self.environ(faults)
        if real:
            return self.stage.popen(self, arguments, environ, faults, (out, err))
        sys.stdout.flush()
        sys.stderr.flush()
        for path in (out, err):  # also of one that is killed before it could open them
            path.touch()
        signal.pthread_sigmask(signal.SIG_BLOCK, _TOLD)
        pid = os.fork()
        if not pid:
            self.stage.become(self, arguments, environ, faults, (out, err))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _TOLD)
        return Started(pid, out, err)

    def lwq(self, *arguments: str, faults: Faults = NONE, real: bool = False) -> Ended:
        """How lwq with these arguments ended."""
        return self.start(*arguments, faults=faults, real=real).wait()

    def environ(self, faults: Faults) -> dict[str, str]:
        """Of a process with these faults."""
        return {
            **_SINGLE,
            "LWQ_HOME": str(self.home),
            "TMPDIR": str(self.root / "tmp"),
            "FAULTS": ";".join(faults.rules),
            "FAULTS_CLOCK": faults.clock,
            "FAULTS_COUNT": str(self.stage.root / "said" / f"{self.root.name}.{self.n_started}.counts")
            if faults.rules or faults.clock
            else "",
            "REPLAY": faults.replay,
        }

    def copy(self, name: str) -> World:
        """A world like this one."""
        target = self.root.with_name(name)
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self.root, target, symlinks=True)
        return World(target, self.stage, self.n_started)


@dataclass(slots=True)
class Stage:
    """What all cases share: the library of faults, the tools, finished homes and what came of them."""

    root: Path
    real: Toolchain
    homes: dict[str, Path] = field(default_factory=dict)
    whole: dict[str, Any] = field(default_factory=dict)
    """Recipe → record and GGUFs of an unbroken run."""
    recording: dict[str, str] = field(default_factory=dict)
    tools: Path = Path()
    compiled: Path = Path()
    run_seconds: float = 1.0
    """Of a run in which all is to be done."""

    def build(self) -> None:
        """The library and the tools, and an unbroken run of each recipe."""
        self.compiled = current()
        self.compiled.mkdir(parents=True, exist_ok=True)
        runs = self.root / "runs"
        runs.mkdir()
        _cc(HERE / "replay.c", self.root / "replay", f'-DRUNS="{runs}"', f'-DREAL="{self.real.bin_dir}"')
        folder = self.root / "toolchains" / f"{COMMIT[:12]}-cpu-replayed"
        (folder / "bin").mkdir(parents=True)
        for path in sorted(self.real.bin_dir.iterdir()):
            if path.name in PROGRAMS:
                shutil.copy(self.root / "replay", folder / "bin" / path.name)
            elif path.is_symlink():
                (folder / "bin" / path.name).symlink_to(os.readlink(path))
            else:
                shutil.copy2(path, folder / "bin" / path.name)
        self.tools = folder / "bin"
        facts = {"backend": "cpu", "flags": list(self.real.flags), "compiler": self.real.compiler}
        write_json(folder / "manifest.json", manifest_of(folder, facts))
        (self.root / "user").mkdir()
        write_inputs(self.root / "user")
        self.recording = {"RECORD": str(HERE / "record.py"), "RECORD_PYTHON": sys.executable}
        load_bindings(read_manifest(folder / "manifest.json"))

    def prepare(self, recipe: str) -> None:
        """An unbroken run of a recipe, whose home others are copied from."""
        world = self.world(f"whole-{recipe}", recipe)
        os.environ |= self.recording
        try:
            ended = world.start("run", "tiny.toml").wait(_RECORDING_SECONDS)
        finally:
            for name in self.recording:
                del os.environ[name]
        assert ended.code == 0, ended.err
        self.homes[recipe], self.whole[recipe] = world.root, outcome(world.report)
        text = (world.report / "record.json").read_text(encoding="utf-8")
        write_report(
            record_from_json(text, "record.json"), self.root / "drawn before"
        )  # its templates are compiled now
        gc.freeze()
        if recipe == "basic":
            world, began = self.world("timed", recipe), time.monotonic()
            world.lwq("run", "tiny.toml")
            self.run_seconds = time.monotonic() - began
            shutil.rmtree(world.root)

    def world(self, name: str, recipe: str, *, filled: str = "", own_tools: bool = False) -> World:
        """A world in which nothing was done yet, or (``filled``) that recipe.

        Args:
            own_tools: its toolchain is a copy.
        """
        root = self.root / "worlds" / name
        shutil.rmtree(root, ignore_errors=True)
        world = World(root, self)
        (root / "tmp").mkdir(parents=True)
        if filled:
            shutil.copytree(self.homes[filled] / "the home", world.home, symlinks=True)
            shutil.copytree(self.homes[filled] / "work", world.work, symlinks=True)
        else:
            shutil.copytree(self.root / "user", world.work)
            world.home.mkdir()
            (world.home / "toolchains").symlink_to(self.root / "toolchains")
            (world.home / "compiled").mkdir()
            (world.home / "compiled" / current().name).symlink_to(self.compiled)
            if "basic" in self.homes:
                shutil.copy(self.homes["basic"] / "the home" / "calibration.json", world.home)
        if own_tools:
            (world.home / "toolchains").unlink()
            shutil.copytree(self.root / "toolchains", world.home / "toolchains", symlinks=True)
        world.use(recipe)
        return world

    def popen(
        self,
        world: World,
        arguments: tuple[str, ...],
        environ: Mapping[str, str],
        faults: Faults,
        said: tuple[Path, Path],
    ) -> Started:
        """``python -m lwq``."""
        command = [sys.executable, "-m", "lwq", *arguments]
        path = {"PYTHONPATH": str(HERE.parents[1])}
        with said[0].open("wb") as out, said[1].open("wb") as err:
            process = subprocess.Popen(
                command,
                cwd=world.work,
                env={**os.environ, **environ, **path},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                preexec_fn=lambda: _limit(faults),
            )
        return Started(process.pid, *said, process=process)

    def become(
        self,
        world: World,
        arguments: tuple[str, ...],
        environ: Mapping[str, str],
        faults: Faults,
        said: tuple[Path, Path],
    ) -> None:
        """This process is lwq from now on, and ends as it ends."""
        code = 70
        try:
            os.setsid()
            for number in _TOLD:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _TOLD)
            os.chdir(world.work)
            os.environ |= environ
            tempfile.tempdir = None
            for fd, path in zip((1, 2), said, strict=True):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666), fd)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.closerange(3, 64)
            sys.argv = ["lwq", *arguments]
            _limit(faults)
            _arm()
            code = _as_python_ends()
        finally:
            os._exit(code)


def _as_python_ends() -> int:
    """The exit status of lwq's entry point, as the interpreter makes it."""
    from lwq.cli.main import main

    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    with suppress(BaseException):
        atexit._run_exitfuncs()
    with suppress(BaseException):
        sys.stdout.flush()
        sys.stderr.flush()
    return code


def _limit(faults: Faults) -> None:
    if faults.user:
        os.setgroups([])
        os.setgid(faults.user)
        os.setuid(faults.user)
    if faults.limits:
        pages = [int(word) for word in Path("/proc/self/statm").read_text(encoding="ascii").split()]
        has = {resource.RLIMIT_AS: pages[0] << 12, resource.RLIMIT_DATA: pages[5] << 12}
        for which, n_bytes in faults.limits:
            most = has.get(which, 0) + n_bytes
            resource.setrlimit(which, (most, most))


def _arm() -> None:
    """The preloaded library reads the environment again."""
    with suppress(AttributeError):
        ctypes.CDLL(None).faults_arm()


class ForkingPopen(subprocess.Popen[bytes]):
    """A process as lwq starts it; one of its own children that compute in process is a fork of this one."""

    def _execute_child(self, args: Any, executable: Any, preexec_fn: Any, *more: Any) -> None:
        command = [os.fsdecode(a) for a in args]
        has_own_tools = not (Path(os.environ["LWQ_HOME"]) / "toolchains").is_symlink()
        if command[0] != sys.executable or _CHILD not in " ".join(command[:5]) or has_own_tools:
            super()._execute_child(args, executable, preexec_fn, *more)  # type: ignore[misc]
            return
        cwd, env, pipes = more[2], more[3], more[7:13]
        pid = os.fork()
        if not pid:
            code = 70
            try:
                os.chdir(cwd)
                os.setsid()
                for number in (signal.SIGINT, signal.SIGTERM):
                    signal.signal(number, signal.SIG_DFL)
                for fd, source in zip((0, 1, 2), (pipes[0], pipes[3], pipes[5]), strict=True):
                    os.dup2(source, fd)
                os.closerange(3, 256)
                preexec_fn()
                os.environ.clear()
                os.environ.update(env)
                _arm()
                from lwq.plan.child import main

                main(command[-1])
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
            except BaseException:
                traceback.print_exc()
                code = 1
            finally:
                with suppress(BaseException):
                    sys.stdout.flush()
                    sys.stderr.flush()
                os._exit(code)
        self.pid = pid
        self._child_created = True
        for fd in {fd for fd in (pipes[0], pipes[3], pipes[5]) if fd != -1}:
            os.close(fd)


def _cc(source: Path, target: Path, *options: str) -> None:
    subprocess.run(["cc", "-O2", "-Wall", *options, "-o", target, source], check=True)


def preload(folder: Path) -> dict[str, str]:
    """What the environment of a process has that has the library of faults; the process must be started with it."""
    target = folder / LIBRARY
    _cc(HERE / "faults.c", target, "-shared", "-fPIC", "-ldl")
    drawn = folder / "drawn"
    drawn.mkdir()
    return {**_SINGLE, "LD_PRELOAD": str(target), "FAULTS_DRAWN": str(drawn), "LWQ_HOME": str(folder / "home")}


def warm() -> None:
    """Imports all that lwq imports, and puts what forks, or draws what was drawn before, in its place."""
    import importlib
    import pkgutil

    import lwq
    from lwq.llama import process
    from lwq.report import plots

    for module in pkgutil.walk_packages(lwq.__path__, "lwq."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    importlib.import_module("encodings.utf_8_sig")  # another user cannot read where Python lies
    process.subprocess = _Seam()  # type: ignore[assignment]
    draw, drawn = plots.drawings, Path(os.environ["FAULTS_DRAWN"])

    def drawings(record: Any) -> dict[str, Any]:
        """A figure is a function of the record: those of an unbroken run are kept."""
        import hashlib
        import pickle

        digest = hashlib.sha256(json.dumps(_told(json.loads(record_to_json(record)))).encode()).hexdigest()
        path = drawn / digest
        if path.exists():
            found: dict[str, Any] = pickle.loads(path.read_bytes())
            return found
        made = draw(record)
        if os.environ.get("RECORD"):
            path.write_bytes(pickle.dumps(made))
        return made

    plots.drawings = drawings


class _Seam:
    """``subprocess``, with another Popen."""

    Popen = ForkingPopen

    def __getattr__(self, name: str) -> Any:
        return getattr(subprocess, name)


def write_inputs(folder: Path) -> None:
    """What a user has: a model, texts, and files that have nothing to do with lwq."""
    write_tiny_llama(folder / MODEL, n_layer=2)
    for seed, role in enumerate(("calibration", "selection", "evaluation")):
        write_tiny_text(folder / f"{role}.txt", n_words=400, seed=seed)
    (folder / "notes.txt").write_text("mine\n")
    (folder / "reports" / "tiny").mkdir(parents=True)
    (folder / "reports" / "tiny" / "my notes.md").write_text("mine too\n")


def _told(record: dict[str, Any]) -> dict[str, Any]:
    """A record without what a clock measured."""
    del record["provenance"]
    for row in record["rows"]:
        del row["speed"]
        if row["search"]:
            row["search"]["paces"] = []
    return record


def outcome(report: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The record without what a clock measured, and the bytes of every GGUF that lwq made."""
    record = json.loads((report / "record.json").read_text(encoding="utf-8"))
    return _told(record), {p.name: p.read_bytes() for p in report.glob("*.gguf") if p.name != MODEL}
