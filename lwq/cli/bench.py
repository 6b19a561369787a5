"""``lwq bench``: tokens per second of GGUFs, measured in turns and compared with the first."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from lwq.cli.progress import Progress, showing
from lwq.cli.settings import Settings
from lwq.cli.tables import print_json, print_table
from lwq.errors import ModelError, UsageError
from lwq.gguf.header import GgufHeader, read_header
from lwq.gguf.sound import check_sound
from lwq.llama.toolchain import home
from lwq.metrics.speeds import BUSY, Ratio, ratio_to
from lwq.metrics.values import Speed
from lwq.plan.execution import Surroundings, execute
from lwq.plan.plan import BenchStep, step_of
from lwq.recipe.schema import Bench
from lwq.steps import bench
from lwq.steps.step import Given
from lwq.store.cache import Cache
from lwq.store.files import human_bytes, sha256_file
from lwq.store.garbage import remove

_DEFAULT = ",".join(Bench().tests)


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A GGUF that was named, and how its row is called."""

    name: str
    header: GgufHeader

    def given(self) -> Given:
        """The file (or all shards of a split model) by content."""
        memo = home() / "hashes.sqlite"
        hashes = [sha256_file(shard.path, memo=memo) for shard in self.header.shards]
        digest = hashes[0] if len(hashes) == 1 else hashlib.sha256(repr(hashes).encode()).hexdigest()
        return Given(sha256=digest, name=self.header.path.name)

    def paths(self) -> tuple[Path, ...]:
        return tuple(shard.path.absolute() for shard in self.header.shards)


