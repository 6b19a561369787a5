"""The log of a crash says what happened, and no access token."""

from __future__ import annotations

from pathlib import Path

from lwq.cli.crash import write_crash_log

TOKEN = "hf_abcdefghijklmnopqrstuvwxyz0123456789"


def test_the_log_holds_the_traceback_and_no_token(guarded: Path) -> None:
    try:
        raise ValueError(f"Illegal header value b'Bearer {TOKEN}\\n'")
    except ValueError as caught:
        error = write_crash_log(caught, ["publish", "--to", f"someone/{TOKEN}"])
    (log,) = (guarded / "log").iterdir()
    text = log.read_text(encoding="utf-8")
    assert "Illegal header value" in text
    assert "test_crash.py" in text
    assert "someone/hf_…" in text
    assert TOKEN not in text + error.message + error.hint
