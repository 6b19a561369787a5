"""What leads a race is called better only by windows that nothing was chosen by, and by windows as units."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lwq.bits.confirmation import (
    choose,
    confirm,
    confirmed,
    finalists,
    halves,
    reason,
    unconfirmed,
)
from lwq.bits.race import Runner, race, rounds_of
from lwq.metrics.divergence import Scores
from lwq.metrics.paired import mean_interval
from lwq.metrics.values import Interval


def scores(kld: Any) -> Scores:
    return Scores(kld=np.array(kld, np.float64), nll=np.zeros(np.shape(kld)))


def even(*by_window: float) -> Scores:
    """Windows whose tokens all have one KLD."""
    return scores([[kld] * 4 for kld in by_window])


LEVEL = np.array([1.0, 1.6, 0.7, 1.1, 2.0, 0.9, 1.3, 0.8, 1.2, 0.6, 1.5, 1.0])
WAVE = np.array([0.04, -0.03, 0.01, 0.02, -0.04, 0.0, 0.03, -0.02, 0.01, -0.01, -0.03, 0.02])


@pytest.mark.parametrize(
    ("n", "least", "expected"),
    [
        (46, 8, (23, 23)),
        (17, 8, (8, 8)),
        (16, 8, (8, 8)),
        (15, 8, (15, 0)),
        (2, 8, (2, 0)),
        (5, 2, (2, 2)),
        (3, 2, (3, 0)),
    ],
)
def test_halves_share_no_window_and_short_texts_are_not_cut(n: int, least: int, expected: tuple[int, int]) -> None:
    windows = np.arange(3 * n, dtype=np.int32).reshape(n, 3)
    choosing, confirming = halves(windows, least)
    assert (len(choosing), len(confirming)) == expected
    assert np.array_equal(choosing, windows[: len(choosing)])
    assert np.array_equal(confirming, windows[n - len(confirming) :])


@pytest.mark.parametrize("n_tokens", [8192, 9000, 9215, 9216, 9727])
@pytest.mark.parametrize("n_ctx", [64, 100, 128, 512, 1024])
def test_no_scored_token_of_the_second_half_is_in_a_first_half_of_other_windows(n_tokens: int, n_ctx: int) -> None:
    tokens = np.arange(n_tokens, dtype=np.int32)
    by_512, others = (tokens[: n_tokens // n * n].reshape(-1, n) for n in (512, n_ctx))
    _, confirming = halves(by_512)
    choosing, _ = halves(others, least=2)
    assert len(confirming) >= 8
    assert choosing.max() < confirming[:, 256:].min()


def test_a_steady_gain_is_confirmed_with_few_windows_however_windows_differ() -> None:
    gap = confirmed(even(*(LEVEL[:8] * (0.5 + WAVE[:8]))), even(*LEVEL[:8]))
    assert gap.is_lower
    assert gap.confirmation
    assert gap.confirmation.n_windows == gap.n_windows == 8
    assert gap.quotient == gap.confirmation.quotient == pytest.approx(0.5, abs=0.02)
    assert 0.4 < gap.confirmation.interval.low < 0.5 < gap.confirmation.interval.high < 0.6
    # Σ of the windows' differences ÷ 8, by hand: Σ level = 9.4, Σ level · wave = −0.036
    assert gap.difference.value == pytest.approx((9.4 * 0.5 - 0.036 - 9.4) / 8)


def test_the_interval_is_that_of_paired_windows_not_of_their_quarters() -> None:
    """Quarters that differ a lot add nothing: only the means of windows count."""
    a, b = LEVEL * (0.9 + WAVE), LEVEL
    whole = confirmed(even(*a), even(*b))
    tilted = np.array([-0.3, 0.3, -0.1, 0.1])
    cut = confirmed(scores(a[:, None] + tilted), scores(b[:, None] - tilted))
    assert whole.confirmation
    assert cut.confirmation
    assert cut.confirmation.interval.low == pytest.approx(whole.confirmation.interval.low)
    assert cut.confirmation.interval.high == pytest.approx(whole.confirmation.interval.high)
    q = a.mean() / b.mean()
    expected = mean_interval(q + (a - q * b) / b.mean())
    assert expected
    assert whole.confirmation.interval == expected


def test_a_gain_within_the_noise_is_not_confirmed() -> None:
    gap = confirmed(even(*(LEVEL * (0.995 + WAVE))), even(*LEVEL))
    assert gap.quotient < 1
    assert not gap.is_lower
    assert gap.confirmation
    assert gap.confirmation.interval.holds(1)


def test_without_other_windows_nothing_is_proof_and_the_best_of_more_must_lead_by_more() -> None:
    """Student's t of six windows, five degrees of freedom: 2.571 for one candidate (0.025), 4.032 for five (0.005)."""
    shares = np.array([-0.2, 0.1, -0.1, 0.2, -0.15, 0.15])
    error = shares.std(ddof=1) / np.sqrt(6)  # 0.0695
    for errors, one, five in ((2.4, False, False), (3.0, True, False), (4.2, True, True)):
        a, b = even(*(1 - errors * error + shares)), even(*[1.0] * 6)
        gaps = unconfirmed(a, b, 1), unconfirmed(a, b, 5)
        assert [gap.is_lower for gap in gaps] == [one, five], errors
        assert {gap.confirmation for gap in gaps} == {None}
    assert "(not confirmed on others)" in gaps[0].where
    assert "95 %" not in gaps[0].share


