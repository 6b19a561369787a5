"""The card's speeds: the row they are compared with, ties, the warning of a busy machine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lwq.metrics.speeds import Ratio, mean
from lwq.metrics.values import Speed
from lwq.record.record import Record
from lwq.report import speed_table
from lwq.report.card import card_body
from tests.sample_record import sample_record

HEADS = ["Model", "Size (GiB)", "Params", "Backend", "Threads", "Test", "t/s"]


def speed(*samples: float, busy: float | None = 0.02) -> Speed:
    return Speed(
        test="tg32", tokens_per_second=mean(samples), samples=samples, n_threads=2, backend="CPU", cpu="a|CPU",
        load_seconds=0.25, peak_bytes=3 << 28, busy=busy,
    )  # fmt: skip


def timed(**speeds: tuple[Speed, ...]) -> Record:
    """The sample record with only these rows timed: names without marks."""
    record = sample_record(tasks=False, searched=False, pruned=False)
    rows = tuple(replace(row, speed=speeds.get(row.name.replace("_", "").replace("-", ""), ())) for row in record.rows)
    return replace(record, rows=rows)


def test_table_holds_ratios_to_the_first_stock_mix() -> None:
    # Q8_0 is the first stock mix; ln(210/200), ln(220/200) → .0487902, .0953102: mean .0720502, s/√2 .02326, t 12.7062
    # ± .295546: exp(.0720502) = 1.0747, exp(−.2234958) = .7997, exp(.3675962) = 1.4443; twice as fast in each round: 2
    record = timed(
        F16=(speed(100.0, 100.0),),
        Q80=(speed(200.0, 200.0),),
        Q4KM=(speed(210.0, 220.0),),
        IQ4XS=(speed(400.0, 400.0),),
    )
    (found,) = speed_table.tables(record)
    assert [c.title for c in found.columns] == [*HEADS, "of Q8_0"]
    assert found.caption == r"Tokens per second measured on a\|CPU."
    assert found.rows == (
        ("F16 (base)", "0.2523", "134.5 M", "CPU", "2", "tg32", "100.00 ±0.00", "0.50 [0.50, 0.50]"),
        ("Q8_0", "0.1349", "134.5 M", "CPU", "2", "tg32", "200.00 ±0.00", "1"),
        ("Q4_K_M", "0.0982", "134.5 M", "CPU", "2", "tg32", "215.00 ±5.00", "1.07 [0.80, 1.44], tied"),
        ("IQ4_XS", "0.0847", "134.5 M", "CPU", "2", "tg32", "400.00 ±0.00", "2.00 [2.00, 2.00]"),
    )


def test_base_is_the_reference_where_no_stock_mix_was_timed() -> None:
    record = timed(F16=(speed(100.0, 101.0),), Q4KMbyhand=(speed(150.0, 140.0),))
    assert speed_table.reference(record).name == "F16"
    (found,) = speed_table.tables(record)
    assert found.columns[-1].title == "of F16"
    assert found.rows[0][-1] == "1"


def test_speeds_that_were_measured_one_file_after_another_have_no_ratio() -> None:
    record = timed(F16=(speed(100.0, 101.0, busy=None),), Q80=(speed(200.0, 202.0, busy=None),))
    (found,) = speed_table.tables(record)
    assert [row[-1] for row in found.rows] == ["–", "1"]
    said = speed_table.meaning(record)
    assert "one after another" in said
    assert "geometric mean" not in said
    assert speed_table.loads(record) is None


def test_load_time_and_memory_stand_in_a_table_of_their_own() -> None:
    record = timed(F16=(speed(100.0, 101.0),), Q80=(speed(200.0, 202.0),))
    found = speed_table.loads(record)
    assert found is not None
    assert found.rows == (("F16 (base)", "0.2523", "0.250", "0.7500"), ("Q8_0", "0.1349", "0.250", "0.7500"))
    unseen = replace(speed(1.0, 2.0), peak_bytes=0)
    assert speed_table.loads(timed(Q80=(unseen,))).rows[0][-1] == "not measured"


@pytest.mark.parametrize(("busy", "told"), [(0.1, False), (0.104, True), (1.0, True)])
def test_busy_machine_is_warned_of_above_a_tenth(busy: float, told: bool) -> None:
    record = timed(F16=(speed(100.0, 101.0),), Q80=(speed(200.0, 202.0, busy=busy),))
    said = card_body(record)
    assert ("**The machine was busy:**" in said) is told
    assert ("up to 100% of its CPUs" in said) is (busy == 1.0)
    assert "in each of 2 rounds" in said


def test_card_without_speeds_says_so_and_explains_none() -> None:
    said = card_body(timed())
    assert "Speed was not measured.\n" in said
    assert "in turns" not in said
    assert "Peak memory" not in said


def test_places_have_tables_of_their_own_named_after_processor_and_device() -> None:
    there = replace(speed(50.0, 50.0), cpu="", backend="CUDA")
    record = timed(F16=(speed(100.0, 100.0),), Q80=(there, speed(200.0, 200.0)))
    first, second = speed_table.tables(record)
    assert [r[3] for r in first.rows] == ["CPU", "CPU"]
    assert [(r[0], r[3]) for r in second.rows] == [("Q8_0", "CUDA")]
    assert second.caption == "Tokens per second measured on an unnamed processor."
    record = replace(record, toolchain=replace(record.toolchain, device="a GPU"))
    first, second = speed_table.tables(record)
    assert first.caption == r"Tokens per second measured on a GPU beside a\|CPU."
    assert second.caption == "Tokens per second measured on a GPU beside an unnamed processor."
    assert speed_table.tables(timed()) == ()


def test_a_table_without_a_reference_has_no_ratios() -> None:
    record = timed(Q4KMbyhand=(speed(150.0, 140.0),))
    assert speed_table.reference(record) is None
    (found,) = speed_table.tables(record)
    assert [c.title for c in found.columns] == HEADS
    assert found.rows == (("Q4_K_M-by-hand", "0.1076", "134.5 M", "CPU", "2", "tg32", "145.00 ±5.00"),)


def test_a_mix_of_its_own_types_is_no_stock_mix() -> None:
    rows = {row.name: row for row in sample_record().rows}
    found = {name: speed_table.is_stock(row) for name, row in rows.items()}
    assert {name for name, is_stock in found.items() if not is_stock} == {
        "Q4_K_M-by-hand", "Q4_K_M-pruned", "Q4_K_M-healed", "Q4_K_M-lwq",
    }  # fmt: skip


def test_how_speeds_were_measured_is_told_with_what_they_are_compared_to() -> None:
    record = timed(F16=(speed(100.0, 101.0),), Q80=(speed(200.0, 202.0, 201.0, busy=0.03),))
    said = speed_table.meaning(record)
    assert said.startswith(
        "The files were measured in turns: in each of 2 and 3 rounds llama-bench ran every file once"
    )
    assert "“of Q8_0” is the geometric mean of the rounds' ratios to Q8_0, in brackets" in said
    assert said.endswith("on others the order of the files may differ.")
    alone = timed(F16=(speed(100.0, 101.0, busy=None),), Q80=(speed(200.0, 202.0),))
    assert speed_table.meaning(alone).startswith("± is one standard error of the mean of 2 runs")
    assert "geometric" not in speed_table.meaning(alone)
    assert "geometric" not in speed_table.meaning(timed(Q4KMbyhand=(speed(150.0, 140.0),)))
    assert speed_table.meaning(timed()) == ""
    assert "up to 35% of its CPUs" in speed_table.busy_warning(0.349)
    assert speed_table.busy_warning(0.1) == ""


def test_rows_are_loaded_as_often_as_they_were_timed_in_turns() -> None:
    slow = replace(speed(1.0, 2.0), load_seconds=None)
    record = timed(F16=(slow,), Q80=(speed(1.0, 2.0, busy=None),), Q4KM=(speed(3.0, 4.0),))
    found = speed_table.loads(record)
    assert found is not None
    assert [c.title for c in found.columns] == ["Model", "Size (GiB)", "Load (s)", "Peak memory (GiB)"]
    assert [(r[0], r[2]) for r in found.rows] == [("F16 (base)", "not measured"), ("Q4_K_M", "0.250")]
    assert speed_table.loads(timed()) is None


def test_ratios_are_told_with_two_decimals_and_ties() -> None:
    ratio = Ratio(value=1.05249, low=1.02149, high=1.0844, n_rounds=3)
    assert speed_table.ratio_cell(ratio) == "1.05 [1.02, 1.08]"
    assert speed_table.ratio_cell(replace(ratio, low=1.0)) == "1.05 [1.00, 1.08], tied"
    assert speed_table.ratio_cell(None) == "–"