@click.command("bench")
@click.argument("models", metavar="GGUF...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--tests", default=_DEFAULT, show_default=True, help="Prompt and generation lengths, with commas.")
@click.option("--repetitions", type=click.IntRange(2, 1000), default=5, show_default=True, help="Rounds.")
@click.option("--again", is_flag=True, help="Measure anew what was measured before.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_obj
def bench_command(
    settings: Settings, models: tuple[Path, ...], tests: str, repetitions: int, again: bool, as_json: bool
) -> None:
    """Measure tokens per second of each GGUF by llama-bench, in turns: every round runs every file once.

    The first file is the reference: the others' ratios to it are taken round by round, with a 95 % interval. A file
    added to others that were measured measures all of them again, since a ratio needs one session. A broken-off
    session goes on where it ended; the same call later prints what was measured, unless --again is given.
    """
    asked = _asked(tests, repetitions)
    files = _named(models)
    with showing(settings.verbosity) as progress:
        timed = _measure(files, asked, settings, progress, again=again)
    if as_json:
        print_json(_values(files, timed))
    else:
        _print(files, timed)
    if timed.busy > BUSY:
        click.echo(f"warning: the machine was busy: before a round, others used up to {timed.busy:.0%} of it", err=True)


def _asked(tests: str, repetitions: int) -> Bench:
    """The tests by the recipe's own rule."""
    try:
        return Bench(tests=tuple(t.strip() for t in tests.split(",")), repetitions=repetitions)
    except ValidationError as error:
        raise UsageError(f"--tests: {error.errors()[0]['msg']}", hint="--tests pp512,tg128,pp1024+tg1024") from None


def _named(models: tuple[Path, ...]) -> tuple[File, ...]:
    """The files' headers, with names that differ.

    Raises:
        ModelError: one is missing, is no GGUF, or holds no model.
    """
    headers = [read_header(path) for path in models]
    for header in headers:
        if not header.n_layer_all:
            raise ModelError(f"{header.path}: holds no model that runs", hint="name the GGUF of a model")
        check_sound(header)
    bare = Counter(path.name for path in {path.absolute() for path in models})
    names = [path.name if bare[path.name] == 1 else str(path) for path in models]
    seen: Counter[str] = Counter()
    files = []
    for name, header in zip(names, headers, strict=True):
        seen[name] += 1
        files.append(File(name=name if seen[name] == 1 else f"{name} #{seen[name]}", header=header))
    return tuple(files)


def _measure(
    files: tuple[File, ...], asked: Bench, settings: Settings, progress: Progress, *, again: bool
) -> bench.Result:
    machine, cache = settings.machine(), settings.cache()
    origins = [file.given() for file in files]
    inputs = bench.Inputs(
        candidates=tuple(bench.Entrant(name=f.name, origin=o) for f, o in zip(files, origins, strict=True)),
        tests=asked.tests,
        repetitions=asked.repetitions,
        n_threads=machine.n_threads,
        cpu=machine.cpu,
    )
    step = step_of(bench, inputs, machine.toolchain, ("bench",))
    if again:
        _forget(step, cache)
    elif entry := cache.lookup(bench.NAME, step.key):
        progress.note(f"measured {entry.finished}; --again measures anew")
    progress.n_steps = 1
    given = {origin.sha256: file.paths() for file, origin in zip(files, origins, strict=True)}
    around = Surroundings(cache=cache, machine=machine, given=given, watch=progress, work={})
    return step.result_of(execute((step,), around)[step.key])


def _forget(step: BenchStep, cache: Cache) -> None:
    for path in (cache.folder(bench.NAME, step.key), *cache.pieces.glob(f"{step.key[:24]}.jsonl")):
        if path.exists():
            remove(cache, path)


def _against(files: tuple[File, ...], timed: bench.Result, name: str, test: Speed) -> Ratio | None:
    """The ratio to the first file; None for that file itself."""
    first = files[0].name
    return None if name == first else ratio_to(test, timed.of_row(first).speed)


def _print(files: tuple[File, ...], timed: bench.Result) -> None:
    some = timed.rows[0].speed[0]
    click.echo(
        f"measured on {some.cpu}: t/s of {len(some.samples)} rounds ± one standard error; ratios of the same round,"
        " 95 % interval"
    )
    heads = ("model", "size", "params", "backend", "threads", "test", "t/s", "±", f"of {files[0].name}", "interval", "")
    rows = [_cells(file, test, _against(files, timed, file.name, test)) for file, test in _tests(files, timed)]
    print_table(heads, rows)
    click.echo()
    print_table(("model", "load s", "peak memory"), [_load(file, timed.of_row(file.name).speed[0]) for file in files])


def _tests(files: tuple[File, ...], timed: bench.Result) -> list[tuple[File, Speed]]:
    return [(file, test) for file in files for test in timed.of_row(file.name).speed]


def _cells(file: File, test: Speed, ratio: Ratio | None) -> tuple[str, ...]:
    size, params = human_bytes(file.header.file_bytes), f"{file.header.n_params / 1e6:.1f} M"
    speed = test.tokens_per_second
    compared = ("1", "", "")
    if ratio:
        interval = f"{ratio.low:.3f} to {ratio.high:.3f}"
        compared = (f"{ratio.value:.3f}", interval, "tied" if ratio.is_tied else "")
    measured = (f"{speed.value:.2f}", f"{speed.stderr or 0:.2f}")
    return (file.name, size, params, test.backend, str(test.n_threads), test.test, *measured, *compared)


def _load(file: File, speed: Speed) -> tuple[str, str, str]:
    peak = human_bytes(speed.peak_bytes) if speed.peak_bytes else "-"
    return (file.name, f"{speed.load_seconds or 0:.3f}", peak)


def _values(files: tuple[File, ...], timed: bench.Result) -> dict[str, Any]:
    def ratio(file: File, test: Speed) -> dict[str, Any] | None:
        known = _against(files, timed, file.name, test)
        return {**asdict(known), "tied": known.is_tied} if known else None

    return {
        "reference": files[0].name,
        "busy": timed.busy,
        "models": [
            {
                "name": file.name,
                "file_bytes": file.header.file_bytes,
                "n_params": file.header.n_params,
                "command": timed.of_row(file.name).argv,
                "tests": [{**asdict(t), "ratio": ratio(file, t)} for t in timed.of_row(file.name).speed],
            }
            for file in files
        ],
    }
