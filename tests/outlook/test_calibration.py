"""The pace of a machine is measured once, and again where it may be another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lwq.llama.toolchain import Toolchain
from lwq.outlook import calibration
from lwq.outlook.calibration import MachinePace, calibrated
from lwq.outlook.effort import Effort
from lwq.plan.plan import Machine
from tests.fake_toolchain import make_fake_toolchain


def test_time_is_the_sum_of_each_kind_of_work() -> None:
    pace = MachinePace(passed=2.0, generated=3.0, quantized=5.0, written=7.0)
    both = Effort(passed=10, generated=1) + Effort(passed=1, quantized=2, written=1)
    assert pace.seconds(both) == 11 * 2 + 3 + 10 + 7


@pytest.mark.tools
def test_a_pace_is_kept_with_what_it_depends_on(
    toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(toolchain=toolchain, n_threads=1, cpu="a test's CPU")
    monkeypatch.setattr(calibration, "_is_busy", lambda: False)
    pace = calibrated(machine, tmp_path)
    assert 0 < pace.passed < pace.generated  # many tokens at once share the reading of weights
    assert min(pace.quantized, pace.written) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["calibration.json"]
    other = MachinePace(passed=1, generated=1, quantized=1, written=1)
    monkeypatch.setattr(calibration, "_measured", lambda machine, folder: other)
    assert calibrated(machine, tmp_path) == pace
    assert calibrated(replace(machine, n_threads=2), tmp_path) == other


@pytest.mark.tools
@pytest.mark.parametrize(("before", "after", "again"), [(True, True, False), (True, False, True), (False, True, False)])
def test_a_pace_of_a_busy_machine_is_measured_again_when_it_has_less_to_do(
    toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool, after: bool, again: bool
) -> None:
    paces = iter(MachinePace(passed=n, generated=1, quantized=1, written=1) for n in (1, 2))
    monkeypatch.setattr(calibration, "_measured", lambda machine, folder: next(paces))
    machine = Machine(toolchain=toolchain, n_threads=1, cpu="a test's CPU")
    monkeypatch.setattr(calibration, "_is_busy", lambda: before)
    assert calibrated(machine, tmp_path).passed == 1
    monkeypatch.setattr(calibration, "_is_busy", lambda: after)
    assert calibrated(machine, tmp_path).passed == (2 if again else 1)


@pytest.mark.parametrize("damage", [b"", b"{}", b"[1]", b"\xff\xfe", b'{"facts": 1}'])
def test_a_note_of_the_pace_that_is_damaged_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes
) -> None:
    machine = Machine(toolchain=make_fake_toolchain(tmp_path / "tools", {}), n_threads=1, cpu="a test's CPU")
    pace = MachinePace(passed=1, generated=1, quantized=1, written=1)
    monkeypatch.setattr(calibration, "_measured", lambda machine, folder: pace)
    assert calibrated(machine, tmp_path) == pace
    path = tmp_path / "calibration.json"
    good = path.read_bytes()
    for data in (damage, good.replace(b'"passed": 1', b'"passed": 9')):
        path.write_bytes(data)
        assert calibrated(machine, tmp_path) == pace
        assert path.read_bytes() == good
