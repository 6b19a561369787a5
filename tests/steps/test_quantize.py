"""A written file's own keys say what is true of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lwq.gguf.allocation import Allocation
from lwq.gguf.data import size_label
from lwq.gguf.header import read_header
from lwq.gguf.rewrite import rewrite_gguf
from lwq.llama.toolchain import Toolchain
from lwq.steps.quantize import mostly
from tests.plan.test_sources import HEAD
from tests.run_tiny import run_tiny, write_inputs


def allocation(ftype: str, *types: str) -> Allocation:
    named = tuple((f"blk.{i}.ffn_up.weight", t) for i, t in enumerate(types))
    norms = tuple((f"blk.{i}.ffn_norm.weight", "f32") for i in range(9))
    quantizable = tuple(name for name, _ in named)
    return Allocation(ftype=ftype, types=(*named, *norms), quantizable=quantizable, pruned_layers=(), n_fallback=0)


@pytest.mark.parametrize(
    ("ftype", "types", "expected"),
    [
        ("Q4_K_M", ("q5_1", "q5_1", "q8_0"), "Q5_1"),
        ("Q4_K_S", ("q4_K", "q4_K", "q6_K"), "Q4_K_S"),
        ("Q4_K_M", ("q3_K", "q3_K", "q6_K"), "Q3_K_M"),
        ("Q4_K_M", ("q2_K", "iq2_s", "iq2_s"), "IQ2_S"),
        ("Q4_K_M", ("iq4_nl", "iq4_nl"), "IQ4_NL"),
        ("Q8_0", (), "Q8_0"),
    ],
)
def test_a_mix_is_mostly_of_the_type_of_most_tensors(ftype: str, types: tuple[str, ...], expected: str) -> None:
    assert mostly(allocation(ftype, *types)) == expected


@pytest.mark.tools
def test_licence_and_size_label_fit_the_file_and_all_else_is_the_originals(
    toolchain: Toolchain, tmp_path: Path
) -> None:
    write_inputs(tmp_path)
    stated = {"general.size_label": "9B", "general.license": "mit", "general.name": "A model"}
    source = read_header((tmp_path / "tiny.gguf").rename(tmp_path / "bare.gguf"))
    rewrite_gguf(source, tmp_path / "tiny.gguf", metadata=stated, tensors={})
    targets = '[[targets]]\nftype = "Q8_0"\n[[targets]]\nname = "cut"\nftype = "Q4_0"\nprune_layers = [1]\n'
    card = '[card]\nauthor = "Zoë"\nlicence = "Apache License 2.0"\n'
    run, _, _ = run_tiny(tmp_path, tmp_path / "home", toolchain, HEAD + targets + card)
    whole, cut = (read_header(tmp_path / "report" / f"tiny-{name}.gguf") for name in ("Q8_0", "cut"))
    for header in (whole, cut):
        assert header.text("general.license") == "apache-2.0"
        assert header.text("general.quantized_by") == "Zoë"
        assert header.text("general.name") == "A model"
    assert (whole.text("general.size_label"), whole.number("general.file_type")) == ("9B", 7)
    assert (cut.text("general.size_label"), cut.number("general.file_type")) == (size_label(cut.tensors), 2)
    for name in ("Q8_0", "cut"):
        made = run.result(f"quantize:{name}")
        assert made.predicted_file_bytes == made.facts.file_bytes
