"""`make release`: makes all of a release in a folder and tries it; uploads nothing.

Every check is made, whatever the others found; the exit code is 1 where one found something.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from release.audit import audit, judge
from release.distributions import ROOT, Unfit, build, check_contents
from release.licences import is_compatible, licences, table

LOCK: Final = ROOT / "requirements.lock"
CONVERTER_LOCK: Final = ROOT / "lwq" / "llama" / "converter.lock"
PAGE: Final = ROOT / "docs" / "licences.md"
KNOWN: Final = ROOT / "release" / "known.toml"
_HEAD: Final = """# Licences

What lwq is installed with, at the versions of `requirements.lock`, and what its converter's environment holds, at those
of `lwq/llama/converter.lock`. `make release` writes this page from the SBOMs (CycloneDX) that it makes, and refuses a
licence that is not compatible (`release/licences.py`). lwq ships none of these packages; it is under MIT itself.
"""


def main(out: Path, converter: str, asked: tuple[str, ...]) -> int:
    """The exit code."""
    done: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="lwq release ") as name:
        work = Path(name)
        wheel = _try(done, "sdist and wheel: two builds, the same bytes", lambda: _twice(out, work))
        if wheel:
            _try(done, "twine check", lambda: _run(sys.executable, "-m", "twine", "check", "--strict", *_made(out)))
            alone = work / "alone"
            if _try(done, "the wheel alone in an empty environment", lambda: _alone(wheel, alone)):
                python = str(alone / "bin" / "python")
                _try(done, "SBOM and licences", lambda: _sboms(out, {"lwq": python, "converter": converter}))
    _try(done, "known vulnerabilities", lambda: _audit(asked))
    bad = [what for what, fault in done.items() if fault]
    print(f"\n{len(done) - len(bad)} of {len(done)} checks passed; nothing was uploaded. {out}:")
    print(*(f"  {path.name}" for path in sorted(out.iterdir())), sep="\n")
    return 1 if bad else 0


def _try(done: dict[str, str], what: str, check: Callable[[], Any]) -> Any:
    try:
        result, done[what] = check(), ""
    except Unfit as fault:
        result, done[what] = None, str(fault)
    print(
        f"{'✗' if done[what] else '✓'} {what}",
        *(f"    {line}" for line in done[what].splitlines()),
        sep="\n",
        flush=True,
    )
    return result


def _run(*command: str, **environ: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environ}, cwd=tempfile.gettempdir()
    )
    if done.returncode:
        raise Unfit(
            f"{Path(command[0]).name} {' '.join(command[1:4])} …: {(done.stderr + done.stdout).strip()[-1500:]}"
        )
    return done.stdout or "done"


def _made(out: Path) -> list[str]:
    return [str(p) for p in sorted(out.iterdir()) if p.name.endswith((".whl", ".tar.gz"))]


def _twice(out: Path, work: Path) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    if folders := [left.name for left in out.iterdir() if left.is_dir() and not left.is_symlink()]:
        raise Unfit(f"{out}: has folders in it, which are not removed: {', '.join(sorted(folders))}")
    for left in out.iterdir():
        left.unlink()
    first = build(out, work / "one")
    second = build(work / "out", work / "another place")
    for a, b in zip(first, second, strict=True):
        if (a.name, a.read_bytes()) != (b.name, b.read_bytes()):
            raise Unfit(f"{a.name}: two builds of one commit differ")
    check_contents(*first)
    return first[1]


def _alone(wheel: Path, folder: Path) -> str:
    """In an environment that has what the lock says of its dependencies and nothing else."""
    _run(sys.executable, "-m", "venv", str(folder))
    bounds = folder / "constraints.txt"
    names = re.findall(r"^[A-Za-z0-9][^\s\\]*==[^\\\n]*", LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    bounds.write_text("\n".join(names), encoding="utf-8")
    python, lwq = str(folder / "bin" / "python"), str(folder / "bin" / "lwq")
    options = ("--quiet", "--disable-pip-version-check", "-c", str(bounds))
    _run(python, "-m", "pip", "install", *options, f"{wheel}[parquet]", CMAKE_ARGS="-DLLAMA_BUILD=OFF")
    _run(python, "-m", "pip", "check")
    version = _run(lwq, "--version", LWQ_HOME=str(folder / "home")).strip()
    if f"-{version.split()[-1]}-" not in wheel.name:
        raise Unfit(f"{wheel.name}: says that it is {version}")
    if "model" not in _run(lwq, "recipe", "schema", LWQ_HOME=str(folder / "home")):
        raise Unfit(f"{wheel.name}: `lwq recipe schema` prints no schema")
    return version


def _sboms(out: Path, pythons: dict[str, str]) -> str:
    """One of each environment, valid; the page of licences, current; each licence compatible."""
    stated = tomllib.loads(KNOWN.read_text(encoding="utf-8"))["licences"]
    faults, page = [], _HEAD
    for name, python in pythons.items():
        file = out / f"{name}.cdx.json"
        options = ("--output-reproducible", "--output-format", "JSON", "--validate", "-o", str(file))
        _run(sys.executable, "-m", "cyclonedx_py", "environment", *options, python)
        found = licences(json.loads(file.read_text(encoding="utf-8")), stated)
        found = {k: v for k, v in found.items() if k not in ("lwq", "pip", "setuptools")}
        page += f"\n## {name}\n\n{table(found)}\n"
        faults += [f"{k}: {v[1]} is not known to be compatible" for k, v in found.items() if not is_compatible(v[1])]
    if page != (PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""):
        PAGE.write_text(page, encoding="utf-8")
        faults.append("docs/licences.md was not current; it is written anew, commit it")
    if faults:
        raise Unfit("\n".join(faults))
    return page


def _audit(options: tuple[str, ...]) -> str:
    known = tomllib.loads(KNOWN.read_text(encoding="utf-8")).get("vulnerabilities", [])
    reports = {lock.name: audit(lock, options) for lock in (LOCK, CONVERTER_LOCK)}
    if faults := judge(reports, known):
        raise Unfit("\n".join(faults))
    return "audited"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).absolute(), sys.argv[2], tuple(sys.argv[3:])))
