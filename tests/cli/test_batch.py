"""Several recipes as a user runs them: with the real tools, one that fails, kills, stops, two clients at once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from lwq.gguf.header import read_header
from lwq.gguf.rewrite import rewrite_gguf
from lwq.store.ledger import Ledger, Order
from tests.cli.test_main import Said, lwq
from tests.run_tiny import RECIPE, write_inputs
from tests.test_kill import fresh
from tests.tiny_models import write_tiny_llama

pytestmark = pytest.mark.tools
SHARED = (
    RECIPE[RECIPE.index("[calibration]") : RECIPE.index("[selection]")]
    + RECIPE[RECIPE.index("[evaluation]") : RECIPE.index("[[targets]]")]
    + "[bench]\ntests = []\n"
)
KILLS = (("one", "imatrix"), ("one", "cont"), ("two", "quantize"))
FTYPES = {"one": "Q4_K_M", "two": "Q8_0", "three": "Q5_K_M"}
FILES = tuple(f"{name}.toml" for name in FTYPES)


@pytest.fixture
def folder(tmp_path: Path, tools_home: Path) -> Path:
    """Three recipes of one model, with the same steps up to their one file."""
    write_inputs(tmp_path)
    for name, ftype in FTYPES.items():
        write_recipe(tmp_path / f"{name}.toml", name, ftype)
    return tmp_path


def write_recipe(path: Path, name: str, ftype: str, model: str = "tiny.gguf") -> None:
    text = f'name = "{name}"\nmodel = "{model}"\n{SHARED}[[targets]]\nftype = "{ftype}"\n'
    path.write_text(text, encoding="utf-8")


def write_damaged(folder: Path) -> None:
    """A model whose header is well and one of whose values is no number, which only reading all of it tells."""
    model = write_tiny_llama(folder / "other.gguf", ggml_type="f32", seed=3)
    up = np.zeros((256, 256), np.float32)
    up[3, 5] = np.nan
    rewrite_gguf(read_header(model), folder / "damaged.gguf", metadata={}, tensors={"blk.1.ffn_up.weight": up})


def start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "lwq", *arguments]
    return subprocess.Popen(command, cwd=cwd, env=environ, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> Said:
    out, err = process.communicate(timeout=900)
    assert "Traceback" not in err
    return Said(process.returncode, out, err)


def orders(home: Path) -> dict[str, Order]:
    return {order.name: order for order in Ledger(home).orders()}


def states(home: Path) -> dict[str, str]:
    return {name: order.state for name, order in orders(home).items()}


def wait_for(process: subprocess.Popen[str], home: Path, name: str, step: str = "") -> Order:
    """The order once it runs, at a step whose name begins so."""
    while process.poll() is None:
        order = orders(home).get(name)
        if order and order.state == "running" and order.step.startswith(step):
            return order
        time.sleep(0.005)
    raise AssertionError(process.communicate()[1])


def outcome(folder: Path) -> dict[str, tuple[Any, dict[str, bytes]]]:
    """Of each report the record without what a clock measured, and the bytes of every GGUF."""
    found = {}
    for path in sorted((folder / "reports").glob("*/record.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        del record["provenance"]
        for row in record["rows"]:
            del row["speed"]
        found[path.parent.name] = (record, {p.name: p.read_bytes() for p in path.parent.glob("*.gguf")})
    return found


def test_one_that_fails_stops_no_other_and_resume_goes_on_with_it(folder: Path, tools_home: Path) -> None:
    write_damaged(folder)
    write_recipe(folder / "bad.toml", "bad", "Q4_0", "damaged.gguf")
    said = lwq("run", "one.toml", "bad.toml", "two.toml", cwd=folder)
    assert said.code == 1
    assert "lwq: bad: convert" in said.err
    assert said.err.splitlines()[-2] == "lwq: of 3 recipes 1 failed (bad)"
    assert "`lwq resume`" in said.err.splitlines()[-1]
    assert [line for line in said.out.splitlines() if line.startswith("card: ")] == [
        f"card: reports/{name}/README.md" for name in ("one", "two")
    ]
    assert said.out.splitlines()[-1] == "index: reports/index.html and INDEX.md, 2 runs"
    assert max(map(len, said.out.splitlines())) <= 80
    index = (folder / "reports" / "INDEX.md").read_text(encoding="utf-8")
    assert "one/README.md" in index
    assert "two/README.md" in index
    assert states(tools_home) == {"one": "done", "bad": "failed", "two": "done"}
    shown = lwq("status", cwd=folder)
    assert "bad: convert: damaged.gguf: 1 values are infinite or not a number" in shown.out
    assert "`lwq resume` goes on with bad" in shown.out
    assert max(map(len, shown.out.splitlines()[:4])) <= 80

    shutil.copy(folder / "other.gguf", folder / "damaged.gguf")
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    said = lwq("resume", "--json", cwd=elsewhere)
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert [(run["name"], run["state"]) for run in found["runs"]] == [("bad", "done")]
    assert found["runs"][0]["card"] == str(folder / "reports" / "bad" / "README.md")
    assert found["index"] == [str(folder / "reports" / "index.html")]
    assert "bad/README.md" in (folder / "reports" / "INDEX.md").read_text(encoding="utf-8")
    assert not list(elsewhere.iterdir())
    assert set(states(tools_home).values()) == {"done"}
    assert lwq("resume", cwd=folder).out == "nothing to go on with\n"


def test_everything_is_checked_before_the_first_step_of_any(folder: Path, tools_home: Path) -> None:
    write_recipe(folder / "typo.toml", "typo", "Q4_K_X")
    said = lwq("run", "one.toml", "two.toml", "typo.toml", "absent.toml", cwd=folder)
    assert said.code == 2
    assert "typo.toml: 1 mistake" in said.err
    assert "absent.toml: no such recipe" in said.err
    write_recipe(folder / "gone.toml", "gone", "Q4_0", "gone.gguf")
    write_recipe(folder / "none.toml", "none", "Q4_0", "none.gguf")
    write_recipe(folder / "all.toml", "all", 'Q4_0"\nprune_layers = [0, 1, 2, 3]\nname = "nothing')
    said = lwq("run", "one.toml", "gone.toml", "none.toml", "all.toml", cwd=folder)
    assert said.code == 1
    for told in ("gone: ", "none: ", "all: ", "all 4 layers are named"):
        assert told in said.err
    (folder / "again.toml").write_text((folder / "one.toml").read_text(encoding="utf-8"), encoding="utf-8")
    said = lwq("run", "one.toml", "again.toml", cwd=folder)
    assert said.code == 2
    assert "one.toml, again.toml: 2 recipes are named 'one'" in said.err
    said = lwq("run", "one.toml", "two.toml", "--model", "tiny.gguf", cwd=folder)
    assert said.code == 2
    assert "is for one recipe" in said.err
    (folder / "file").write_text("in the way")
    said = lwq("run", "one.toml", "two.toml", "--out", "file", cwd=folder)
    assert said.code == 1
    assert "one: file/one: cannot write the report" in said.err
    assert not list(tools_home.glob("steps/*"))
    assert orders(tools_home) == {}


def test_a_family_has_a_report_for_each_model(folder: Path, tools_home: Path) -> None:
    write_tiny_llama(folder / "large.gguf", n_layer=5, seed=4)
    (folder / "recipes").mkdir()
    shared = SHARED.replace('text = "', 'text = "../') + '[[targets]]\nftype = "Q4_K_M"\n[card]\nauthor = "me"\n'
    (folder / "recipes" / "shared.toml").write_text(f'name = "all"\n{shared}', encoding="utf-8")
    family = 'recipe = "recipes/shared.toml"\n[[models]]\nmodel = "tiny.gguf"\n[[models]]\nmodel = "large.gguf"\n'
    (folder / "family.toml").write_text(family + 'name = "big"\ncard = { title = "The large one" }\n', encoding="utf-8")
    assert lwq("recipe", "check", "family.toml", cwd=folder).out == (
        "family.toml: no mistake; 2 models, each with 1 target\n"
    )
    planned = json.loads(lwq("plan", "family.toml", "--json", cwd=folder).out)
    assert list(planned) == ["all-tiny", "big"]
    assert "all-tiny\n\nstep " in lwq("run", "family.toml", "--dry-run", cwd=folder).out
    said = lwq("run", "family.toml", "--out", "made", cwd=folder)
    assert said.code == 0, said.err
    assert sorted(p.name for p in (folder / "made").iterdir()) == ["INDEX.md", "all-tiny", "big", "index.html"]
    assert "The large one" in (folder / "made" / "big" / "README.md").read_text(encoding="utf-8")
    own = (folder / "made" / "big" / "big.toml").read_text(encoding="utf-8")
    assert own.splitlines()[:3] == ["# family.toml: shared.toml for big", 'name = "big"', 'model = "large.gguf"']
    assert (tools_home / "locks" / "big.lock").exists()
    assert states(tools_home) == {"all-tiny": "done", "big": "done"}
    assert lwq("why", "convert", "family.toml", cwd=folder).code == 2


def test_a_run_of_one_is_on_the_list_too(folder: Path, tools_home: Path) -> None:
    said = lwq("run", "one.toml", "--json", cwd=folder)
    assert json.loads(said.out) == {"card": "reports/one/README.md", "folder": "reports/one"}
    assert not (folder / "reports" / "index.html").exists()
    (order,) = orders(tools_home).values()
    assert (order.state, order.n_done, order.folder) == ("done", order.n_steps, str(folder / "reports" / "one"))
    write_damaged(folder)
    assert lwq("run", "one.toml", "--model", "damaged.gguf", cwd=folder).code == 1
    assert states(tools_home) == {"one": "failed"}
    shutil.copy(folder / "other.gguf", folder / "damaged.gguf")
    assert lwq("resume", "one", cwd=folder).code == 0
    assert states(tools_home) == {"one": "done"}
    assert "damaged.gguf" in (folder / "reports" / "one" / "record.json").read_text(encoding="utf-8")


def test_stopped_one_loses_its_tool_and_the_others_go_on(folder: Path, tools_home: Path) -> None:
    slow = (folder / "two.toml").read_text(encoding="utf-8").replace("tests = []", 'tests = ["tg99999"]')
    (folder / "two.toml").write_text(slow, encoding="utf-8")
    process = start("run", *FILES, cwd=folder)
    wait_for(process, tools_home, "two", "bench")
    tools: list[psutil.Process] = []
    while not tools:
        tools = [c for c in psutil.Process(process.pid).children() if c.name() == "llama-bench"]
    said = lwq("stop", "two", cwd=folder)
    assert (said.code, said.out) == (0, "stopped: two\n")
    assert not psutil.wait_procs(tools, timeout=10)[1]
    said = ended(process)
    assert said.code == 130
    assert "lwq: of 3 recipes 1 stopped (two)" in said.err
    assert states(tools_home) == {"one": "done", "two": "stopped", "three": "done"}
    process = start("run", *FILES, cwd=folder)
    wait_for(process, tools_home, "two", "bench")
    assert "stopped: two, three" in lwq("stop", cwd=folder).out
    assert ended(process).code == 130
    assert states(tools_home) == {"one": "done", "two": "stopped", "three": "stopped"}
    assert lwq("stop", "--forget", cwd=folder).out == "off the list: one, two, three\n"
    assert lwq("status", cwd=folder).out.startswith("nothing is running")


def test_interrupted_by_the_user_the_rest_stays_queued(folder: Path, tools_home: Path) -> None:
    process = start("run", *FILES, cwd=folder)
    wait_for(process, tools_home, "one", "baseline")
    process.send_signal(signal.SIGINT)
    said = ended(process)
    assert said.code == 130
    assert said.err.splitlines()[-2] == "lwq: interrupted; 2 more recipes stay queued"
    assert "`lwq resume` goes on with all of them" in said.err.splitlines()[-1]
    assert states(tools_home) == {"one": "stopped", "two": "queued", "three": "queued"}
    said = lwq("resume", cwd=folder)
    assert said.code == 0, said.err
    assert set(states(tools_home).values()) == {"done"}
    assert said.out.splitlines()[-1] == "index: reports/index.html and INDEX.md, 3 runs"


@pytest.mark.slow
def test_killed_anywhere_resume_makes_the_same_bytes(
    folder: Path, tools_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in steps of either recipe, resumed from there to the next kill."""
    said = ended(start("run", *FILES[:2], cwd=folder))
    assert said.code == 0, said.err
    whole = outcome(folder)
    assert len(whole) == 2
    shutil.rmtree(folder / "reports")
    home = fresh(tools_home, folder / "home")
    monkeypatch.setenv("LWQ_HOME", str(home))
    process = start("run", *FILES[:2], cwd=folder)
    for name, step in KILLS:
        wait_for(process, home, name, step)
        process.kill()
        process.communicate()
        found = orders(home)
        assert found[name].state == "interrupted"
        assert not any(order.is_attended for order in found.values())
        assert f"`lwq resume` goes on with {name}" in lwq("status", cwd=folder).out
        process = start("resume", cwd=folder)
    said = ended(process)
    assert said.code == 0, said.err
    assert outcome(folder) == whole
    assert set(states(home).values()) == {"done"}
    assert not [p for p in home.glob("steps/.*") if p.is_dir()]


@pytest.mark.slow
def test_two_clients_at_once_take_turns(folder: Path, tools_home: Path) -> None:
    first = start("run", "one.toml", "two.toml", cwd=folder)
    wait_for(first, tools_home, "one")
    write_recipe(folder / "four.toml", "four", "Q6_K")
    second = start("run", "three.toml", "four.toml", "two.toml", cwd=folder)
    said, other = ended(first), ended(second)
    assert (said.code, other.code) == (0, 0), (said.err, other.err)
    assert "waiting for one, which process" in other.err
    found = sorted(Ledger(tools_home).orders(), key=lambda o: o.started or 0.0)
    assert [order.name for order in found] == ["one", "two", "three", "four", "two"]
    for before, after in pairwise(found):
        assert before.finished
        assert after.started
        assert before.finished <= after.started
    assert sorted(outcome(folder)) == ["four", "one", "three", "two"]
