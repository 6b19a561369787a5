"""Whether the tests notice when a function computes something else.

    .venv/bin/python -m tests.mutants SAMPLE [SEED [PACKAGE…]]      (`make mutants SAMPLE=200 SEED=0`)

The tests of a package are collected once; one pass tells which test calls which functions and how long each takes. For
each mutant a fork of that process gets the changed code in place of the function's, and runs what calls it, quick
tests first, until one fails. Of each package SAMPLE mutants are drawn (all with 0).
"""

from __future__ import annotations

import gc
import os
import pickle
import random
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any, Final

import pytest
from _pytest.runner import runtestprotocol

from tests.mutations import Mutant, mutants

ROOT: Final = Path(__file__).resolve().parents[1]
PURE: Final = 0.85
MACHINE: Final = 0.80
_MOST_BYTES: Final = 8 << 30
Place = tuple[str, str]
"""A module's path and a function's qualified name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """Modules, the tests that shall notice, and the least share that they shall."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]
    goal: float = PURE
    elsewhere: tuple[str, ...] = ()
    """Functions that compute with the engine or read what a tool wrote: their tests are in the tier of tools."""


def _package(name: str, *modules: str, tests: Sequence[str] = (), elsewhere: Sequence[str] = ()) -> Package:
    paths = tuple(f"lwq/{name}/{m}.py" for m in modules) or tuple(
        str(p.relative_to(ROOT)) for p in sorted((ROOT / "lwq" / name).glob("*.py"))
    )
    return Package(modules=paths, tests=(*(tests or (f"tests/{name}",)),), elsewhere=(*elsewhere,))


_OF_REPORT: Final = (
    "authored", "changes", "labels", "layer_ranks", "markdown", "metadata", "numerals", "public", "rows", "sentences",
    "speed_table", "ties",
)  # fmt: skip
PACKAGES: Final = {
    "metrics": _package("metrics"),
    "gguf": _package("gguf", tests=("tests/gguf", "tests/test_crafted_ggufs.py")),
    "record": _package("record", tests=("tests/record", "tests/report/test_record_json.py")),
    "recipe": _package("recipe"),
    "tasks": _package("tasks"),
    "bits": _package(
        "bits", "damage", "estimates", "frontier", "knapsack", "options",
        elsewhere=("carried_errors", "carrying_layers"),
    ),
    "values": _package("values", "codes", "factor", "lattices", "layouts"),
    "report": _package(
        "report", *_OF_REPORT, tests=[f"tests/report/test_{name}.py" for name in (*_OF_REPORT, "card")]
    ),
    "cache": Package(
        modules=("lwq/store/cache.py",), goal=MACHINE,
        tests=tuple(f"tests/store/test_{name}.py" for name in ("cache", "garbage", "verify")),
    ),
    "files": Package(
        modules=("lwq/store/files.py",), tests=("tests/store/test_files.py", "tests/store/test_cache.py"), goal=MACHINE
    ),
    "process": Package(modules=("lwq/llama/process.py",), tests=("tests/llama/test_process.py",), goal=MACHINE),
}  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Trial:
    """A pytest plugin: in place of the tests it tries the mutants."""

    name: str
    package: Package
    sample: int
    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    survivors: list[Mutant] = field(default_factory=list)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        by_id = {item.nodeid: item for item in session.items}
        seconds, callers = _in_child(lambda: _watched(session.items))
        gc.freeze()
        for mutant in self._drawn():
            tests = sorted(callers.get((str(mutant.path), mutant.function), ()), key=seconds.__getitem__)
            ended = _tried(mutant, [(by_id[one], seconds[one]) for one in tests])
            self.counts[ended] += 1
            if ended in ("survived", "uncalled"):
                self.survivors.append(mutant)
                print(f"{ended}: {mutant.diff(ROOT)}", flush=True)
        return True

    def _drawn(self) -> list[Mutant]:
        everything = [mutant for path in self.package.modules for mutant in mutants(ROOT / path)]
        everything = [one for one in everything if one.function not in self.package.elsewhere]
        self.counts["all"] = len(everything)
        chance = random.Random(self.seed)
        return chance.sample(everything, min(self.sample, len(everything))) if self.sample else everything

    def summary(self) -> tuple[str, bool]:
        """The line of this package, and whether it reaches its goal."""
        survived = self.counts["survived"] + self.counts["uncalled"]
        killed = self.counts["killed"] + self.counts["late"]
        score = killed / max(1, killed + survived)
        return (
            f"mutants: package={self.name} all={self.counts['all']} tried={killed + survived} killed={killed}"
            f" (late={self.counts['late']}) survived={survived} (uncalled={self.counts['uncalled']})"
            f" score={score:.1%} goal={self.package.goal:.0%}",
            score >= self.package.goal,
        )


