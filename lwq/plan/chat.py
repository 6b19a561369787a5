"""A model's own chat template: conversations in the form in which the model was taught."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from lwq.errors import ModelError
from lwq.gguf.header import GgufHeader, read_array, read_header
from lwq.gguf.reader import BigArray
from lwq.plan.hub import Source

Render: TypeAlias = Callable[[Any], str]
"""Messages (``role``, ``content``) → text."""


def chat_template(source: Source) -> Render:
    """What puts messages through a model's own template, as inference does, without the start token that tools add.

    Raises:
        ModelError: the model has none, or one that cannot be used.
    """
    if source.kind == "gguf":
        text, bos, eos = _of_gguf(read_header(source.files[0]))
    else:
        text, bos, eos = _of_folder(source.files[0].parent)
    if not text:
        raise ModelError(f"{source.name}: has no chat template", hint="leave parts with chat = true out")
    try:
        template = _environment().from_string(text)
    except (TemplateError, RecursionError, ValueError) as error:
        raise ModelError(f"{source.name}: its chat template cannot be read: {error}", hint="leave chats out") from None

    def render(messages: Any) -> str:
        try:
            shown = template.render(messages=messages, bos_token=bos, eos_token=eos, add_generation_prompt=False)
        except Exception as error:  # a template is a program of the model's publisher
            hint = "leave that row out of the file"
            raise ModelError(f"{source.name}: its chat template refuses a conversation: {error}", hint=hint) from None
        return shown.removeprefix(bos) if bos else shown

    return render


def has_chat_template(source: Source) -> bool:
    """Whether the model has a template that conversations can be put through."""
    try:
        return bool(chat_template(source)([{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]))
    except ModelError:
        return False


def prompt_form(header: GgufHeader) -> str:
    """How a model's template puts a system message and a question before its answer; empty where it has none."""
    text, bos, eos = _of_gguf(header)
    question, system = ({"role": role, "content": f"{{{role}}}"} for role in ("user", "system"))
    for messages in ((system, question), (question,)):
        try:
            template = _environment().from_string(text)
            return template.render(messages=messages, bos_token=bos, eos_token=eos, add_generation_prompt=True)
        except Exception:
            continue
    return ""


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = _refused
    environment.globals["strftime_now"] = lambda form: ""  # a date would make other bytes tomorrow
    environment.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
    return environment


def _refused(message: str) -> None:
    raise TemplateError(message)


def _of_gguf(header: GgufHeader) -> tuple[str, str, str]:
    def token(key: str) -> str:
        number, tokens = header.number(f"tokenizer.ggml.{key}_token_id"), header.metadata.get("tokenizer.ggml.tokens")
        if number is None or not isinstance(tokens, tuple | BigArray):
            return ""
        listed = read_array(header, "tokenizer.ggml.tokens")
        return str(listed[number]) if number < len(listed) else ""

    return header.text("tokenizer.chat_template"), token("bos"), token("eos")


def _of_folder(folder: Path) -> tuple[str, str, str]:
    try:
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        config = None
    config = config if isinstance(config, dict) else {}
    stated = config.get("chat_template") or ""
    if isinstance(stated, list):
        named = (t for t in stated if isinstance(t, dict) and t.get("name") == "default")
        stated = next((t.get("template", "") for t in named), "")
    file = folder / "chat_template.jinja"
    text = file.read_text(encoding="utf-8") if file.is_file() else str(stated)

    def token(key: str) -> str:
        value = config.get(f"{key}_token")
        return str(value.get("content", "")) if isinstance(value, dict) else str(value or "")

    return text, token("bos"), token("eos")
