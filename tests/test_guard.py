"""The guards of conftest bite."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from lwq.llama.toolchain import home


def test_home_of_a_test_is_not_the_users(guarded: Path) -> None:
    assert home() == guarded


def test_unregistered_program_is_refused() -> None:
    with pytest.raises(PermissionError, match="not registered: /usr/bin/env"):
        subprocess.run(["/usr/bin/env"], check=True)


def test_network_is_refused() -> None:
    with socket.socket() as connection, pytest.raises(PermissionError, match="reached for the network"):
        connection.connect(("192.0.2.1", 80))
