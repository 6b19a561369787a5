"""The card's speeds: the row they are compared with, ties, the warning of a busy machine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lwq.metrics.speeds import mean
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
