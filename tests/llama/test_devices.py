"""Devices as llama.cpp lists them, what is asked of its programs to compute there, and how much of a model fits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lwq.errors import ToolchainError, UsageError
from lwq.llama.devices import CPU, Device, check_form, find_device
from lwq.llama.toolchain import find_for, home
from tests.llama.test_toolchain import install_own

TWO = (
    "Available devices:\n  CUDA0: NVIDIA H100 (PCIe) (81079 MiB, 80500 MiB free)\n"
    "  CUDA1: NVIDIA H100 (PCIe) (81079 MiB, 512 MiB free)\n"
)
OF_A_MAC = (
    "Available devices:\n  Metal: Apple M2 Pro (21845 MiB, 21845 MiB free)\n  BLAS: Accelerate (0 MiB, 0 MiB free)\n"
)
MIB = 1 << 20


def lists(folder: Path, text: str, *, code: int = 0) -> Path:
    """A program that lists these devices, and notes what it was asked."""
    program = folder / "llama-perplexity"
    program.write_text(f"#!/bin/sh\necho \"$@\" >> {folder}/asked\ncat <<'E'\n{text}E\nexit {code}\n", encoding="utf-8")
    program.chmod(0o755)
    return program


def test_all_gpus_of_a_build_are_used_where_none_is_named(tmp_path: Path) -> None:
    device = find_device(lists(tmp_path, TWO), "auto", "cuda")
    assert device.names == ("CUDA0", "CUDA1")
    assert device.label == "2 × NVIDIA H100 (PCIe)"
    assert device.sizes == (81079 * MIB,) * 2
    assert device.free_bytes == (80500 + 512) * MIB
    assert device == find_device(tmp_path / "llama-perplexity", "gpu", "cuda")


def test_one_gpu_by_its_number_and_one_that_is_not_there(tmp_path: Path) -> None:
    program = lists(tmp_path, TWO)
    assert find_device(program, "gpu:1", "cuda").names == ("CUDA1",)
    with pytest.raises(ToolchainError, match=r"--device gpu:2: there is no such GPU") as caught:
        find_device(program, "gpu:2", "cuda")
    assert "gpu:1 NVIDIA H100" in caught.value.hint


def test_device_without_memory_of_its_own_is_none(tmp_path: Path) -> None:
    assert find_device(lists(tmp_path, OF_A_MAC), "auto", "metal").names == ("Metal",)


def test_build_for_the_cpu_is_not_asked_and_has_no_gpu(tmp_path: Path) -> None:
    program = lists(tmp_path, TWO)
    assert find_device(program, "auto", "cpu") is CPU
    assert find_device(program, "cpu", "cpu") is CPU
    with pytest.raises(ToolchainError, match="sees no such device"):
        find_device(program, "gpu", "cpu")
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize("asked", ["cpu", "auto"])
def test_cpu_of_a_build_for_gpus_is_said_to_its_programs(asked: str, tmp_path: Path) -> None:
    device = find_device(lists(tmp_path, TWO if asked == "cpu" else "Available devices:\n  (none)\n"), asked, "cuda")
    assert device.is_cpu
    assert device.arguments(0) == ("-dev", "none")
    assert device.facts == {"device": "CPU", "device_bytes": []}


def test_cpu_is_had_though_the_driver_fails(tmp_path: Path) -> None:
    assert find_device(lists(tmp_path, "no driver\n", code=1), "cpu", "cuda").arguments(0) == ("-dev", "none")
    assert not (tmp_path / "asked").exists()


def test_server_is_asked_and_its_address_is_in_no_record(tmp_path: Path) -> None:
    text = "Available devices:\n  RPC0: 10.0.0.7:50052 (24105 MiB, 24000 MiB free)\n"
    device = find_device(lists(tmp_path, text), "rpc://10.0.0.7:50052", "rpc")
    assert (tmp_path / "asked").read_text(encoding="utf-8") == "--rpc 10.0.0.7:50052 --list-devices\n"
    assert device.servers == ("10.0.0.7:50052",)
    said = (device.label, *device.names, *device.arguments(7), str(device.facts))
    assert not [word for word in said if "10.0.0.7" in word]


def test_several_servers_are_one_device_split_by_their_sizes(tmp_path: Path) -> None:
    text = (
        "Available devices:\n  RPC0: 10.0.0.7:50052 (24105 MiB, 24000 MiB free)\n"
        "  RPC1: 10.0.0.8:50052 (8000 MiB, 7900 MiB free)\n"
    )
    device = find_device(lists(tmp_path, text), "rpc://10.0.0.7:50052,10.0.0.8:50052", "rpc")
    assert (tmp_path / "asked").read_text(encoding="utf-8") == "--rpc 10.0.0.7:50052,10.0.0.8:50052 --list-devices\n"
    assert (device.label, device.names, device.n_bytes) == ("2 × RPC", ("RPC0", "RPC1"), (24105 + 8000) * MIB)
    assert device.arguments(31)[:6] == ("--rpc", "HOST:PORT,HOST:PORT", "-dev", "RPC0,RPC1", "-ngl", "31")
    assert device.addresses == {"HOST:PORT,HOST:PORT": "10.0.0.7:50052,10.0.0.8:50052"}
    with pytest.raises(ToolchainError, match="rpc://a:1,b:2: not at each answers an RPC server"):
        find_device(lists(tmp_path, "", code=134), "rpc://a:1,b:2", "rpc")


def test_server_that_does_not_answer(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match="rpc://nowhere:1: no RPC server of llama.cpp answers there"):
        find_device(lists(tmp_path, "", code=134), "rpc://nowhere:1", "rpc")


def test_driver_that_fails_is_told_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match="cannot list devices:\nno driver") as caught:
        find_device(lists(tmp_path, "no driver\n", code=1), "auto", "cuda")
    assert "--device cpu" in caught.value.hint


@pytest.mark.parametrize(
    "asked", ["", "tpu", "gpu:", "gpu:x", "rpc://host", "rpc://:5", "rpc://a:1,", "rpc://a:1,b", "cuda0"]
)
def test_what_names_no_device(asked: str) -> None:
    with pytest.raises(UsageError, match="is no device"):
        check_form(asked)


def test_options_of_programs_and_of_llama_bench() -> None:
    one = Device(names=("CUDA0",), label="H100", sizes=(80 << 30,))
    two = Device(names=("CUDA0", "CUDA1"), label="2 × H100", sizes=(80 << 30, 40 << 30))
    assert one.arguments(31) == ("-dev", "CUDA0", "-ngl", "31", "-fit", "off")
    assert two.arguments(31, of_bench=True) == ("-dev", "CUDA0/CUDA1", "-ngl", "31", "-ts", "81920/40960")
    assert CPU.arguments(0) == ()


def test_layers_on_a_device_follow_its_size_and_not_what_is_free() -> None:
    device = Device(names=("CUDA0",), label="H100", sizes=(12 << 30,), free_bytes=1 << 30)
    assert device.n_layers(9 << 30, 35) == 36
    assert device.n_layers(18 << 30, 35) == 20
    assert device.n_layers(18 << 30, 35) == replace(device, free_bytes=0).n_layers(18 << 30, 35)
    assert device.n_layers(18 << 30, 35, beside=1.0) == 10
    assert device.n_layers(18 << 30, 35, spare=13 << 30) == 0
    assert CPU.n_layers(1, 35) == 0


def test_identity_of_a_build_for_the_cpu_is_as_before_and_a_device_is_in_it() -> None:
    install_own()
    own = find_for("auto")
    assert set(own.identity) == {"commit", "backend", "flags", "compiler"}
    there = replace(own, device=Device(names=("CUDA0",), label="H100", sizes=(80 << 30,), free_bytes=7))
    assert there.identity == {**own.identity, "device": "H100", "device_bytes": [80 << 30]}


def test_device_that_no_build_is_for_says_which_to_build() -> None:
    install_own()
    with pytest.raises(ToolchainError, match=f"{home()}.* is built for rpc") as caught:
        find_for("rpc://127.0.0.1:1")
    assert "--backend rpc" in caught.value.hint
