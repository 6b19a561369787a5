"""The Hub's own client, and each of its ways of failing with the way out."""

from __future__ import annotations

import errno
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from lwq.errors import DownloadError, LwqError, RefusedError, SpaceError, UploadError

TOKEN_HINT: Final = "make a token that may write (on the Hub under Settings, Access Tokens), then `hf auth login`"
AGAIN_HINT: Final = "the same command goes on: what has arrived is not sent again"
_WAITS_SECONDS: Final = (1.0, 4.0)
"""Beside those of the client, which waits within some of its requests only."""
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)
_STATUS: Final = re.compile(r"\b([45]\d\d) [A-Z][a-z]+")
_SIGNED: Final = re.compile(r"(https?://[^\s'\"?]+)\?[^\s'\")]*")


def hub_client() -> Any:
    """The package; its progress bars show on a terminal only."""
    import huggingface_hub
    import huggingface_hub.utils

    client: Any = huggingface_hub
    client.logging.set_verbosity_error()
    if not sys.stderr.isatty():
        client.utils.disable_progress_bars()
    return client


def is_offline() -> bool:
    """Whether the user wants no question to be asked (``HF_HUB_OFFLINE``)."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def in_cache(question: Callable[[], Any]) -> Any:
    """The answer to what is asked of the Hub's cache alone, or None where that lacks something."""
    from huggingface_hub import errors

    try:
        return question()
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
        return None


def asked(reference: str, question: Callable[[], Any]) -> Any:
    """The Hub's answer.

    Raises:
        RefusedError: there is no such thing, it is not for this user, or nothing is to be asked.
        DownloadError: the Hub could not be reached, or gave up midway.
        SpaceError: no room left in its cache.
    """
    try:
        return question()
    except LwqError:  # an interruption while it was asked
        raise
    except Exception as error:  # the client's own, and those of an HTTP library that changes with its releases
        raise _not_fetched(error, f"{reference}: could not be fetched") from None


def sent(reference: str, action: Callable[[], Any]) -> Any:
    """What the Hub answers to something that may be done twice; where it fails for the moment, it is asked again.

    Raises:
        RefusedError: there is no such place, or this user may not write there, or nothing is to be asked.
        UploadError: the Hub could not be reached, or gave up midway; the same again goes on from there.
    """
    for wait in (*_WAITS_SECONDS, None):
        try:
            return action()
        except LwqError:
            raise
        except Exception as error:
            if wait is None or not _may_pass(error):
                raise _not_sent(error, f"{reference}: could not be published") from None
        time.sleep(wait)
    raise AssertionError  # the last try returns or raises


def _may_pass(error: BaseException) -> bool:
    """Whether it is a failure of the moment: too many requests, the Hub's own, or of the network."""
    status = _status(error)
    kinds = {kind.__name__ for cause in _chain(error) for kind in type(cause).__mro__}
    return status == 429 or status >= 500 or (status == 0 and "TransportError" in kinds)


def _not_fetched(error: Exception, failed: str) -> LwqError:
    from huggingface_hub import errors

    if isinstance(error, errors.OfflineModeIsEnabled):
        return RefusedError(f"{failed}: HF_HUB_OFFLINE is set", hint="unset it, or give a local path")
    if isinstance(error, errors.LocalEntryNotFoundError):
        hint = "check the network, HF_ENDPOINT and HF_HUB_OFFLINE, or give a local path"
        kind = RefusedError if is_offline() else DownloadError
        return kind(f"{failed} and is not in the Hub's cache: {_reason(error)}", hint=hint)
    if isinstance(error, errors.GatedRepoError):
        hint = "accept its terms on the Hub, then set HF_TOKEN"
        return RefusedError(f"{failed}: the repository is gated", hint=hint)
    if what := _missing(error):
        hint = "check the spelling; a private repository needs HF_TOKEN"
        return RefusedError(f"{failed}: the Hub has no such {what}", hint=hint)
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        hint = "free some space, or set HF_HOME to a larger disk"
        return SpaceError(f"{failed}: no room left in the Hub's cache", hint=hint)
    hint = "check the network and HF_TOKEN, or give a local path"
    return DownloadError(f"{failed}: {_reason(error)}", hint=hint)


def _not_sent(error: Exception, failed: str) -> LwqError:
    from huggingface_hub import errors

    status = _status(error)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return RefusedError(f"{failed}: HF_HUB_OFFLINE is set", hint="unset it")
    if status == 401:
        return RefusedError(
            f"{failed}: the Hub does not take the token (401); it is expired or revoked", hint=TOKEN_HINT
        )
    if status == 403:
        hint = "the token needs the right to write to that owner's repositories; or name another owner"
        return RefusedError(f"{failed}: the token may not write there (403){_server_words(error)}", hint=hint)
    if what := _missing(error):
        return RefusedError(f"{failed}: the Hub has no such {what}", hint="check the spelling of owner and repository")
    if status == 429:
        hint = f"wait some minutes; {AGAIN_HINT}"
        return UploadError(f"{failed}: the Hub takes no more requests for now (429)", hint=hint)
    if status >= 500:
        return UploadError(f"{failed}: the Hub itself failed ({status})", hint=f"wait some minutes; {AGAIN_HINT}")
    return UploadError(f"{failed}: {_reason(error)}", hint=f"check the network; {AGAIN_HINT}")


def _missing(error: Exception) -> str:
    """``repository``, ``revision`` or ``file``, where the Hub has none of that name; else empty."""
    from huggingface_hub import errors

    kinds = (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError)
    if not isinstance(error, kinds):
        return ""
    what = type(error).__name__.removesuffix("NotFoundError").removeprefix("Remote").lower()
    return {"entry": "file"}.get(what, what)


def _status(error: BaseException) -> int:
    """The HTTP status that an error, or what caused it, is about; 0 where it is about none.

    What uploads large files tells the status in its text alone.
    """
    causes = tuple(_chain(error))
    for cause in causes:
        if isinstance(status := getattr(getattr(cause, "response", None), "status_code", None), int):
            return status
    told = _STATUS.search(str(causes[-1]))
    return int(told[1]) if told else 0


def _server_words(error: BaseException) -> str:
    """``: why``, where the Hub itself says why."""
    words = next((said for cause in _chain(error) if (said := getattr(cause, "server_message", None))), "")
    return f": {_hidden(' '.join(str(words).split()))}" if words else ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, what caused it, and so on."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _reason(error: BaseException) -> str:
    """What the client says, on one line: its first, and the next where that ends in a colon."""
    cause = error.__cause__ or error
    lines = [line.strip() for line in f"{type(cause).__name__}: {cause}".splitlines() if line.strip()]
    return _hidden(" ".join(lines[: 2 if lines[0].endswith(":") else 1]))


def _hidden(text: str) -> str:
    """The text without the token and without the signatures in addresses."""
    text = _SIGNED.sub(r"\1", text)
    token = hub_client().get_token()
    return text.replace(token, "hf_…") if token else text
