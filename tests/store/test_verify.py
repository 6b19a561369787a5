"""Whatever byte of the cache changes, what comes out of it is what was put in, or the change is found and mended."""

from __future__ import annotations

import hashlib
import os
import random
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lwq.store.cache import Cache, Entry, key_of
from lwq.store.pieces import Pieces
from lwq.store.verify import harmed, repair
from tests.store.test_cache import FACTS, VALUE

N_STEPS, N_PIECES = 4, 12
VALUES = [{**VALUE, "inputs": {"number": i}} for i in range(N_STEPS)]


def build(cache: Cache, number: int) -> tuple[Entry, bool]:
    chance = random.Random(number)

    def work(folder: Path) -> Mapping[str, Any]:
        (folder / "out.bin").write_bytes(chance.randbytes(900))
        (folder / "deep").mkdir()
        (folder / "deep" / "more.txt").write_text("text " * 40)
        return {**FACTS, "result": {"kld": [chance.random() for _ in range(20)], "name": "q4_K"}}

    return cache.build("toy", VALUES[number], work)


def fill(cache: Cache) -> None:
    for number in range(N_STEPS):
        build(cache, number)
    pieces = Pieces(cache.pieces / f"{key_of(VALUE)[:24]}.jsonl")
    for i in range(N_PIECES):
        pieces.get(f"piece {i}", lambda i=i: {"kld": i / 7, "n": [i, -i]})
    folder = cache.pieces / f"{key_of(VALUE)[:24]}.values"
    folder.mkdir()
    (folder / "blk.0.x.weight.q4_K").write_bytes(b"tensor" * 50)
    digest = hashlib.sha256(b"tensor" * 50).hexdigest()
    Pieces(folder / "verdicts.jsonl").get("blk.0.x.weight/q4_K", lambda: {"sha256": digest, "kept": ""})
    np.savez(folder / "grams-0000.npz", **{"x/0/diagonal": np.arange(40, dtype=np.float32)})


def seen(cache: Cache) -> dict[str, Any]:
    """All that a run could take from the cache, by where it is; what is not there is left out."""
    found: dict[str, Any] = {}
    for number, value in enumerate(VALUES):
        if entry := cache.lookup("toy", key_of(value)):
            found[f"result {number}"] = entry.result
            found[f"facts {number}"] = (entry.seconds, entry.commands, entry.released, entry.work)
            found |= {f"{name} {number}": entry.path(name).read_bytes() for name in ("out.bin", "deep/more.txt")}
    for path in (*cache.pieces.glob("*.jsonl"), *cache.pieces.glob("*.values/*.jsonl")):
        found |= Pieces(path).by_key
    for path in cache.pieces.glob("*.values/*"):
        if path.suffix == ".npz":
            try:
                with np.load(path) as file:
                    found |= {key: file[key].tobytes() for key in file.files}
            except Exception:
                continue
        elif path.suffix not in (".jsonl", ".lock"):
            found[path.name] = path.read_bytes()
    return found


def flip(path: Path, chance: random.Random) -> None:
    """Another byte in the place of one; the disk's own decay, or a program's write."""
    before, data = path.stat(), bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)
    path.write_bytes(data)
    path.chmod(before.st_mode)
    if chance.random() < 0.5:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def artefacts(cache: Cache) -> list[Path]:
    return sorted(
        p for root in (cache.steps, cache.pieces) for p in root.rglob("*") if p.is_file() and p.suffix != ".lock"
    )


def test_a_whole_cache_has_no_harm_and_one_of_before_is_read(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    fill(cache)
    assert list(harmed(cache)) == []
    (path,) = cache.pieces.glob("*.jsonl")
    path.write_text('["a",1]\n')
    assert Pieces(path).by_key == {"a": 1}
    assert list(harmed(cache)) == []


@pytest.mark.parametrize("seed", range(20))
def test_ten_changed_bytes_each_are_found_or_harmless_and_repaired_by_their_step_alone(
    tmp_path: Path, seed: int
) -> None:
    cache, chance = Cache(tmp_path), random.Random(seed)
    fill(cache)
    whole, files = seen(cache), artefacts(cache)
    for _ in range(10):
        path = chance.choice(files)
        good = path.read_bytes()
        flip(path, chance)
        found = list(harmed(cache))
        after = seen(cache)
        changed = {name for name, value in after.items() if whole[name] != value}
        if changed:
            assert any(path == harm.path or path.is_relative_to(harm.path) for harm in found), (path, changed)
        assert len(found) <= 1
        assert all(repair(cache, harm) for harm in found)
        assert list(harmed(cache)) == []
        fresh = [number for number in range(N_STEPS) if build(cache, number)[1]]
        assert len(fresh) == (path.is_relative_to(cache.steps) and bool(found))
        if path.is_relative_to(cache.pieces):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(good)
        elif not found:
            path.chmod(stat.S_IRUSR | stat.S_IWUSR)
            path.write_bytes(good)
        assert seen(cache) == whole


def test_an_output_that_somebody_wrote_to_is_made_again_without_being_asked(tmp_path: Path) -> None:
    """A report's GGUF is a hard link to the cache's."""
    cache = Cache(tmp_path)
    entry, _ = build(cache, 0)
    os.link(entry.path("out.bin"), tmp_path / "mine.gguf")
    (tmp_path / "mine.gguf").chmod(0o644)
    with (tmp_path / "mine.gguf").open("r+b") as file:
        file.write(b"edited")
    assert cache.lookup("toy", key_of(VALUES[0])) is None
    again, fresh = build(cache, 0)
    assert fresh
    assert again.outputs["out.bin"]["sha256"] == entry.outputs["out.bin"]["sha256"]
    assert (tmp_path / "mine.gguf").read_bytes()[:6] == b"edited"
    os.utime(again.path("out.bin"))
    assert cache.lookup("toy", key_of(VALUES[0]))
