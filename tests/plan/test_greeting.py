"""A worker that would compute other bytes is told apart, and why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lwq.plan.greeting import Greeting, greeting, refusal

OURS = Greeting(
    host="a", home="/a", version="1.0", code="c0de", cpu="feature", toolchain='{"backend": "cpu", "flags": ["-O3"]}'
)


def test_one_that_computes_the_same_is_used_wherever_it_is() -> None:
    assert refusal(OURS, replace(OURS, host="b", home="/b", n_cpus=64)) == ""


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"version": "1.1"}, "has lwq 1.1, and this is 1.0"),
        ({"code": "0the"}, "has another state of lwq 1.0 (source 0the, here c0de)"),
        ({"toolchain": "", "fault": "no llama.cpp is built"}, "has no llama.cpp to use: no llama.cpp is built"),
        (
            {"toolchain": '{"backend": "cuda", "flags": ["-O3"]}'},
            "has another llama.cpp: backend cuda (here cpu)",
        ),
        ({"cpu": "other"}, "has another processor (features other, here feature), on which other digits come out"),
    ],
)
def test_another_is_refused_in_one_sentence(other: dict[str, str], told: str) -> None:
    assert refusal(OURS, replace(OURS, **other)) == told


def test_a_process_greets_without_a_toolchain_too() -> None:
    found = greeting("cpu")
    assert found.toolchain == ""
    assert "no llama.cpp" in found.fault
    assert found.room["memory"] > 0