def _in_child(work: Any) -> Any:
    """What a fork of this process computes, so that nothing of it (threads, caches) stays here."""
    reading, writing = os.pipe()
    if not (child := os.fork()):
        os.close(reading)
        with os.fdopen(writing, "wb") as file:
            pickle.dump(work(), file)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        answer = pickle.load(file)
    os.waitpid(child, 0)
    return answer


def _watched(items: Sequence[pytest.Item]) -> tuple[dict[str, float], dict[Place, set[str]]]:
    """Seconds of each test that passes, and the tests that call each function."""
    inside, seconds, callers = str(ROOT / "lwq") + os.sep, {}, {}
    called: set[Place] = set()

    def see(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(inside):
            called.add((code.co_filename, code.co_qualname.partition(".<locals>")[0]))

    for item, following in zip(items, [*items[1:], None], strict=True):
        called.clear()
        began = time.monotonic()
        sys.settrace(see)
        threading.settrace(see)
        reports = runtestprotocol(item, log=False, nextitem=following)
        sys.settrace(None)
        if any(report.failed for report in reports):
            print(f"left out, since it fails as it is: {item.nodeid}", flush=True)
        elif all(report.passed for report in reports):
            seconds[item.nodeid] = time.monotonic() - began
            for place in called:
                callers.setdefault(place, set()).add(item.nodeid)
    return seconds, callers


def _tried(mutant: Mutant, tests: Sequence[tuple[pytest.Item, float]]) -> str:
    """``killed``, ``late`` (killed, since it took too long), ``survived``, or why it was not tried."""
    if not tests:
        return "uncalled"
    code, room = mutant.code(), Path(tempfile.mkdtemp(prefix="mutant-"))
    if not (child := os.fork()):
        try:
            os._exit(_mutated(mutant, code, tests, room))
        except BaseException:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    shutil.rmtree(room, ignore_errors=True)
    if os.WIFSIGNALED(status):
        return "late" if os.WTERMSIG(status) == signal.SIGALRM else "killed"
    return {0: "survived", 3: "untried"}.get(os.WEXITSTATUS(status), "killed")


def _mutated(mutant: Mutant, code: CodeType, tests: Sequence[tuple[pytest.Item, float]], room: Path) -> int:
    functions = list(_functions(mutant))
    if not functions:
        return 3
    for function in functions:
        function.__code__ = code
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, -1))
    items = [item for item, _ in tests]
    items[0].config._tmp_path_factory._basetemp = room  # type: ignore[attr-defined]
    for (item, seconds), following in zip(tests, [*items[1:], None], strict=True):
        signal.alarm(int(10 + 5 * seconds))
        if any(report.failed for report in runtestprotocol(item, log=False, nextitem=following)):
            return 1
    return 0


def _functions(mutant: Mutant) -> Iterator[FunctionType]:
    """The living functions of that name and place, behind whatever wraps them."""
    gc.unfreeze()
    for thing in gc.get_objects():
        if type(thing) is FunctionType:
            code = thing.__code__
            if (code.co_filename, code.co_qualname, code.co_firstlineno) == (
                str(mutant.path), mutant.function, mutant.first_line,
            ):  # fmt: skip
                yield thing


def main(sample: int, seed: int, names: Sequence[str]) -> int:
    """The number of packages that do not reach their goal."""
    os.environ |= {"HYPOTHESIS_STORAGE_DIRECTORY": tempfile.mkdtemp(), "OPENBLAS_NUM_THREADS": "1"}
    n_short, lines = 0, []
    for name in names or PACKAGES:
        package = PACKAGES[name]
        trial = Trial(name=name, package=package, sample=sample, seed=seed)
        options = ["-q", "-s", "-p", "no:cacheprovider", "-p", "no:xdist", f"--hypothesis-seed={seed}", "-W", "ignore"]
        tiers = "not tools and not slow and not web"
        pytest.main([*options, "-m", tiers, *(str(ROOT / t) for t in package.tests)], plugins=[trial])
        line, reached = trial.summary()
        lines.append(line)
        n_short += not reached
    print(*lines, sep="\n")
    return n_short


if __name__ == "__main__":
    sys.exit(bool(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0, sys.argv[3:])))
