"""A folder's tokenizer files in the form that the converter reads, where a newer ``transformers`` saved them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

CONFIG: Final = "tokenizer_config.json"
_MOST_BYTES: Final = 1 << 28
_BACKEND: Final = "TokenizersBackend"
"""What transformers 5 calls a tokenizer that is all in ``tokenizer.json``; to 4 it is ``PreTrainedTokenizerFast``."""


def as_before_5(folder: Path) -> dict[str, Any]:
    """Tokenizer files that transformers 4 cannot read as they are, rewritten for it: name → what JSON; often none.

    The pinned converter wants transformers 4. Version 5 has another name for a plain tokenizer, lists further special
    tokens where 4 wants their names, and no longer repeats the added tokens, whose kinds the converter looks up there.
    Files that are no JSON are left to the converter's own words.
    """
    config = _object(folder / CONFIG)
    listed = config.get("extra_special_tokens")
    if config.get("tokenizer_class") != _BACKEND and not isinstance(listed, list):
        return {}
    mended = {**config}
    if mended.get("tokenizer_class") == _BACKEND:
        mended["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(listed, list):
        del mended["extra_special_tokens"]
        mended.setdefault("additional_special_tokens", listed)
    if "added_tokens_decoder" not in mended and (added := _added(_object(folder / "tokenizer.json"))):
        mended["added_tokens_decoder"] = added
    return {CONFIG: mended}


def _added(tokenizer: Mapping[str, Any]) -> dict[str, Any]:
    """Number → token of what was added to a vocabulary."""
    listed = tokenizer.get("added_tokens")
    tokens = [t for t in listed if isinstance(t, dict) and "id" in t] if isinstance(listed, list) else []
    return {str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in tokens}


def _object(file: Path) -> dict[str, Any]:
    """The object in a JSON file, or an empty one."""
    try:
        if file.stat().st_size > _MOST_BYTES:
            return {}
        said = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}
