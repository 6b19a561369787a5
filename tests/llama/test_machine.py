"""What else this machine does is seen; libraries with a C++ library of their own are coped with."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from lwq.llama.machine import busy_share, n_cpus, preloaded, python_child


def test_busy_share_sees_other_programs() -> None:
    spin = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n_cpus())]
    try:
        time.sleep(0.3)
        assert 0.5 < busy_share() <= 1
    finally:
        for process in spin:
            process.kill()
            process.wait()


@pytest.mark.parametrize(("options", "preload"), [((), False), (("-static-libstdc++",), True)])
def test_libraries_with_their_own_libstdcxx_get_the_shared_one_first(
    options: tuple[str, ...], preload: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    source = tmp_path / "thrower.cpp"
    source.write_text('#include <stdexcept>\nvoid f() { throw std::runtime_error("x"); }\n', encoding="utf-8")
    for name in ("libllama.so", "libggml-base.so"):
        command = ["c++", "-shared", "-fPIC", *options, "-o", str(tmp_path / name), str(source)]
        subprocess.run(command, check=True)
    assert preloaded(tmp_path) == ({"LD_PRELOAD": "libstdc++.so.6"} if preload else {})
    assert python_child("pass", lib_dir=tmp_path)[1].get("LD_PRELOAD") == ("libstdc++.so.6" if preload else None)
