"""A release is the same bytes wherever it is built, holds the package alone, and nothing of it is unknown."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from release.__main__ import _twice
from release.audit import judge
from release.distributions import ROOT, Unfit, build, check_contents
from release.licences import COMPATIBLE, is_compatible, licences

HIDES = {"package": "torch", "id": "CVE-2025-1", "reason": "not called"}


def report(**vulnerable: Any) -> dict[str, Any]:
    """As ``pip-audit --format json`` writes it (2.10), of three packages."""
    names = ("numpy", "torch", "pillow")
    packages = [{"name": n, "version": "1.0", "vulns": vulnerable.get(n, [])} for n in names]
    return {"dependencies": packages, "fixes": []}


def found(name: str, *aliases: str, fixed: str = "") -> dict[str, Any]:
    return {"id": name, "fix_versions": [fixed] if fixed else [], "aliases": list(aliases), "description": "…"}


def test_no_known_vulnerability_is_no_fault() -> None:
    assert judge({"a.lock": report()}, []) == []


def test_a_vulnerability_is_told_with_what_mends_it() -> None:
    (fault,) = judge({"a.lock": report(pillow=[found("PYSEC-1", fixed="2.0")])}, [])
    assert fault.startswith("a.lock: pillow 1.0: PYSEC-1, mended in 2.0")


def test_one_with_a_reason_is_let_through_by_any_of_its_names_and_for_that_package_alone() -> None:
    assert judge({"a.lock": report(torch=[found("PYSEC-2", "CVE-2025-1")])}, [HIDES]) == []
    assert len(judge({"a.lock": report(numpy=[found("PYSEC-2", "CVE-2025-1")])}, [HIDES])) == 2


def test_a_reason_that_is_needed_no_more_is_told() -> None:
    assert judge({"a.lock": report()}, [HIDES]) == ["release/known.toml: CVE-2025-1 is found no more: take it out"]


def test_a_package_that_could_not_be_audited_is_no_good_news() -> None:
    silent = {"dependencies": [{"name": "numpy", "skip_reason": "Dependency not found on PyPI"}], "fixes": []}
    (fault,) = judge({"a.lock": silent}, [HIDES])
    assert fault == "a.lock: 1 of 1 packages could not be audited: numpy"


@pytest.mark.parametrize(
    ("expression", "good"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("MIT AND GPL-3.0-only", False),
        ("MIT OR GPL-3.0-only", True),
        ("GPL-3.0-only OR (Apache-2.0 AND BSD-3-Clause)", True),
        ("(MIT OR Zlib) AND (GPL-2.0-only OR GPL-3.0-only)", False),
        ("Apache-2.0 WITH LLVM-exception AND BSD-2-Clause", True),
        ("GPL-3.0-or-later WITH GCC-exception-3.1", True),
        ("GPL-3.0-or-later WITH Classpath-exception-2.0", False),
        ("(MIT", False),
        ("MIT MIT", False),
        ("unknown", False),
        ("", False),
    ],
)
def test_of_joined_licences_all_and_of_offered_ones_any_must_be_compatible(expression: str, good: bool) -> None:
    assert is_compatible(expression) is good


def test_a_licence_is_read_from_an_expression_an_id_or_an_old_classifier() -> None:
    parts = [
        {"name": "A_b", "version": "1+cpu", "licenses": [{"expression": "MIT OR Zlib"}, {"license": {"id": "X"}}]},
        {"name": "c", "version": "2", "licenses": [{"license": {"name": "License :: OSI Approved :: BSD License"}}]},
        {"name": "d", "version": "3", "licenses": [{"license": {"name": "All rights are mine"}}]},
        {"name": "e", "version": "4"},
    ]
    assert licences({"components": parts}, {"e": "ISC"}) == {
        "a-b": ("1", "MIT OR Zlib"),
        "c": ("2", "BSD-3-Clause"),
        "d": ("3", "All rights are mine"),
        "e": ("4", "ISC"),
    }


def test_the_page_of_licences_has_the_versions_of_the_locks_and_compatible_licences_only() -> None:
    page = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    locks = {"lwq": "requirements.lock", "converter": "lwq/llama/converter.lock"}
    for heading, lock in locks.items():
        part = page.partition(f"## {heading}\n")[2].partition("\n## ")[0]
        rows = re.findall(r"^\| ([^:| ]\S*) \| (\S+) \| (.+) \|$", part, re.MULTILINE)[1:]
        locked: dict[str, set[str]] = {}
        for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", (ROOT / lock).read_text(), re.MULTILINE):
            locked.setdefault(name.lower(), set()).add(version)
        assert len(rows) > 25, heading
        for name, version, licence in rows:
            assert is_compatible(licence), (name, licence)
            if name in locked:
                assert version in locked[name], f"{name}: run `make release`"
        unlocked = {name for name, *_ in rows} - set(locked)
        of_torch = {"torch", "filelock", "fsspec", "jinja2", "markupsafe", "mpmath", "networkx", "sympy"}
        assert unlocked <= (of_torch if heading == "converter" else set()), unlocked
    assert len(COMPATIBLE) > 20


def test_a_folder_among_the_distributions_is_told_and_nothing_removed(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "lwq.whl").touch()
    with pytest.raises(Unfit, match="has folders in it, which are not removed: notes"):
        _twice(tmp_path, tmp_path / "work")
    assert (tmp_path / "lwq.whl").exists()


@pytest.mark.slow
def test_two_builds_give_the_same_bytes_and_the_wheel_alone_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In other folders, at another time, under another umask and zone."""
    first = build(tmp_path / "one", tmp_path / "w")
    time.sleep(2.1)  # a ZIP counts in steps of two seconds
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    before = os.umask(0o077)
    try:
        second = build(tmp_path / "other", tmp_path / "an other plâce" / "deeper")
    finally:
        os.umask(before)
    for a, b in zip(first, second, strict=True):
        assert (a.name, sha256(a)) == (b.name, sha256(b))
    check_contents(*first)
    starts_alone(first[1], tmp_path / "unpacked")
    with tarfile.open(first[0]) as sdist:
        assert {(m.uid, m.uname, m.mtime) for m in sdist} == {(0, "", next(iter(sdist)).mtime)}
    more = tmp_path / first[1].name
    more.write_bytes(first[1].read_bytes())
    with zipfile.ZipFile(more, "a") as archive:
        archive.writestr("tests/data.gguf", b"GGUF")
    with pytest.raises(Unfit, match=r"no part of it: tests/data\.gguf"):
        check_contents(first[0], more)


def starts_alone(wheel: Path, folder: Path) -> None:
    """The wheel's files and the dependencies are all that it needs: no checkout, no data beside it."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    environ = {**os.environ, "PYTHONPATH": str(folder)}
    where = "import lwq, sys; sys.exit(0 if lwq.__file__.startswith(sys.argv[1]) else 1)"
    assert subprocess.run((sys.executable, "-P", "-c", where, str(folder)), cwd="/", env=environ).returncode == 0
    for arguments, told in (
        (("--version",), "lwq"),
        (("recipe", "schema"), "calibration"),
        (("init", "--help"), "Usage"),
    ):
        command = (sys.executable, "-P", "-m", "lwq", *arguments)
        done = subprocess.run(command, cwd="/", env=environ, capture_output=True, text=True, check=True)
        assert told in done.stdout


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
