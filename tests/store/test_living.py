"""A process is told from one that is no more, and from a later one of its number."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace

from lwq.store.living import Living


def test_this_process_is_alive_and_one_of_its_number_that_began_elsewhen_is_not() -> None:
    me = Living.me()
    assert me.is_alive()
    assert not replace(me, born=f"{me.born}0").is_alive()
    assert not replace(me, born="").is_alive()


def test_killed_process_is_dead_before_anybody_asked_how_it_ended() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    other = Living.of(child.pid)
    assert other.is_alive()
    child.kill()
    for _ in range(500):
        if not other.is_alive():
            break
        time.sleep(0.01)
    assert not other.is_alive()
    assert child.returncode is None
    child.wait()
    assert not other.is_alive()
