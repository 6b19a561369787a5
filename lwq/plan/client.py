"""The Hub's own client, and each of its ways of failing with the way out."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from typing import Any, Final

from lwq.errors import DownloadError, LwqError, RefusedError, SpaceError

_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)


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
    from huggingface_hub import errors

    failed = f"{reference}: could not be fetched"
    try:
        return question()
    except LwqError:  # an interruption while it was asked
        raise
    except errors.OfflineModeIsEnabled:
        raise RefusedError(f"{failed}: HF_HUB_OFFLINE is set", hint="unset it, or give a local path") from None
    except errors.LocalEntryNotFoundError as error:
        hint = "check the network, HF_ENDPOINT and HF_HUB_OFFLINE, or give a local path"
        kind = RefusedError if is_offline() else DownloadError
        raise kind(f"{failed} and is not in the Hub's cache: {_reason(error)}", hint=hint) from None
    except errors.GatedRepoError:
        hint = "accept its terms on the Hub, then set HF_TOKEN"
        raise RefusedError(f"{failed}: the repository is gated", hint=hint) from None
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError) as error:
        what = type(error).__name__.removesuffix("NotFoundError").removeprefix("Remote").lower()
        missing = {"entry": "file"}.get(what, what)
        hint = "check the spelling; a private repository needs HF_TOKEN"
        raise RefusedError(f"{failed}: the Hub has no such {missing}", hint=hint) from None
    except Exception as error:  # the client's own, and those of an HTTP library that changes with its releases
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            hint = "free some space, or set HF_HOME to a larger disk"
            raise SpaceError(f"{failed}: no room left in the Hub's cache", hint=hint) from None
        hint = "check the network and HF_TOKEN, or give a local path"
        raise DownloadError(f"{failed}: {_reason(error)}", hint=hint) from None


def _reason(error: BaseException) -> str:
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {cause}".splitlines()[0]
