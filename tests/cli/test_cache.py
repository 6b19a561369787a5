"""What is kept is listed once, held against its hashes, and goes when nobody needs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lwq.cli.main import cli
from lwq.errors import ToolError, UsageError
from lwq.store.cache import Cache
from tests.store.test_cache import VALUE, write


def lwq(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["cache", *arguments], standalone_mode=False)


def test_what_a_failed_step_left_is_listed_once_without_the_model_it_links_to(guarded: Path, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(bytes(3 << 20))

    def fail(folder: Path) -> None:
        (folder / "model.gguf").symlink_to(tmp_path / "model.gguf")
        (folder / "items.txt").write_text("a few")
        raise ToolError("killed")

    with pytest.raises(ToolError):
        Cache(guarded).build("toy", VALUE, fail)
    head, tail = lwq("gc").output.splitlines()
    assert head.startswith(".toy-")
    assert tail == "1 entries, 5 B to remove (`--yes` does it)"
    assert lwq("gc", "--yes").output.splitlines()[-1] == "1 entries, 5 B removed"
    assert lwq("gc").output == "0 entries, 0 B to remove (`--yes` does it)\n"
    assert (tmp_path / "model.gguf").stat().st_size == 3 << 20


HOLD = """
import sys
from pathlib import Path
from lwq.store.cache import Cache
cache = Cache(Path(sys.argv[1]))
cache.hold([])
print("held", flush=True)
sys.stdin.read()
"""


def test_damage_is_told_then_repaired_unless_a_run_is_at_work(guarded: Path) -> None:
    entry, _ = Cache(guarded).build("toy", VALUE, write)
    assert lwq("verify").output == "1 steps whole, 0 damaged\n"
    entry.path("out.bin").chmod(0o644)
    entry.path("out.bin").write_bytes(b"resulT")
    told = lwq("verify")
    assert told.return_value == 1
    what = "is not whole, or was changed since it was made"
    assert told.output == f"{entry.folder}: {what}\n0 steps whole, 1 damaged; `--repair` removes it\n"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(guarded)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    ) as run:
        assert run.stdout
        run.stdout.readline()
        refused = lwq("verify", "--repair").exception
        assert isinstance(refused, UsageError)
        assert "a run is at work" in lwq("gc").output
        run.communicate()
    assert entry.folder.exists()
    mended = lwq("verify", "--repair", "--json")
    assert mended.return_value == 0
    assert [(one["path"], one["removed"]) for one in json.loads(mended.output)] == [(str(entry.folder), True)]
    assert not entry.folder.exists()
