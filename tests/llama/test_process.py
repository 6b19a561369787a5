"""Foreign programs: nothing they do fills a pipe, outlives us or ends without a word."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from lwq.errors import FileError, Interrupted, ToolchainError, ToolError
from lwq.llama.confinement import Limits
from lwq.llama.process import echo, run_tool, tool_environment

SHELL = shutil.which("bash") or "/bin/bash"


def script(text: str) -> tuple[str, ...]:
    return (sys.executable, "-c", text)


def wait_until_gone(pid: int, seconds: float = 5) -> bool:
    """Whether the process ends in time; a zombie, which its new parent has yet to bury, has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def test_flood_on_stderr_does_not_block_stdout(tmp_path: Path) -> None:
    flood = script("import sys; sys.stderr.write('x' * 3_000_000); print('done'); sys.stderr.write('y' * 1_000_000)")
    done = run_tool(flood, cwd=tmp_path, limits=Limits(stall_seconds=20))
    assert done.stdout == "done\n"
    assert (done.stderr.count("x"), done.stderr.count("y")) == (3_000_000, 1_000_000)


def test_pieces_without_newline_are_told_as_they_come(tmp_path: Path) -> None:
    heard: list[tuple[str, str, float]] = []
    counter = "printf '[1]'; sleep 0.6; printf '[2]' >&2; sleep 0.6; printf '[3]'"
    run_tool((SHELL, "-c", counter), cwd=tmp_path, on_output=lambda s, t: heard.append((s, t, time.monotonic())))
    assert [(stream, text) for stream, text, _ in heard] == [("stdout", "[1]"), ("stderr", "[2]"), ("stdout", "[3]")]
    assert heard[2][2] - heard[0][2] > 0.9


def test_character_split_between_two_writes_is_whole(tmp_path: Path) -> None:
    split = (SHELL, "-c", r"printf '\xc4'; sleep 0.4; printf '\xa0\xff'")
    assert run_tool(split, cwd=tmp_path).stdout == "Ġ�"


def test_failure_tells_program_status_command_and_last_lines(tmp_path: Path) -> None:
    fails = (SHELL, "-c", "for i in $(seq 100); do echo line $i; done; exit 3")
    with pytest.raises(ToolError) as caught:
        run_tool(fails, cwd=tmp_path)
    lines = caught.value.message.splitlines()
    assert "exit status 3" in lines[0]
    assert f"  {echo(fails)}".splitlines()[0] in lines
    assert lines[-40:] == [f"line {i}" for i in range(61, 101)]
    assert str(tmp_path) in caught.value.message


def test_status_is_left_to_the_caller_on_request(tmp_path: Path) -> None:
    assert run_tool((SHELL, "-c", "exit 7"), cwd=tmp_path, check=False).returncode == 7


@pytest.mark.parametrize(
    ("name", "words"),
    [("KILL", "killed by signal 9 (out of memory?)"), ("SEGV", "SIGSEGV: it crashed"), ("ABRT", "internal check")],
)
def test_death_by_signal_is_told_in_words(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(ToolError, match="killed by signal") as caught:
        run_tool((SHELL, "-c", f"kill -{name} $$"), cwd=tmp_path)
    assert words in caught.value.message


def test_grandchild_that_holds_the_pipe_does_not_hold_us(tmp_path: Path) -> None:
    start = time.monotonic()
    done = run_tool((SHELL, "-c", "sleep 60 & echo $!"), cwd=tmp_path)
    assert time.monotonic() - start < 10
    os.kill(int(done.stdout), signal.SIGKILL)


def test_child_that_sleeps_in_silence_is_killed_as_hung(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(ToolError, match="hung") as caught:
        run_tool((SHELL, "-c", "echo $$; exec sleep 60"), cwd=tmp_path, limits=Limits(stall_seconds=1))
    assert time.monotonic() - start < 15
    assert wait_until_gone(int(caught.value.message.splitlines()[-1]))


def test_child_that_works_in_silence_is_not_hung(tmp_path: Path) -> None:
    work = script("import time\nend = time.monotonic() + 3\nwhile time.monotonic() < end: pass\nprint('ready')")
    assert run_tool(work, cwd=tmp_path, limits=Limits(stall_seconds=1)).stdout == "ready\n"


def test_work_of_a_grandchild_counts_as_life(tmp_path: Path) -> None:
    busy = "import time; end = time.monotonic() + 3\nwhile time.monotonic() < end: pass"
    parent = script(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}]); print('ready')")
    assert run_tool(parent, cwd=tmp_path, limits=Limits(stall_seconds=1)).stdout == "ready\n"


def test_interrupted_child_may_save_before_it_ends(tmp_path: Path) -> None:
    saves = script(
        "import signal, sys, time\n"
        "def save(*_): open('saved', 'w').write('yes'); sys.exit(1)\n"
        "signal.signal(signal.SIGINT, save); print('ready', flush=True); time.sleep(60)"
    )
    with pytest.raises(Interrupted):
        run_tool(saves, cwd=tmp_path, on_output=interrupt)
    assert (tmp_path / "saved").read_text() == "yes"


