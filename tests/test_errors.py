"""No access token stands in what lwq says."""

from __future__ import annotations

import pytest

from lwq.errors import LwqError, UploadError, without_tokens

TOKEN = "hf_abcdefghijklmnopqrstuvwxyz0123456789"


@pytest.mark.parametrize("kind", [LwqError, UploadError])
def test_neither_message_nor_hint_shows_a_token(kind: type[LwqError]) -> None:
    error = kind(f"sent 'Bearer {TOKEN}'", hint=f"set HF_TOKEN={TOKEN}")
    assert (error.message, error.hint) == ("sent 'Bearer hf_…'", "set HF_TOKEN=hf_…")
    assert TOKEN not in f"{error} {error!r} {error.args}"


def test_the_token_of_the_environment_is_hidden_whatever_its_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "our-own-gateway-secret")
    assert without_tokens("with our-own-gateway-secret, twice our-own-gateway-secret") == "with hf_…, twice hf_…"


@pytest.mark.parametrize("text", ["hf_hub_download failed", "hf_home", "HF_TOKEN is not set", "hf://owner/name"])
def test_words_that_begin_alike_stay(text: str) -> None:
    assert without_tokens(text) == text


@pytest.mark.parametrize(
    "token", ["hf_oauth_eyJhbGciOiJFZERTQSJ9.eyJ.c2ln-x", "hf_jwt_eyJhbGciOiJFZERTQSJ9.a_b.c-d", "api_org_" + "x" * 34]
)
def test_tokens_of_all_kinds_are_hidden_to_their_end(token: str) -> None:
    assert without_tokens(f"<{token}>") == "<hf_…>"
