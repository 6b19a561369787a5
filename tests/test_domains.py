"""Several texts of evaluation: each row is measured on each, and the record and the card say it by domain."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lwq.llama.toolchain import Toolchain
from lwq.plan.assemble import assemble
from lwq.record.record import Domain
from tests.run_tiny import RECIPE, run_tiny, write_inputs
from tests.tiny_models import write_tiny_text

pytestmark = pytest.mark.tools
HEAD, _, REST = RECIPE.partition("[evaluation]")
DOMAINS = HEAD + (
    '[[evaluation]]\ntext = "evaluation.txt"\ndomain = "prose"\nn_ctx = 64\nn_chunks = 5\n'
    '[[evaluation]]\ntext = "code.txt"\nweight = 2.0\nn_ctx = 128\nn_chunks = 3\n'
    '[[evaluation]]\ntext = "said.jsonl"\ncolumn = "text"\nn_ctx = 64\nn_chunks = 4\n[bench]\ntests = []\n'
    '[[targets]]\nftype = "Q8_0"\n[[targets]]\nftype = "Q4_0"\n'
)


def test_every_row_is_measured_on_every_domain(toolchain: Toolchain, tmp_path: Path) -> None:
    write_inputs(tmp_path)
    write_tiny_text(tmp_path / "code.txt", n_words=900, seed=7)
    write_tiny_text(tmp_path / "said.txt", n_words=900, seed=8)
    words = (tmp_path / "said.txt").read_text(encoding="utf-8").split()
    lines = (json.dumps({"text": " ".join(words[i : i + 90])}) for i in range(0, len(words), 90))
    (tmp_path / "said.jsonl").write_text("\n".join(lines), encoding="utf-8")
    run, log, card = run_tiny(tmp_path, tmp_path / "home", toolchain, DOMAINS)
    record = assemble(run)
    assert record.domains == (
        Domain(name="prose", role="evaluation", weight=1.0),
        Domain(name="code", role="evaluation:code", weight=2.0),
        Domain(name="said", role="evaluation:said", weight=1.0),
    )
    assert {text.role: text.n_chunks for text in record.texts if text.role.startswith("evaluation")} == {
        "evaluation": 5, "evaluation:code": 3, "evaluation:said": 4,
    }  # fmt: skip
    for row in record.rows:
        assert [len(damage.chunk_kld) for damage in row.domains] == [3, 4]
        assert len({row.evaluation.ppl_base.value, *(d.ppl_base.value for d in row.domains)}) == 3
    q4, q8 = (next(r for r in record.rows if r.name == name) for name in ("Q4_0", "Q8_0"))
    assert all(coarse.kld.value > fine.kld.value for coarse, fine in zip(q4.domains, q8.domains, strict=True))
    assert {"baseline:evaluation:code", "evaluate:Q4_0:evaluation:said"} < set(log.fresh)
    assert "by domain" in card.read_text(encoding="utf-8")
    _, log, _ = run_tiny(tmp_path, tmp_path / "home", toolchain, DOMAINS)
    assert log.fresh == []
