"""What is missing or does not run is named, with the way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from lwq.llama.doctor import doctor
from lwq.llama.toolchain import PROGRAMS
from tests.llama.test_toolchain import write_programs


def test_doctor_names_what_is_missing_and_the_way_out(guarded: Path) -> None:
    checks = {check.name: check for check in doctor(None)}
    assert {"git", "cmake", "c++", "ninja", "ccache", "disk", "bindings", "toolchain"} <= checks.keys()
    assert checks["toolchain"].status == "FAIL"
    assert "lwq toolchain build" in checks["toolchain"].fix
    assert checks["bindings"].status == "PASS"


def test_doctor_finds_a_program_that_does_not_run(tmp_path: Path) -> None:
    folder = write_programs(tmp_path / "llama" / "bin").parent
    (folder / "bin" / "llama-tokenize").write_text("#!/bin/sh\nkill -ILL $$\n", encoding="utf-8")
    checks = {check.name: check for check in doctor(folder)}
    assert checks["llama-tokenize"].status == "FAIL"
    assert checks["llama-quantize"].status == "PASS"
    assert checks["toolchain"].status == "WARN"
    assert checks["libraries"].status == "FAIL"
    assert "cannot be loaded" in checks["libraries"].detail
    assert "CXX=g++" in checks["libraries"].fix


@pytest.mark.tools
def test_real_build_is_whole_and_runs(tools_home: Path) -> None:
    checks = {check.name: check for check in doctor(None)}
    assert {name: checks[name].status for name in ("toolchain", "libraries", *PROGRAMS)} == dict.fromkeys(
        ("toolchain", "libraries", *PROGRAMS), "PASS"
    )
