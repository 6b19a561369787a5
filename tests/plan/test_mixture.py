"""A calibration text of several parts: shares are kept, nothing is repeated, and two runs give the same bytes."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from lwq.errors import FileError, ModelError, RecipeError
from lwq.gguf.header import read_header
from lwq.gguf.rewrite import rewrite_gguf
from lwq.plan.chat import Render, chat_template, has_chat_template
from lwq.plan.disjoint import overlap
from lwq.plan.hub import Source, fetch_text
from lwq.plan.mixture import mixed
from lwq.plan.sources import fetch
from lwq.recipe.parse import parse_recipe
from lwq.recipe.text import Part
from tests.tiny_models import write_tiny_llama, write_tiny_text

TEMPLATE = """{{ bos_token }}{% for message in messages %}
{% if message.role not in ["user", "assistant"] %}{{ raise_exception("roles!") }}{% endif %}
<|{{ message.role }}|>{{ message.content | trim }}{{ eos_token }}
{% endfor %}"""
TALK = [{"role": "user", "content": " What is it? "}, {"role": "assistant", "content": "A stone."}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tiny_text(tmp_path / "prose.txt", n_words=20000)
    rows = [{"id": i, "code": f"def f{i}(x):\n    return x + {i}\n"} for i in range(400)]
    (tmp_path / "code.jsonl").write_text("\n".join(map(json.dumps, rows)))
    chats = [{"messages": [{"role": "user", "content": f"Who is number {i}?"}, TALK[1]]} for i in range(300)]
    (tmp_path / "chat.jsonl").write_text("\n".join(map(json.dumps, chats)))
    return tmp_path


def plainly() -> Render:
    return lambda messages: " ".join(f"{m['role']}: {m['content']}" for m in messages)


def mix(folder: Path, *parts: Part, seed: int = 1) -> tuple[str, str, Path]:
    text_of = partial(fetch_text, recipe_dir=folder, home=folder / "home")
    path, label = mixed(parts, seed, text_of=text_of, home=folder / "home", template=plainly)
    return path.read_text(), label, path


PARTS = (
    Part(text="prose.txt", share=2),
    Part(text="code.jsonl", column="code"),
    Part(text="chat.jsonl", chat=True),
)


def test_two_runs_give_the_same_bytes_and_another_seed_others(folder: Path) -> None:
    first, _, path = mix(folder, *PARTS)
    assert mix(folder, *PARTS) == (first, mix(folder, *PARTS)[1], path)
    assert mix(folder, *PARTS, seed=2)[0] != first


def test_each_part_has_its_share_and_nothing_is_repeated(folder: Path) -> None:
    text, label, _ = mix(folder, *PARTS)
    code = sum(len(d) for d in text.split("\n\n") if d.startswith("def "))
    chat = sum(len(d) for d in text.split("\n\n") if d.startswith("user: "))
    assert code / len(text) == pytest.approx(0.25, abs=0.03)
    assert chat / len(text) == pytest.approx(0.25, abs=0.03)
    assert len(set(text.split("\n\n"))) == len(text.split("\n\n"))
    assert label.split(", ")[1].endswith("% code.jsonl (column code)")
    assert "% chat.jsonl (by the chat template)" in label


def test_parts_are_interleaved(folder: Path) -> None:
    text, _, _ = mix(folder, *PARTS)
    for quarter in (text[i * len(text) // 4 : (i + 1) * len(text) // 4] for i in range(4)):
        assert quarter.count("def f") > 10
        assert quarter.count("user: ") > 10


def test_a_parquet_column_gives_what_the_same_rows_of_json_give(folder: Path) -> None:
    rows = [json.loads(line) for line in (folder / "code.jsonl").read_text().splitlines()]
    parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "code.parquet")
    as_parquet, _, _ = mix(folder, PARTS[0], Part(text="code.parquet", column="code"))
    assert as_parquet == mix(folder, PARTS[0], PARTS[1])[0]


@pytest.mark.parametrize(
    ("name", "raw", "part", "told"),
    [
        ("a.jsonl", '{"x": "y"}', {"column": "text"}, "row 1: has no column 'text'"),
        ("a.jsonl", "{", {"column": "text"}, "line 1: is not JSON"),
        ("a.jsonl", '{"text": 5}', {"column": "text"}, "the column 'text' holds no text"),
        ("a.jsonl", '{"messages": "hello"}', {"chat": True}, "row 1: is no conversation"),
        ("a.jsonl", '{"messages": [{"role": "user"}]}', {"chat": True}, "is no conversation of role and content"),
        ("a.txt", b"caf\xe9", {}, "is not UTF-8"),
        ("a.txt", b"\n\n\n", {}, "holds no text"),
        ("a.jsonl", '{"text": "cut \\ud83d"}', {"column": "text"}, r"half a character stands in 'cut \\ud83d'"),
        (
            "a.jsonl",
            '{"messages": [{"role": "user", "content": "\\udfff"}]}',
            {"chat": True},
            "half a character stands in",
        ),
    ],
)
def test_parts_that_cannot_be_read_are_told(folder: Path, name: str, raw: Any, part: dict[str, Any], told: str) -> None:
    (folder / name).write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    with pytest.raises(FileError, match=told) as caught:
        mix(folder, PARTS[0], Part(text=name, **part))
    assert caught.value.hint
    with pytest.raises(FileError, match="no such text"):
        mix(folder, Part(text="nowhere.txt"))


def source_of(folder: Path, template: str) -> Source:
    model = read_header(write_tiny_llama(folder / "plain.gguf", n_layer=3))
    metadata = {"tokenizer.chat_template": template} if template else {}
    rewrite_gguf(model, folder / "model.gguf", metadata=metadata, tensors={})
    return Source(kind="gguf", files=(folder / "model.gguf",), label="model.gguf", licence=None)


def test_chats_take_the_models_own_form_without_the_start_token(folder: Path) -> None:
    render = chat_template(source_of(folder, TEMPLATE))
    assert render(TALK) == "<|user|>What is it?</s>\n<|assistant|>A stone.</s>\n"
    with pytest.raises(ModelError, match="refuses a conversation: roles!"):
        render([{"role": "tool", "content": "x"}])
    with pytest.raises(ModelError, match="has no chat template"):
        chat_template(source_of(folder, ""))
    with pytest.raises(ModelError, match="cannot be read"):
        chat_template(source_of(folder, "{% if %}"))


def test_a_recipe_mixes_its_calibration_text_and_says_of_what(folder: Path) -> None:
    source_of(folder, TEMPLATE)
    write_tiny_text(folder / "evaluation.txt", n_words=3000, seed=1)
    toml = """
