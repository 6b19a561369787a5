"""Damage by domain: means by the stated weights, the worst domain by name."""

from __future__ import annotations

import math
from dataclasses import replace

from lwq.record.record import Domain, Record
from lwq.report import domain_section
from lwq.report.card import card_body, details
from tests.sample_record import sample_record


def with_domains(*weights: float) -> Record:
    """The sample, whose second domain costs each file twice as much as the first, and the third half as much."""
    record = sample_record()
    named = zip(("prose", "code", "other <scripts>"), weights, strict=True)
    rows = tuple(
        replace(r, domains=tuple(replace(r.evaluation, kld=replace(r.evaluation.kld, value=f * r.evaluation.kld.value))
                                 for f in (2, 0.5)))
        for r in record.rows
    )  # fmt: skip
    domains = tuple(Domain(name=n, role=f"evaluation:{n}" if i else "evaluation", weight=w)
                    for i, (n, w) in enumerate(named))  # fmt: skip
    return replace(record, rows=rows, domains=domains)


def test_one_domain_has_no_section() -> None:
    record = sample_record()
    assert domain_section.table(record) is None
    assert domain_section.meaning(record) == ""
    assert domain_section.each(record) == ()


def test_the_mean_is_weighted_as_stated() -> None:
    record = with_domains(1.0, 2.0, 1.0)
    table = domain_section.table(record)
    assert table
    assert [c.title for c in table.columns] == ["Model", "Mean", "prose", "code", "other <scripts>", "Worst"]
    q8 = next(row for row in record.rows if row.name == "Q8_0")
    kld, error = q8.evaluation.kld.value, q8.evaluation.kld.stderr
    assert error
    line = next(cells for cells in table.rows if cells[0] == "Q8_0")
    value, stderr = line[1].split(" ±")
    assert math.isclose(float(value), kld * (1 + 2 * 2 + 0.5) / 4, rel_tol=0.02)
    assert math.isclose(float(stderr), error * math.sqrt(1 + 4 + 1) / 4, rel_tol=0.1)
    assert line[-1] == "code"
    assert "Weights in the mean: 1 for prose, 2 for code and 1 for other \\<scripts\\>." in card_body(record)
    assert "Domains count alike" in card_body(with_domains(1, 1, 1))
    assert "The worst domain of every file is code." in card_body(record)


def test_each_domain_has_its_table_in_the_details() -> None:
    text = details(with_domains(1, 1, 1))
    for name in ("prose", "code", "other \\<scripts\\>"):
        assert f"Damage in the domain {name}" in text


def test_the_closest_file_is_closest_over_all_domains_and_its_worst_is_named() -> None:
    record = with_domains(1, 1, 1)
    near, far = (next(row for row in record.rows if row.name == name) for name in ("Q8_0", "Q4_K_M"))
    assert domain_section.closest(record, [far, near]) is near
    bad = replace(near.domains[0], kld=replace(near.domains[0].kld, value=9.0))
    strange = replace(near, domains=(bad, near.domains[1]))
    with_strange = replace(record, rows=tuple(strange if row is near else row for row in record.rows))
    assert domain_section.closest(with_strange, [far, strange]) is far
    assert domain_section.closest(sample_record(), [far, near]).name == near.name
    told = domain_section.worst_of(record, far)
    assert told.startswith(" That is on prose; its worst domain is code, where its KLD is 0.07")
    alike = replace(far, domains=(far.evaluation, far.evaluation))
    assert domain_section.worst_of(replace(record, rows=(alike,)), alike) == " That is on prose, its worst domain."
    assert domain_section.worst_of(sample_record(), far) == ""


def test_the_base_is_told_from_itself_nowhere() -> None:
    table = domain_section.table(with_domains(1, 1, 1))
    assert table
    assert table.rows[0][1:] == ("0", "0", "0", "0", "–")
