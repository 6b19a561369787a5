"""A publisher's templates take the place of lwq's, reach nothing else, and are told apart from what they cannot do."""

from __future__ import annotations

from pathlib import Path

import pytest

from lwq.errors import FileError
from lwq.report.card import card, card_body, details, page
from lwq.report.sandbox import TEMPLATES, check_templates
from tests.sample_record import sample_record


def folder(tmp_path: Path, **templates: str) -> Path:
    for name, text in templates.items():
        ending = "html" if name == "page" else "md"
        (tmp_path / f"{name}.{ending}.j2").write_text(text, encoding="utf-8")
    return tmp_path


def test_given_templates_replace_their_own_and_no_others(tmp_path: Path) -> None:
    record = sample_record()
    mine = '{% from "parts.md.j2" import table with context %}\n# {{ record.card.title | plain }}\n'
    given = folder(tmp_path, card=mine + "{{ table(choices.files(record)) }}\n")
    check_templates(given)
    text = card(record, templates=given)
    assert text.startswith("---\nbase_model:")
    assert "# SmolLM2-135M · größer \\& \\<kleiner\\> 模型\n**Table 1.** The files" in text
    assert "## Provenance" not in text
    assert details(record, templates=given) == details(record)
    assert "<h2" in page(record, templates=given)


def test_own_templates_pass_the_check(tmp_path: Path) -> None:
    own = Path(__file__).parents[2] / "lwq" / "report" / "templates"
    check_templates(own)
    assert sorted(path.name for path in own.glob("*.j2")) == sorted(TEMPLATES)
    assert card_body(sample_record(), templates=own) == card_body(sample_record())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a\n{% if %}\n", "card.md.j2, line 2: "),
        ("a\n\n{{ recrod.name }}\n", "card.md.j2, line 3: 'recrod' is undefined"),
        ("{{ record.name | shout }}\n", "card.md.j2, line 1: No filter named 'shout'"),
        ('{% include "other.md" %}', "'other.md' is no template of a card"),
        ("{% macro x() %}{{ cards }}{% endmacro %}", "card.md.j2, line 1: 'cards' is undefined"),
    ],
)
def test_mistakes_are_found_before_anything_is_drawn(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(FileError) as caught:
        check_templates(folder(tmp_path, card=text))
    assert told in caught.value.message
    assert str(tmp_path) in caught.value.message
    assert caught.value.hint


def test_a_folder_without_templates_and_strange_files_are_told(tmp_path: Path) -> None:
    for make, told in (
        (lambda: None, "no template in it"),
        (lambda: (tmp_path / "crad.md.j2").write_text(""), "crad.md.j2: no template of a card"),
    ):
        make()
        with pytest.raises(FileError, match=told):
            check_templates(tmp_path)
    with pytest.raises(FileError, match="no folder of templates"):
        check_templates(tmp_path / "absent")


@pytest.mark.parametrize(
    "text",
    [
        "{{ record.titel }}",
        "{{ choices.offerd(record) }}",
        "{{ record.rows[99].name }}",
        "{{ count('x') }}",
        "{{ 1 / 0 }}",
        "{{ choices.shlex.os.system('id') }}",
        "{{ tables.sizes.__globals__ }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ record.rows.__class__ }}",
        "{{ self.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{% set x = [] %}{% set _ = x.append(1) %}",
        "{{ range(100000000) | list | length }}",
        "{{ '%s' | format(record) ~ record.card.__reduce__() }}",
    ],
)
def test_what_a_template_cannot_do_is_told_with_file_and_line(text: str, tmp_path: Path) -> None:
    given = folder(tmp_path, card=f"# first line\n{text}\n")
    check_templates(given)
    with pytest.raises(FileError) as caught:
        card_body(sample_record(), templates=given)
    assert caught.value.message.startswith(f"{given / 'card.md.j2'}, line 2: ")
    assert caught.value.hint


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="line 1: .*Record object' has no attribute 'titel'"):
        card_body(sample_record(), templates=folder(tmp_path, card="{{ record.titel }}"))


def test_texts_of_a_record_are_no_templates(tmp_path: Path) -> None:
    given = folder(tmp_path, card="{{ record.card.description | authored }}{{ '{{ 7 * 7 }}' }}")
    text = card_body(sample_record(), templates=given)
    assert "{{ 7 * 7 }}" in text
    assert "<script" not in text.replace("\\<", "")
