"""What a recipe names: files that share a name are kept apart."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from lwq.errors import FileError
from lwq.llama.toolchain import Toolchain
from lwq.plan import sources
from lwq.plan.sources import Sources
from lwq.recipe.parse import parse_recipe
from tests.run_tiny import RECIPE, run_tiny
from tests.tiny_models import write_tiny_llama

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
