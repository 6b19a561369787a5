"""Files are timed in turns, and a session that was broken off makes only the missing runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from lwq.errors import ToolError
from lwq.llama.toolchain import Toolchain
from lwq.metrics.speeds import mean, ratio_to
from lwq.plan.execution import Surroundings, execute
from lwq.plan.plan import Machine, step_of
from lwq.steps import bench
from lwq.steps.step import Given
from lwq.store.cache import Cache
from tests.fake_toolchain import make_fake
from tests.run_tiny import Log
from tests.tiny_models import write_tiny_llama

TESTS = ("tg4", "pp16")
# tells which model was run and what was printed, in the order of the runs
WATCHED = 'out=$("$real" "$@") || exit; echo "$2" >> "{log}"; echo "$out" >> "{log}.json"; echo "$out"'
BREAKS_AT_4 = '[ "$(wc -l < "{log}")" = 3 ] && kill -KILL $$; ' + WATCHED


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
        step = step_of(bench, inputs, fake, ("bench",))
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
