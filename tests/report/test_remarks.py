"""What a reader must know before believing the figures is said, and only where it is true."""

from __future__ import annotations

from dataclasses import replace

from lwq.metrics.values import Estimate
from lwq.record.record import Record
from lwq.report.remarks import remarks
from tests.documents import whole
from tests.report.test_card import changed
from tests.sample_damage import damage
from tests.sample_record import sample_record


def said(record: Record) -> str:
    return "\n".join(remarks(record))


def test_warnings_name_each_matter_of_the_sample() -> None:
    text = said(sample_record())
    assert "Q8_0 has a lower perplexity than the base** (by 0.017, which is within two standard errors)" in text
    assert "8 chunks give 2,040 scored tokens" in text
    assert "±6.8%" in text
    assert "lacks layer 20 of 30" in text
    assert "180 in Q4_K_M, 180 in Q4_K_M-no-imatrix, 180 in IQ4_XS and 150 in Q4_K_M-by-hand" in text
    assert "is the very file that the base was made from" in text
    assert "Speed was not measured for Q4_K_M-no-imatrix" in text
    assert "IQ4_XS did not come out at the predicted size" in text


def test_selection_on_the_evaluation_text_is_warned_of() -> None:
    record = sample_record()
    record = replace(record, selection=replace(record.selection, text="evaluation"))
    assert "chosen on the evaluation text" in said(record)
    text = whole(record)
    assert "the same that the tables above report" in text
    assert "what the importance matrix was collected on is not what the tables above report" in text
    assert "what files were chosen on" not in text
    assert "chosen on the evaluation text" not in said(sample_record())


def test_one_file_in_two_roles_is_warned_of() -> None:
    record = sample_record()
    first, *others = record.texts
    record = replace(record, texts=(replace(first, sha256=others[-1].sha256), *others))
    assert "calibration text and the evaluation text are the same file" in said(record)
    assert "different files" not in whole(record)


def test_row_on_the_floor_and_foreign_toolchain_are_warned_of() -> None:
    record = sample_record()
    assert "cannot be told from the base" not in said(record)
    near = replace(damage("Q8_0"), kld=Estimate(value=0.00001, stderr=0.00001))
    assert "Q8_0 cannot be told from the base" in said(changed(record, "Q8_0", evaluation=near))
    foreign = replace(record, toolchain=replace(record.toolchain, stock=False))
    assert "one given by the user" in said(foreign)
    assert "one given by the user" not in said(record)
