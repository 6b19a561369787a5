"""The damage of pruned files stands in its parts, each with what it is measured against."""

from __future__ import annotations

from dataclasses import replace

from lwq.report import pruned_parts
from tests.documents import whole
from tests.report.test_prune_section import changed
from tests.sample_damage import damage
from tests.sample_pruning import healed_set, parts
from tests.sample_record import sample_record


def cells(table: str, first: str) -> list[str]:
    """The line of a table of the card that begins with that cell."""
    (line,) = (line for line in table.splitlines() if line.startswith(f"| {first} |"))
    return line.strip("| ").split(" | ")


def test_three_labelled_damages_of_a_pruned_row_are_in_the_card_with_the_right_figures() -> None:
    table = whole(sample_record()).split("Damage of pruned files in its parts")[1].split("*Total*")[0]
    head = cells(table, "Model")
    line = dict(zip(head, cells(table, "Q4_K_M-healed (layers 20, 23 removed, healed)"), strict=True))
    assert line["Total: KLD against the original (nats)"] == "0.361905 ±0.009217"
    assert line["Total: PPL"] == "36.604771 ±2.494117"
    assert line["Prune part: KLD of the pruned base against the original (nats)"] == "0.327744 ±0.008716"
    assert line["Prune part: PPL"] == "35.290115 ±2.401880"
    assert line["Quant part: KLD against the pruned base (nats)"] == "0.040218 ±0.001204"
    assert line["Quant part: PPL"] == "36.604771 ±2.494117"
    assert line["Quant part: PPL(Q)/PPL(base)"] == "1.038221 ±0.007286"  # 36.604771 ÷ 35.257208
    assert line["Repaired"] == "3 tensors"
    assert line["Pruned base"] == "`SmolLM2-135M-Instruct-pruned2-F16.gguf`"


def test_quant_part_is_said_to_be_what_other_cards_print_and_parts_need_not_add_up() -> None:
    text = whole(sample_record())
    assert "it is what the usual card of a pruned model prints" in text
    assert "scores a pruned model against its own pruned F16" in text
    assert "Parts need not add up to the total." in text
    assert "What pruning cost, what quantizing cost." in text


def test_row_pruned_by_hand_without_healing_has_its_parts_too() -> None:
    table = pruned_parts.table(sample_record())
    assert table
    by_hand = next(r for r in table.rows if r[0] == "Q4_K_M-pruned (layer 20 removed)")
    assert by_hand[1] == "no"
    assert by_hand[4] == "0.452207 ±0.011098"
    assert by_hand[6] == "0.037716 ±0.001127"


def test_repair_in_vain_is_not_called_healed() -> None:
    vain = replace(healed_set(), tensors=(), note="no repair lowered the KLD")
    record = changed("Q4_K_M-healed", parts=replace(parts("Q4_K_M-healed"), healed=vain))
    table = pruned_parts.table(record)
    assert table
    assert ("Q4_K_M-healed (layers 20, 23 removed)", "no: no repair lowered the KLD") in {r[:2] for r in table.rows}
    assert not any("23 removed, healed" in line for line in whole(record).splitlines())


def test_lines_measured_otherwise_are_told_apart() -> None:
    shorter = replace(damage("Q4_K_M-healed"), chunk_kld=(0.1, 0.11))
    table = pruned_parts.table(changed("Q4_K_M-healed", evaluation=shorter))
    assert table
    assert "Q4_K_M-healed: 2 chunks" in table.caption
    whole = pruned_parts.table(sample_record())
    assert whole
    assert "alike" not in whole.caption
