"""A model's chat template is a program of somebody else: it draws texts and reaches nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lwq.errors import ModelError
from lwq.plan.chat import chat_template
from lwq.plan.hub import Source


def source(folder: Path, template: str) -> Source:
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template, "bos_token": "<s>"}))
    return Source(kind="hf-folder", files=(folder / "config.json",), label="model", licence=None)


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__class__.__base__ }}",
        "{{ raise_exception.__globals__['os'].system('id') }}",
        "{{ strftime_now.__globals__['json'] }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ self.__init__.__globals__ }}",
        "{% set _ = messages.append(1) %}",
        "{{ range(10 ** 9) | list }}",
        "{% include '/etc/passwd' %}",
        "{{ 1 / 0 }}",
        "{{ messages[0].content + 1 }}",
    ],
)
def test_what_a_template_must_not_is_one_error_that_names_the_model(template: str, tmp_path: Path) -> None:
    render = chat_template(source(tmp_path, template))
    with pytest.raises(ModelError, match=f"{tmp_path.name}: its chat template refuses a conversation"):
        render([{"role": "user", "content": "?"}])


def test_an_honest_template_draws_the_conversation(tmp_path: Path) -> None:
    render = chat_template(
        source(tmp_path, "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}")
    )
    assert render([{"role": "user", "content": "?"}]) == "<user>?"


@pytest.mark.parametrize(
    "template", ["{% if %}", "{{ " + "(" * 20000 + ")" * 20000 + " }}", "{{ " + "9" * 9000 + " }}"]
)
def test_a_template_that_cannot_be_read_is_told(template: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="its chat template cannot be read"):
        chat_template(source(tmp_path, template))