name = "mix"
model = "model.gguf"
[calibration]
n_ctx = 64
[[calibration.parts]]
text = "prose.txt"
share = 2
[[calibration.parts]]
text = "chat.jsonl"
chat = true
[evaluation]
text = "evaluation.txt"
n_ctx = 64
[[targets]]
ftype = "Q8_0"
"""
    found = [fetch(parse_recipe(toml, "mix.toml"), folder, folder / "home", lambda note: None) for _ in range(2)]
    first = found[0].texts["calibration"]
    assert first.given == found[1].texts["calibration"].given
    assert first.label == "66% prose.txt, 34% chat.jsonl (by the chat template)"
    assert "<|user|>Who is number " in first.paths[0].read_text()
    for wrong, told in (
        (toml.replace("n_ctx = 64\n[[cal", 'text = "prose.txt"\n[[cal', 1), "names text and parts"),
        (toml.replace("share = 2", "share = 0"), "share"),
        (toml.split("[[calibration.parts]]")[0] + toml[toml.index("[evaluation]") :], "names neither text nor parts"),
    ):
        with pytest.raises(RecipeError, match=told):
            parse_recipe(wrong, "mix.toml")


DOMAINS = ("prose", "code", "tables", "languages", "dialogue")
SCRIPTS = (
    *("CYRILLIC", "GREEK", "ARABIC", "DEVANAGARI", "TAMIL", "CJK UNIFIED", "HIRAGANA", "KATAKANA", "HANGUL"),
    "LATIN",
)


def packaged(name: str, folder: Path) -> Path:
    return fetch_text(f"packaged:{name}", recipe_dir=folder, home=folder)[0]


def test_packaged_domains_mix_by_the_shares_of_a_new_recipe(folder: Path) -> None:
    shares = (0.25, 0.2, 0.1, 0.25, 0.2)
    parts = [Part(text=f"packaged:{n}", share=s, chat=n == "dialogue") for n, s in zip(DOMAINS, shares, strict=True)]
    text, label, _ = mix(folder, *parts)
    assert len(text.encode()) > 400_000
    assert [float(one.split("%")[0]) / 100 for one in label.split(", ")] == pytest.approx(shares, abs=0.01)


def test_packaged_languages_are_of_many_scripts_and_dialogues_are_conversations(folder: Path) -> None:
    letters = Counter(unicodedata.name(c, "") for c in packaged("languages", folder).read_text("utf-8"))
    counts = {script: sum(n for name, n in letters.items() if name.startswith(script)) for script in SCRIPTS}
    assert min(counts.values()) > 500, counts
    rows = packaged("dialogue", folder).read_text("utf-8").split("\n")[:-1]
    assert len(rows) > 90
    for row in map(json.loads, rows):
        roles = [message["role"] for message in row["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2)  # what every template takes
        assert all(message["content"].strip() for message in row["messages"])


@pytest.mark.parametrize("domain", DOMAINS)
def test_packaged_domains_share_nothing_with_what_is_scored(folder: Path, domain: str) -> None:
    for scored in ("selection", "evaluation"):
        assert overlap((packaged(domain, folder), packaged(scored, folder)), (domain, scored)) == ""


def test_a_model_without_a_chat_template_is_told_apart(folder: Path) -> None:
    assert has_chat_template(source_of(folder, TEMPLATE))
    assert not has_chat_template(source_of(folder, ""))
