"""The one tree of errors; the CLI turns each into its exit code, its message and a hint."""

from __future__ import annotations

import os
import re
from typing import Final

TOKEN: Final = re.compile(r"\b(?:hf_(?:oauth_|jwt_)?|api_org_)[A-Za-z0-9]{20,}[\w.-]*")
"""An access token of the Hub."""
_HIDDEN: Final = "hf_…"
_SHORTEST: Final = 6


def without_tokens(text: str) -> str:
    """The text without access tokens: those of the Hub's form, and the environment's own whatever its form."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        token = os.environ.get(name, "").strip()
        if len(token) >= _SHORTEST:
            text = text.replace(token, _HIDDEN)
    return TOKEN.sub(_HIDDEN, text)


class LwqError(Exception):
    """Something lwq can explain: what, where and why in the message, the way out in ``hint``; no token in either."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.message = without_tokens(message)
        self.hint = without_tokens(hint)
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message


class UsageError(LwqError):
    """A command line, an option or an environment variable that cannot be obeyed."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe with faults; all of them, one a line, each with its path and value."""

    def __init__(self, source: str, faults: tuple[str, ...], *, hint: str = "") -> None:
        n = len(faults)
        head = f"{source}: {n} mistake{'s' if n > 1 else ''}"
        super().__init__("\n".join((head, *(f"  {fault}" for fault in faults))), hint=hint)
        self.faults = faults


class FileError(LwqError):
    """A file that is missing, unreadable, unwritable or not what it claims to be."""


class ModelError(FileError):
    """A GGUF or a Hugging Face folder that cannot be used as a model."""


class SpaceError(LwqError):
    """Too little room on a disk, in memory or on a device, before or during the work."""


class DownloadError(LwqError):
    """A model, text or source tree that could not be fetched."""


class RefusedError(DownloadError):
    """What was asked for is not there, or not for this user: to ask again will not help."""


class UploadError(LwqError):
    """Files that could not be published, or did not arrive as they were sent; to try again may help."""


class ToolchainError(LwqError):
    """llama.cpp is missing, half-built, of another commit, or lacks what lwq needs."""


class ToolError(LwqError):
    """A llama.cpp program failed; the message ends with its last lines of output."""


class TranscriptError(ToolError):
    """A llama.cpp program printed something of unknown shape, or not what it had to print."""


class EngineError(LwqError):
    """A process that computes with llama.cpp's libraries ended without an answer; what it measured is kept."""


class ClusterError(LwqError):
    """Workers, or their scheduler, that are not there, are lost or cannot be used; what is finished is kept."""


class Interrupted(LwqError):
    """The user (or the system) asked lwq to stop; finished pieces are kept."""

    exit_code = 130
