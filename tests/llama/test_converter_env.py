"""The converter's environment: made once, never half, with one clear error for each way of failing."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lwq.errors import FileError, SpaceError
from lwq.llama import converter_env
from lwq.llama.converter_env import converter_python, current, environments, is_whole
from lwq.store.files import lock
from tests.cli.test_main import lwq

NOWHERE = {
    "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
    "PIP_FIND_LINKS": "",
    "PIP_EXTRA_INDEX_URL": "",
    "PIP_CONFIG_FILE": "/dev/null",
    "LWQ_TORCH_INDEX": "http://127.0.0.1:9/cpu",
}


def stand_in(folder: Path) -> None:
    """What a finished environment looks like."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    (folder / "complete").touch()


def test_a_whole_environment_is_taken_and_another_version_is_not(guarded: Path) -> None:
    stand_in(current())
    assert converter_python() == current() / "bin" / "python"
    stand_in(guarded / "converter" / "0123456789abcdef")
    assert len(list(environments())) == 2
    (current() / "complete").unlink()
    assert not is_whole(current())


def test_a_python_of_the_users_own_must_be_one_and_have_all(
    guarded: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LWQ_CONVERT_PYTHON", "no-such-python")
    with pytest.raises(FileError, match="LWQ_CONVERT_PYTHON=no-such-python: no such program"):
        converter_python()
    monkeypatch.setenv("LWQ_CONVERT_PYTHON", sys.executable)
    with pytest.raises(FileError, match="lacks torch, transformers"):
        converter_python()
    (tmp_path / "python-like").symlink_to("/bin/sh")
    monkeypatch.setenv("LWQ_CONVERT_PYTHON", str(tmp_path / "python-like"))
    with pytest.raises(FileError, match="is no Python"):
        converter_python()


def test_room_is_looked_for_first(guarded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lwq.store.files.free_bytes", lambda path: 1_000_000_000)
    with pytest.raises(SpaceError, match="converter's environment"):
        converter_python()
    assert not current().exists()


@pytest.mark.slow
def test_without_a_network_there_is_one_error_and_nothing_counts(guarded: Path, tmp_path: Path) -> None:
    said = lwq("toolchain", "converter", cwd=tmp_path, **NOWHERE)
    assert said.code == 1
    assert "the converter's environment could not be made: pip: " in said.err
    assert "PIP_INDEX_URL and LWQ_TORCH_INDEX" in said.err
    assert not is_whole(current())
    assert "not finished" in lwq("cache", "list", cwd=tmp_path).out
    assert "PASS  converter: made when" in lwq("toolchain", "doctor", cwd=tmp_path).out


@pytest.mark.slow
def test_a_killed_making_never_counts_and_another_process_waits(guarded: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lwq", "toolchain", "converter"]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not (current() / "bin" / "python").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert current().exists()
    assert not is_whole(current())
    with lock(current().parent / f"{current().name}.lock"):
        process = subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.PIPE, text=True)
        assert process.stderr
        assert "waiting for another process that is making the converter's environment" in process.stderr.readline()
        import shutil

        shutil.rmtree(current())
        stand_in(current())
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_what_pip_says_is_told_as_phases_and_megabytes() -> None:
    told: list[tuple[str, int, int]] = []
    heard = converter_env._Heard(on_progress=lambda what, done, total: told.append((what, done, total)))
    heard("stdout", "Collecting torch\n  Downloading torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl (190.5 MB)\n  Downl")
    heard("stdout", "oading six-1.16-py2.py3-none-any.whl (11 kB)\n  Downloading numpy-2.2.6-cp311.whl (16.8 MB)\n")
    heard("stdout", "Installing collected packages: torch, six, numpy\n")
    assert [what.partition(": ")[2] for what, _, _ in told] == [
        "torch (190 MB)", "torch (190 MB)", "numpy (17 MB)", "unpacking 3 packages",
    ]  # fmt: skip
    assert [done for _, done, _ in told] == [190, 191, 207, 0]