def test_child_that_ignores_the_interrupt_is_ended_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lwq.llama.process.INTERRUPT_GRACE_SECONDS", 0.5)
    monkeypatch.setattr("lwq.llama.process.TERMINATE_GRACE_SECONDS", 0.5)
    stubborn = (
        "trap '' INT TERM; (trap '' INT TERM; sleep 60) & echo $$ $! > pids; echo ready; while :; do sleep 1; done"
    )
    with pytest.raises(Interrupted):
        run_tool((SHELL, "-c", stubborn), cwd=tmp_path, on_output=interrupt)
    assert all(wait_until_gone(int(pid)) for pid in (tmp_path / "pids").read_text().split())


def test_child_dies_when_lwq_is_killed(tmp_path: Path) -> None:
    ours = (
        "from pathlib import Path; from lwq.llama.process import run_tool\n"
        f"run_tool(({SHELL!r}, '-c', 'echo $$ > pid.tmp; mv pid.tmp pid; exec sleep 60'), cwd=Path('.'))"
    )
    root = str(Path(__file__).parents[2])
    parent = subprocess.Popen(script(ours), cwd=tmp_path, env={**os.environ, "PYTHONPATH": root})
    while not (tmp_path / "pid").exists():
        assert parent.poll() is None
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    child = int((tmp_path / "pid").read_text())
    if sys.platform != "linux":  # only Linux ties a child to its parent's life
        os.kill(child, signal.SIGTERM)
    assert wait_until_gone(child)


def test_environment_drops_what_steers_llama_cpp_and_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LLAMA_ARG_CTX_SIZE", "GGML_SCHED_DEBUG", "GIT_DIR"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/somewhere")
    told = run_tool(script("import os; print(*os.environ.items(), sep='\\n')"), cwd=tmp_path, env={"EXTRA": "2"}).stdout
    assert not [name for name in ("LLAMA_ARG_", "GGML_", "GIT_DIR") if name in told]
    for line in ("('LC_ALL', 'C.UTF-8')", "('LD_LIBRARY_PATH', '/somewhere')", "('EXTRA', '2')"):
        assert line in told
    assert tool_environment()["PATH"] == os.environ["PATH"]


def test_stdin_is_closed(tmp_path: Path) -> None:
    assert run_tool((SHELL, "-c", "cat; echo end"), cwd=tmp_path, limits=Limits(stall_seconds=5)).stdout == "end\n"


def test_what_cannot_run_is_told_before_it_runs(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("#!/nowhere/at/all\n")
    with pytest.raises(ToolchainError, match="absolute"):
        run_tool(("bash", "-c", "true"), cwd=tmp_path)
    with pytest.raises(ToolchainError, match="no such program"):
        run_tool((str(tmp_path / "nothing"),), cwd=tmp_path)
    with pytest.raises(ToolchainError, match="not executable"):
        run_tool((str(text),), cwd=tmp_path)
    text.chmod(0o755)
    with pytest.raises(ToolchainError, match="interpreter is missing"):
        run_tool((str(text),), cwd=tmp_path)
    with pytest.raises(FileError, match="does not exist"):
        run_tool((SHELL, "-c", "true"), cwd=tmp_path / "nowhere")


def test_echo_can_be_pasted(tmp_path: Path) -> None:
    argv = (sys.executable, "-c", "import sys; print(sys.argv[1:])", "a b", "$HOME", "'", "ä*")
    assert run_tool((SHELL, "-c", echo(argv)), cwd=tmp_path).stdout == f"{list(argv[3:])}\n"


def interrupt(stream: str, text: str) -> None:
    raise Interrupted("interrupted")


def test_peak_memory_is_the_programs_own_and_not_ours(tmp_path: Path) -> None:
    ours = bytearray(os.urandom(1 << 20) * 200)
    small = run_tool(("/bin/sh", "-c", "echo here; sleep 0.3"), cwd=tmp_path)
    assert 0 < small.peak_bytes < 20 << 20
    held = "x = bytearray(b'x' * (90 << 20)); print(len(x), flush=True); del x; import time; time.sleep(0.3)"
    large = run_tool((sys.executable, "-c", held), cwd=tmp_path)
    assert 90 << 20 < large.peak_bytes < 250 << 20
    assert len(ours) == 200 << 20


def test_the_check_on_which_llama_cpp_gave_up_stands_in_the_first_line(tmp_path: Path) -> None:
    said = "/src/ggml/src/ggml-cpu/binary-ops.cpp:137: GGML_ABORT: unsupported types: dst: f32"
    program = script(f"import os, sys; print({said!r}, file=sys.stderr, flush=True); os.abort()")
    with pytest.raises(ToolError) as caught:
        run_tool(program, cwd=tmp_path)
    assert "unsupported types: dst: f32" in caught.value.message.splitlines()[0]
