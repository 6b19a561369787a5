"""Published files that share a name are whose row says."""

from __future__ import annotations

from pathlib import Path

import pytest

from lwq.llama.toolchain import Toolchain
from lwq.plan.publish import publish_files
from tests.plan.test_sources import HEAD
from tests.run_tiny import run_tiny


@pytest.mark.tools
def test_published_files_of_one_name_are_whose_row_says(folder: Path, toolchain: Toolchain) -> None:
    from lwq.plan.assemble import assemble
    from lwq.store.files import sha256_file

    run_tiny(folder, folder / "home", toolchain, HEAD + '[[targets]]\nftype = "Q8_0"\n')
    (folder / "theirs").mkdir()
    theirs = folder / "theirs" / "tiny-Q4_0.gguf"
    theirs.write_bytes((folder / "report" / "tiny-Q8_0.gguf").read_bytes())
    more = '[[targets]]\nftype = "Q4_0"\n[[third_party]]\nname = "theirs"\nmodel = "theirs/tiny-Q4_0.gguf"\n'
    run, _, _ = run_tiny(folder, folder / "home", toolchain, HEAD + more)
    publish_files(run, folder / "report")
    rows = assemble(run).rows
    assert len({row.file for row in rows}) == 3
    for row in rows:
        assert sha256_file(folder / "report" / row.file) == row.sha256