def test_one_window_and_a_mix_without_loss_are_never_beaten() -> None:
    assert not unconfirmed(even(1.0), even(9.0), 1).is_lower
    assert unconfirmed(even(1.0), even(9.0), 1).difference.stderr is None
    nothing = unconfirmed(even(0.0, 0.0), even(0.0, 0.0), 1)
    assert (nothing.is_lower, nothing.quotient) == (False, 1.0)


def test_differences_are_of_the_windows_that_both_have() -> None:
    gap = unconfirmed(even(1.0, 2.0), even(3.0, 3.0, 90.0), 1)
    assert gap.n_windows == 2
    assert gap.difference.value == -1.5
    assert gap.quotient == 0.5


class Course:
    """A mixer and an engine whose scores are known: KLD of each window of a text by mix."""

    def __init__(self, kld: dict[str, Sequence[float]]) -> None:
        self.kld, self.mix, self.asked = kld, "", list[tuple[str, tuple[int, ...]]]()
        self.windows = np.empty((0, 1), np.int32)
        self.engine = SimpleNamespace(score=self.score, set_windows=self.set_windows)

    def set_windows(self, windows: np.ndarray) -> None:
        assert not self.mix, "scores are against the base, so no mix is in place"
        self.windows = windows

    def put(self, types: dict[str, str], *_: Any) -> None:
        self.mix = types.get("t", "")

    def score(self, windows: Sequence[int] | None = None) -> Scores:
        places = [int(w) for w in (self.windows if windows is None else self.windows[list(windows)])[:, 0]]
        self.asked.append((self.mix, tuple(places)))
        return even(*(self.kld[self.mix][w] for w in places))


def held(kld: dict[str, Sequence[float]], n: int | None = 1) -> tuple[list[Runner], Course]:
    """Runners after a race on the first half of their windows and the confirmation on the second."""
    course = Course(kld)
    choosing, confirming = halves(np.arange(len(next(iter(kld.values()))), dtype=np.int32)[:, None])
    runners = [Runner(name=f"stock {m}" if m == "S" else m, types={"t": m}, must_finish=m == "S") for m in kld]
    runners[0].kind = "stock"
    course.set_windows(choosing)
    race(course, runners, rounds_of(len(choosing)), lambda: None)
    confirm(course, confirming, [runners[0], *finalists(runners[0], runners[1:], n)], lambda: None)
    return runners, course


BOTH = np.concatenate([LEVEL, LEVEL])
NOISE = np.concatenate([WAVE, WAVE[::-1]])


def test_only_who_leads_and_stock_are_scored_on_the_second_half_and_on_nothing_else_there() -> None:
    runners, course = held({"S": BOTH, "a": BOTH * (0.8 + NOISE), "b": BOTH * (0.6 + NOISE), "c": BOTH * (1.2 + NOISE)})
    later = [(mix, windows) for mix, windows in course.asked if max(windows) >= 12]
    assert later == [("S", tuple(range(12, 24))), ("b", tuple(range(12, 24)))]
    chosen, gap = choose(runners, 3, lambda types: "")
    assert chosen.name == "b"
    assert gap.confirmation
    assert gap.confirmation.n_windows == 12


def test_a_mix_that_only_fits_the_first_half_does_not_ship() -> None:
    fitted = np.concatenate([LEVEL * (0.5 + WAVE), LEVEL * (1.0 + WAVE)])
    runners, _ = held({"S": BOTH, "a": fitted})
    chosen, gap = choose(runners, 1, lambda types: "")
    assert chosen is runners[0]
    assert gap.confirmation
    assert not gap.is_lower
    told = reason(chosen, runners[0], gap, fits=True)
    assert told.startswith(
        "The stock mix was not surely beaten: on 12 windows of the selection text that nothing was chosen"
    )
    assert "ties go to the stock mix" in told


def test_who_is_behind_stock_in_the_race_is_not_scored_again() -> None:
    runners, course = held({"S": BOTH, "a": BOTH * (1.1 + NOISE)})
    assert max(w for _, windows in course.asked for w in windows) < 12
    assert [r.confirming for r in runners] == [None, None]
    chosen, gap = choose(runners, 1, lambda types: "")
    assert chosen is runners[0]
    assert gap.confirmation is None


