"""Speeds: rounds of all files in turns, ratios paired by round, what others use, `lwq bench`."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from scipy import stats

from lwq.errors import ToolError
from lwq.llama.machine import busy_share, n_cpus
from lwq.llama.process import run_tool
from lwq.llama.toolchain import Toolchain
from lwq.llama.transcripts import LoadClock
from lwq.metrics.speeds import busiest, mean, ratio, ratio_to
from lwq.metrics.values import Speed
from lwq.plan.execution import Surroundings, execute
from lwq.plan.plan import Machine, step_of
from lwq.steps import bench
from lwq.steps.step import Given
from lwq.store.cache import Cache
from tests.cli.test_main import lwq
from tests.fake_toolchain import make_fake
from tests.run_tiny import Log
from tests.tiny_models import write_tiny_llama

TESTS = ("tg4", "pp16")
# tells which model was run and what was printed, in the order of the runs
WATCHED = 'out=$("$real" "$@") || exit; echo "$2" >> "{log}"; echo "$out" >> "{log}.json"; echo "$out"'
BREAKS_AT_4 = '[ "$(wc -l < "{log}")" = 3 ] && kill -KILL $$; ' + WATCHED


def speed(samples: tuple[float, ...], test: str = "pp512", busy: float | None = 0.0) -> Speed:
    value = mean(samples)
    return Speed(
        test=test, tokens_per_second=value, samples=samples, n_threads=2, backend="CPU", cpu="a CPU", busy=busy
    )  # fmt: skip


def test_mean_and_its_standard_error_are_those_of_the_rounds() -> None:
    found = mean((100.0, 110.0, 120.0))
    assert found.value == 110
    assert found.stderr == pytest.approx(10 / math.sqrt(3))  # s = 10
    assert mean((100.0,)).stderr is None


def test_ratio_and_interval_by_hand() -> None:
    found = ratio((110.0, 90.0, 105.0), (100.0, 100.0, 100.0))
    # d = ln 1.1, ln 0.9, ln 1.05 = .0953102, −.1053605, .0487902: mean .0129133, s .1050359, s/√3 .0606425
    # t of 2 degrees of freedom 4.302653: ± .2609240
    assert found.value == pytest.approx(math.exp(0.0129133), rel=1e-6)
    assert found.low == pytest.approx(math.exp(0.0129133 - 0.2609240), rel=1e-5)
    assert found.high == pytest.approx(math.exp(0.0129133 + 0.2609240), rel=1e-5)
    assert (found.n_rounds, found.is_tied) == (3, True)


def test_interval_is_the_paired_t_interval_of_scipy() -> None:
    a, b = (201.0, 207.0, 190.0, 220.0, 199.0), (181.0, 188.0, 176.0, 190.0, 185.0)
    logs = [math.log(x) for x in a], [math.log(x) for x in b]
    interval = stats.ttest_rel(*logs).confidence_interval(0.95)
    found = ratio(a, b)
    assert (found.low, found.high) == pytest.approx((math.exp(interval.low), math.exp(interval.high)), rel=1e-9)
    assert not found.is_tied


def test_what_slows_a_whole_round_leaves_the_ratio_as_it_is() -> None:
    a, b, shared = (11.0, 11.2, 10.9), (10.0, 10.1, 10.0), (1.0, 0.4, 0.9)
    slowed = [tuple(x * s for x, s in zip(speeds, shared, strict=True)) for speeds in (a, b)]
    calm, noisy = ratio(a, b), ratio(*slowed)
    assert (noisy.value, noisy.low, noisy.high) == pytest.approx((calm.value, calm.low, calm.high))


def test_ratio_the_other_way_round_is_the_inverse() -> None:
    a, b = (11.0, 12.0, 10.0), (10.0, 9.0, 10.5)
    there, back = ratio(a, b), ratio(b, a)
    assert (back.value, back.low, back.high) == pytest.approx((1 / there.value, 1 / there.high, 1 / there.low))


def test_speeds_that_were_not_measured_in_the_same_rounds_have_no_ratio() -> None:
    first = speed((10.0, 11.0))
    assert ratio_to(speed((20.0, 22.0)), (first,)).value == pytest.approx(2)
    assert ratio_to(speed((20.0, 22.0), test="tg8"), (first,)) is None
    assert ratio_to(speed((20.0, 22.0, 21.0)), (first,)) is None
    assert ratio_to(speed((20.0, 22.0), busy=None), (first,)) is None
    with pytest.raises(ValueError, match="1 round"):
        ratio((1.0,), (1.0,))
    assert busiest((first, speed((1.0,), busy=0.4), speed((1.0,), busy=None))) == 0.4


def test_load_time_is_of_the_last_start_and_ends_with_its_first_warm_up() -> None:
    clock = LoadClock()
    clock.feed("llama-bench: benchmark 1/2: star", 1.0)
    assert clock.began is None
    clock.feed("ting\n", 1.5)
    clock.feed("llama-bench: benchmark 1/2: warmup prompt run\nllama-bench: benchmark 2/2: starting\n", 4.0)
    clock.feed("llama-bench: benchmark 1/2: warmup generation run\n", 9.0)
    assert clock.seconds == 2.5
    clock.feed("llama-bench: benchmark 1/2: starting\n", 10.0)
    assert clock.seconds is None
    clock.feed("llama-bench: benchmark 1/2: warmup generation run\n", 10.25)
    assert clock.seconds == 0.25


def test_peak_memory_is_the_programs_own_and_not_ours(tmp_path: Path) -> None:
    ours = bytearray(os.urandom(1 << 20) * 200)
    small = run_tool(("/bin/sh", "-c", "echo here; sleep 0.3"), cwd=tmp_path)
    assert 0 < small.peak_bytes < 20 << 20
    held = "x = bytearray(b'x' * (90 << 20)); print(len(x), flush=True); del x; import time; time.sleep(0.3)"
    large = run_tool((sys.executable, "-c", held), cwd=tmp_path)
    assert 90 << 20 < large.peak_bytes < 250 << 20
    assert len(ours) == 200 << 20


def test_busy_share_sees_other_programs() -> None:
    spin = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n_cpus())]
    try:
        time.sleep(0.3)
        assert 0.5 < busy_share() <= 1
    finally:
        for process in spin:
            process.kill()
            process.wait()


@dataclass
class Session:
    """A bench step of two tiny models of one file name, in a home of its own."""

    folder: Path
    toolchain: Toolchain
    repetitions: int = 3

    def run(self, behaviour: str) -> bench.Result:
        log = self.folder / "log"
        log.touch()
        fake = make_fake(self.folder / "bin", self.toolchain, {"llama-bench": behaviour.format(log=log)})
        paths = [self.folder / name / "tiny.gguf" for name in ("small", "large")]
        for path, n_layer in zip(paths, (2, 4), strict=True):
            path.parent.mkdir(exist_ok=True)
            write_tiny_llama(path, n_layer=n_layer)
        origins = [Given(sha256=path.parent.name, name=path.name) for path in paths]
        rows = tuple(bench.Entrant(name=o.sha256, origin=o) for o in origins)
        inputs = bench.Inputs(
            candidates=rows, tests=TESTS, repetitions=self.repetitions, n_threads=1, cpu="a test's CPU"
        )
        step = step_of("bench", bench, inputs, fake)
        around = Surroundings(
            cache=Cache(self.folder / "home"),
            machine=Machine(toolchain=fake, n_threads=1, cpu="a test's CPU"),
            given={origin.sha256: (path,) for origin, path in zip(origins, paths, strict=True)},
            watch=Log(),
            work={},
        )
        entry = execute((step,), around)[step.key]
        assert not entry.outputs
        return step.result_of(entry)

    def printed(self) -> list[dict[str, dict[str, float]]]:
        """Run by run: test → what llama-bench printed of it."""
        text, at, runs = (self.folder / "log.json").read_text(encoding="utf-8"), 0, []
        while at < len(text.rstrip()):
            values, end = json.JSONDecoder().raw_decode(text, at)
            runs.append({"pp16" if v["n_prompt"] else "tg4": v for v in values})
            at = end + 1
        return runs


@pytest.mark.tools
def test_files_take_turns_and_samples_are_in_round_order(tmp_path: Path, toolchain: Toolchain) -> None:
    session = Session(tmp_path, toolchain)
    found = session.run(WATCHED)
    runs = session.printed()
    sizes = [run["pp16"]["model_n_params"] for run in runs]
    assert len(set(sizes)) == 2
    assert sizes == sizes[:2] * 3  # though both files are called tiny.gguf
    for i, row in enumerate(found.rows):
        assert [s.test for s in row.speed] == list(TESTS)
        assert row.argv[:3] == ("llama-bench", "-m", "tiny.gguf")
        for measured in row.speed:
            own = [run[measured.test] for run in runs[i::2]]
            assert list(measured.samples) == [run["samples_ts"][0] for run in own]
            assert measured.tokens_per_second == mean(measured.samples)
            assert 0 < measured.load_seconds < 60
            assert measured.peak_bytes > 2 << 20
            assert measured.busy == found.busy
    assert ratio_to(found.rows[1].speed[0], found.rows[0].speed).n_rounds == 3


@pytest.mark.tools
def test_broken_off_session_makes_only_the_missing_runs(tmp_path: Path, toolchain: Toolchain) -> None:
    session = Session(tmp_path, toolchain)
    with pytest.raises(ToolError, match="signal 9"):
        session.run(BREAKS_AT_4)
    before = session.printed()
    assert len(before) == 3
    found = session.run(WATCHED)
    runs = session.printed()
    assert runs[:3] == before
    assert len(runs) == 6
    samples = [[run["tg4"]["samples_ts"][0] for run in runs[i::2]] for i in (0, 1)]
    assert [list(row.speed[0].samples) for row in found.rows] == samples
    assert session.run("exit 9") == found


@pytest.fixture
def folder(tmp_path: Path, tools_home: Path) -> Path:
    write_tiny_llama(tmp_path / "a.gguf")
    write_tiny_llama(tmp_path / "b.gguf", n_layer=8)
    return tmp_path


@pytest.mark.tools
def test_command_compares_with_the_first_file(folder: Path) -> None:
    asked = ("bench", "a.gguf", "b.gguf", "--tests", "pp32,tg8", "--repetitions", "3")
    said = lwq(*asked, cwd=folder)
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert lines[1].split()[:6] == ["model", "size", "params", "backend", "threads", "test"]
    assert "of a.gguf" in lines[1]
    assert [line.split()[0] for line in lines[2:6]] == ["a.gguf", "a.gguf", "b.gguf", "b.gguf"]
    again = lwq(*asked, "--json", cwd=folder)
    assert "--again measures anew" in again.err
    assert "✓" not in again.err
    values = json.loads(again.out)
    a, b = values["models"]
    assert [t["ratio"] for t in a["tests"]] == [None, None]
    for first, second in zip(a["tests"], b["tests"], strict=True):
        expected = ratio(second["samples"], first["samples"])
        assert second["ratio"]["value"] == pytest.approx(expected.value)
        assert second["ratio"]["tied"] == expected.is_tied
        assert f"{expected.value:.3f}" in said.out
    assert ("warning: the machine was busy" in said.err) == (values["busy"] > 0.1)
    anew = json.loads(lwq(*asked, "--json", "--again", cwd=folder).out)
    assert anew["models"][0]["tests"][0]["samples"] != a["tests"][0]["samples"]


@pytest.mark.tools
def test_one_file_twice_is_two_rows(folder: Path) -> None:
    said = lwq("bench", "a.gguf", "./a.gguf", "--tests", "tg2", "--repetitions", "2", "--json", cwd=folder)
    assert [m["name"] for m in json.loads(said.out)["models"]] == ["a.gguf", "a.gguf #2"]


@pytest.mark.tools
@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["c.gguf"], 1, "c.gguf: no such file"),
        (["text.gguf"], 1, "text.gguf"),
        (["a.gguf", "--tests", "pp32,gg4"], 2, "'gg4' is not like pp512, tg128 or pp1024+tg1024"),
        (["a.gguf", "--tests", ""], 2, "'' is not like"),
        (["a.gguf", "--repetitions", "1"], 2, "'--repetitions': 1 is not in the range"),
        ([], 2, "Missing argument"),
    ],
)
def test_what_cannot_be_measured_is_told_before_anything_runs(
    folder: Path, tools_home: Path, arguments: list[str], code: int, told: str
) -> None:
    (folder / "text.gguf").write_text("no model\n" * 50)
    said = lwq("bench", *arguments, cwd=folder)
    assert said.code == code
    assert told in said.err
    assert not list(tools_home.glob("steps/*"))


def test_files_of_one_name_are_called_by_their_paths(tmp_path: Path) -> None:
    from lwq.cli.bench import _named

    paths = [tmp_path / name / "m.gguf" for name in ("one", "two")]
    for path in paths:
        path.parent.mkdir()
        write_tiny_llama(path, n_layer=1)
    assert [f.name for f in _named(tuple(paths))] == [str(path) for path in paths]
    assert _named((paths[0],))[0].name == "m.gguf"
