"""What a recipe names: files that share a name are kept apart."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from lwq.errors import FileError, ModelError
from lwq.llama.process import run_tool
from lwq.llama.toolchain import Toolchain
from lwq.plan import sources
from lwq.plan.assemble import assemble
from lwq.plan.sources import Sources
from lwq.recipe.parse import parse_recipe
from lwq.store.files import sha256_file
from tests.run_tiny import RECIPE, run_tiny
from tests.tiny_models import write_split_llama, write_tiny_llama

HEAD = RECIPE[: RECIPE.index("[[targets]]")] + "[bench]\ntests = []\n"


def write_items(path: Path, first: int, n: int = 20) -> None:
    """Questions with ids from ``first`` on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {"id": f"q{i}", "question": f"What is {i} plus one?", "choices": [str(i + 1), str(i + 2)], "answer": 0}
        for i in range(first, first + n)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def fetched(folder: Path, more: str) -> Sources:
    return sources.fetch(parse_recipe(HEAD + more, "a.toml"), folder, folder / "home", lambda note: None)


TASK = """[[targets]]
ftype = "Q8_0"
[[tasks]]
name = "ARC"
file = ["easy/test.jsonl", "challenge/test.jsonl"]
n_items = 20
n_ctx = 64
"""


@pytest.mark.tools
def test_files_of_one_name_in_a_set_give_half_of_the_items_each(folder: Path, toolchain: Toolchain) -> None:
    write_items(folder / "easy" / "test.jsonl", 0)
    write_items(folder / "challenge" / "test.jsonl", 100)
    run, _, _ = run_tiny(folder, folder / "home", toolchain, HEAD + TASK)
    found = run.result("items:ARC")
    assert found.n_given == 40
    assert len(found.ids) == 20
    assert found.parts == "10 of test.jsonl, 10 of challenge-test.jsonl"


def test_a_file_that_a_set_names_twice_is_told(folder: Path) -> None:
    for name in ("easy", "challenge"):
        write_items(folder / name / "test.jsonl", 0)
    with pytest.raises(FileError, match="are the same"):
        fetched(folder, TASK)


def test_files_of_others_never_take_the_name_of_ours_or_of_each_other(folder: Path) -> None:
    for name in ("mine", "theirs"):
        (folder / name).mkdir()
        write_tiny_llama(folder / name / "tiny-Q8_0.gguf", seed=1 + len(name))
    rows = "".join(
        f'[[third_party]]\nname = "{name}"\nmodel = "{name}/tiny-Q8_0.gguf"\n' for name in ("mine", "theirs")
    )
    found = fetched(folder, f'[[targets]]\nftype = "Q8_0"\n{rows}')
    assert [f.given.name for f in found.third_party.values()] == ["mine.gguf", "theirs.gguf"]
    alone = fetched(folder, f'[[targets]]\nftype = "Q4_0"\n{rows}')
    assert [f.given.name for f in alone.third_party.values()] == ["tiny-Q8_0.gguf", "theirs.gguf"]


def test_a_look_reads_no_model_and_knows_what_was_hashed_before(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = parse_recipe(f'{HEAD}[[targets]]\nftype = "Q8_0"\n', "a.toml")

    def fetched_so(*, look: bool) -> Sources:
        return sources.fetch(recipe, folder, folder / "home", lambda note: None, look=look)

    with monkeypatch.context() as patched:
        patched.setattr(sources, "sha256_file", lambda *_, **__: pytest.fail("a model was read"))
        looked = fetched_so(look=True)
    assert looked.unread() == {looked.model.fetched.given.sha256}
    time.sleep(0.15)  # a file that changed just now is not remembered
    hashed = fetched_so(look=False)
    assert not hashed.unread()
    again = fetched_so(look=True)
    assert again.model.fetched == hashed.model.fetched
    (folder / "tiny.gguf").touch()
    assert fetched_so(look=True).unread()


def test_a_split_file_of_others_keeps_the_names_by_which_its_shards_are_found(folder: Path) -> None:
    for seed, name in enumerate(("mine", "theirs")):
        (folder / name).mkdir()
        write_split_llama(folder / name, seed=seed)
    rows = "".join(
        f'[[third_party]]\nname = "{name}"\nmodel = "{name}/tiny-00001-of-00002.gguf"\n' for name in ("mine", "theirs")
    )
    mine, theirs = fetched(folder, rows).third_party.values()
    assert [file.file for file in mine.files()] == ["tiny-00001-of-00002.gguf", "tiny-00002-of-00002.gguf"]
    assert [file.file for file in theirs.files()] == ["theirs-00001-of-00002.gguf", "theirs-00002-of-00002.gguf"]
    assert [file.sha256 for file in theirs.files()] == [sha256_file(path) for path in theirs.paths]
    (folder / "theirs" / "tiny-00002-of-00002.gguf").unlink()
    with pytest.raises(ModelError, match="missing shard tiny-00002-of-00002.gguf"):
        fetched(folder, rows)


SPLIT = """[[third_party]]
name = "whole"
model = "theirs.gguf"
[[third_party]]
name = "split"
model = "split/tiny-00001-of-00002.gguf"
[[tasks]]
name = "ARC"
file = "arc.jsonl"
n_items = 100
n_ctx = 64
"""


@pytest.mark.tools
def test_a_split_file_of_others_measures_as_the_whole_one_and_its_commands_paste(
    folder: Path, toolchain: Toolchain
) -> None:
    (folder / "split").mkdir()
    write_split_llama(folder / "split", seed=3)
    for name in ("tiny.gguf", "theirs.gguf"):
        write_tiny_llama(folder / name, n_layer=2, n_ff=256, seed=3)
    recipe = HEAD.replace("tests = []", 'tests = ["tg8"]\nrepetitions = 2') + SPLIT
    run, _, card = run_tiny(folder, folder / "home", toolchain, recipe)
    _, whole, split = assemble(run).rows
    assert split.evaluation == whole.evaluation
    assert split.tasks == whole.tasks
    assert split.n_params == whole.n_params
    assert split.file == "tiny-00001-of-00002.gguf"
    shards = [card.parent / shard.file for shard in split.shards]
    assert split.file_bytes == sum(path.stat().st_size for path in shards)
    assert [shard.sha256 for shard in split.shards] == [sha256_file(path) for path in shards]
    text = card.with_name("DETAILS.md").read_text(encoding="utf-8")
    assert "third party, f16, 2 shards" in text
    assert all(f"| `{shard.file}` | `{shard.sha256}` |" in text for shard in split.shards)
    for command in split.commands:
        assert split.file in command.argv
    base = [c.argv for c in run.commands(*run.plan.baselines.values())]
    for argv in (*base, *(c.argv for c in split.commands)):
        run_tool((str(toolchain.program(argv[0])), *argv[1:]), cwd=card.parent)