def test_all_that_lead_are_scored_again_where_the_best_may_prove_too_slow() -> None:
    kld = {"S": BOTH, "a": BOTH * (0.51 - NOISE), "b": BOTH * (0.5 + NOISE), "c": BOTH * (1.3 + NOISE)}
    runners, _ = held(kld, n=None)
    assert [r.name for r in runners if r.confirming] == ["stock S", "a", "b"]
    chosen, gap = choose(runners, 3, lambda types: "too slow" if types["t"] == "b" else "")
    assert chosen.name == "a"
    assert gap.confirmation
    assert [r.dropped for r in runners][1:3] == ["", "too slow"]


def test_short_texts_are_raced_on_whole_and_what_ships_is_told_to_be_unconfirmed() -> None:
    kld = {"S": LEVEL, "a": LEVEL * (0.5 + WAVE)}
    runners, course = held(kld)
    assert {windows[-1] for _, windows in course.asked} == {1, 3, 11}
    chosen, gap = choose(runners, 1, lambda types: "")
    assert chosen.name == "a"
    told = reason(chosen, runners[0], gap, fits=True)
    assert told.startswith("On the 12 windows of the selection text that candidates raced on (not confirmed on others)")
    assert "95 %" not in told


def test_a_reason_names_windows_share_interval_and_size() -> None:
    runners, _ = held({"S": BOTH, "a": BOTH * (0.6 + NOISE)})
    chosen, gap = choose(runners, 1, lambda types: "")
    assert gap.confirmation
    low, high = (
        f"{100 * (1 - end):.0f} % below" for end in (gap.confirmation.interval.high, gap.confirmation.interval.low)
    )
    told = reason(chosen, runners[0], gap, fits=True)
    assert told.startswith(
        "On 12 windows of the selection text that nothing was chosen by, its KLD is 40 % below (95 %:"
    )
    assert f"(95 %: {low} to {high}) that of the stock S mix of that size: -0." in told
    assert "next to that size, which is larger than the budget" in reason(chosen, runners[0], gap, fits=False)


def test_an_interval_on_both_sides_is_told_with_both() -> None:
    gap = confirmed(even(*(LEVEL * (0.99 + 3 * WAVE))), even(*LEVEL))
    assert gap.confirmation
    low, high = gap.confirmation.interval.low, gap.confirmation.interval.high
    assert low < 1 < high
    assert gap.share.endswith(f"(95 %: {100 * (high - 1):.0f} % above to {100 * (1 - low):.0f} % below)")


# the order in which runners are asked for


def field(*klds: float) -> list[Runner]:
    """The stock mix and others, by KLD, on four windows."""
    found = [Runner(name=f"mix {i}", types={"w": f"type {i}"}) for i in range(len(klds))]
    for runner, kld in zip(found, klds, strict=True):
        runner.scores = even(kld, kld * 1.01, kld * 0.99, kld)
    return found


def test_the_best_ships_unless_something_stands_against_it() -> None:
    runners = field(1.0, 0.5, 0.7, 0.6)
    winner, gap = choose(runners, 3, lambda types: "")
    assert winner.name == "mix 1"
    assert gap.difference.value == pytest.approx(-0.5)
    winner, gap = choose(runners, 3, lambda types: "too slow" if types["w"] in ("type 1", "type 3") else "")
    assert winner.name == "mix 2"
    assert gap.difference.value == pytest.approx(-0.3)
    assert [r.dropped for r in runners] == ["", "too slow", "", "too slow"]


def test_one_that_fell_behind_ships_where_all_before_it_are_too_slow() -> None:
    runners = field(1.0, 0.5, 0.7)
    runners[2].dropped = "behind mix 1 after 2 windows"
    assert choose(runners, 2, lambda types: "too slow" if types["w"] != "type 2" else "")[0] is runners[2]


def test_a_stock_mix_that_ties_ships_unless_it_may_not() -> None:
    runners = field(1.0, 1.0, 1.2)
    assert choose(runners, 2, lambda types: "")[0] is runners[0]
    assert choose(runners, 2, lambda types: "too slow" if types["w"] == "type 0" else "")[0] is runners[1]
    assert runners[0].obstacle == "too slow"


def test_where_stock_may_not_ship_the_best_is_scored_again_though_it_is_worse() -> None:
    runners = field(0.5, 0.9, 0.7)
    runners[0].obstacle = "larger than the budget"
    assert [r.name for r in finalists(runners[0], runners[1:])] == ["mix 2"]
    runners[0].obstacle = ""
    assert finalists(runners[0], runners[1:]) == []


def test_an_interval_that_ends_at_one_is_no_gain() -> None:
    gap = confirmed(even(*LEVEL), even(*LEVEL))
    assert gap.confirmation
    assert gap.confirmation.interval == Interval(low=1.0, high=1.0)
    assert not gap.is_lower
