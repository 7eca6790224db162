"""Where prices run away within a minute: what refuses a growth, orders done later than their tick, a lender in between."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from analytics.research.results import Run
from evenkeel.settings.settings import Settings
from evenkeel.units import HOUR_MS
from tasks.research.assumptions import Assumptions
from tasks.research.backtest import limits_at, span_of
from tasks.research.moments import Moment, by_hour, in_one_go, moments_of
from tasks.research.simulation import Simulation
from tests.research.events import long_event, short_fill, tick
from tests.research.markets import FIRST_MS, calm

ENTERED = FIRST_MS + 24 * HOUR_MS + 120_000
CLOSED = FIRST_MS + 60 * HOUR_MS + 5_000
CRASH = FIRST_MS + 40 * HOUR_MS
YOUNG = 300_000
"""Into an hour: what has run of it is no mean yet."""


def walked(moments: Sequence[Moment], funding: float = 0.00005) -> Run:
    """The back-test of a position that saw these prices between an entry at 200 and a close by hand at 174."""
    market, limits = calm(200, funding=np.full(200, funding)), limits_at(Settings(), 3)
    first, last = span_of(market, FIRST_MS, CLOSED // HOUR_MS * HOUR_MS)
    seen = [Moment(ENTERED, 200, 200), *moments, Moment(CLOSED, 174, 174)]
    assumed = Assumptions(
        capital_usd=80_000,
        margin_share=0.375,
        deploys_share=True,
        closes_at_end=True,
        asks_at_end=False,
        seen=by_hour(seen, ENTERED),
    )
    return Simulation(market, limits, assumed, first, last).run()


def done_after(run: Run, since_ms: int) -> list[tuple[str, int]]:
    return [(one.kind, one.at_ms) for one in run.trades if since_ms <= one.at_ms < CLOSED]


@pytest.mark.parametrize(
    ("shown", "mark", "grows"),
    [(0.00002, 176.0, True), (-0.0012, 176.0, False), (None, 176.0, True), (0.00002, 174.5, False)],
)
def test_what_refuses_an_entry_refuses_a_growth_however_young_the_hour_is(
    shown: float | None, mark: float, grows: bool
) -> None:
    """The hour before paid, so that growth is asked for; its order is refused where the new hour costs by what has run of it,
    or the venues are 0.9 % apart, and nothing is asked again in that hour.
    """
    weak = Moment(CRASH - HOUR_MS + 900_000, 175.0, 175.0, funding_hourly=-0.00002, shown_hourly=-0.00002)
    young = Moment(CRASH + YOUNG, 176.0, mark, shown_hourly=shown)
    later = Moment(CRASH + 1_500_000, 172.0, 172.0, funding_hourly=0.00002, shown_hourly=0.00002)
    run = walked([weak, young, later])
    assert done_after(run, CRASH - HOUR_MS)[0] == ("reserve", weak.at_ms)
    found = done_after(run, CRASH)
    assert [one for one in found if one[1] <= later.at_ms] == (
        [("grow", young.at_ms), ("grow", later.at_ms)] if grows else []
    )


def test_venues_that_were_two_per_cent_apart_refuse_growth_for_half_an_hour() -> None:
    """For ten seconds only, so that nothing is closed for it."""
    paid = {"funding_hourly": 0.00002, "shown_hourly": 0.00002}
    costs = {"funding_hourly": -0.00002, "shown_hourly": -0.00002}
    weak = Moment(CRASH - HOUR_MS + 900_000, 175.0, 175.0, **costs)
    apart = Moment(CRASH - 600_000, 176.0, 171.0, **costs)
    level = Moment(CRASH - 590_000, 176.0, 176.0, **costs)
    again = Moment(CRASH + YOUNG, 176.0, 176.0, **paid)
    later = Moment(CRASH + HOUR_MS + YOUNG, 176.0, 176.0, **paid)
    assert done_after(walked([weak, apart, level, again, later]), CRASH)[0] == ("grow", later.at_ms)


def test_what_a_tick_decides_is_done_with_its_orders_though_a_lender_came_in_between() -> None:
    """At 170 the wallet is asked to pay back; before the order is done the lender takes a fifth, at 166. The amount is that of
    the tick, the moment that of the order, and the short that stands alone is levelled by the next tick's order.
    """
    at_ms = CRASH + 900_000
    moments = [
        Moment(at_ms, 170, 170, waits=True),
        Moment(at_ms + 18_000, 166, 166, is_asked=False),
        Moment(at_ms + 29_000, 165, 165, is_asked=False, carries_out=True),
        Moment(at_ms + 31_000, 165, 165, waits=True),
        Moment(at_ms + 38_000, 164, 163, is_asked=False, carries_out=True),
    ]
    run = walked(moments)
    assert done_after(run, at_ms)[:3] == [
        ("liquidation", at_ms + 18_000),
        ("reserve", at_ms + 29_000),
        ("resize", at_ms + 38_000),
    ]
    alone = walked([moments[0], Moment(at_ms + 29_000, 170, 170, is_asked=False, carries_out=True)])
    reasons = [next(one.reason for one in of.trades if one.kind == "reserve") for of in (run, alone)]
    assert reasons[0] == reasons[1]
    assert run.premium_usd > alone.premium_usd  # bought back under the oracle, at the order's prices


def test_a_close_by_hand_is_made_though_a_tick_lies_just_before_it() -> None:
    run = walked([Moment(CLOSED - 1_000, 174, 174, waits=True)])
    assert [(one.kind, one.at_ms) for one in run.trades][-1] == ("exit", CLOSED)


def test_changes_that_follow_at_once_are_kept_apart_by_when_they_were_over() -> None:
    """Debt is paid back nine seconds before the short is levelled: with a tick between them each has its own price."""
    at_ms = 2 * HOUR_MS
    longs = [long_event(0, "0", "5", "200"), long_event(at_ms + 6_000, "5", "5", "142")]
    shorts = [short_fill(1_000, "sell", "6", "200"), short_fill(at_ms + 15_000, "buy", "1", "140")]
    longs.append(long_event(9 * HOUR_MS, "5", "0", "190"))
    ticks = [tick(at_ms, "143", "143"), tick(at_ms + 11_000, "141", "141")]
    together = moments_of(in_one_go(longs, shorts), ticks)
    assert [one.at_ms for one in together] == [1_000, at_ms, at_ms + 15_000, 9 * HOUR_MS]
    found = moments_of(in_one_go(longs, shorts, [2_000, at_ms + 9_000, at_ms + 16_000]), ticks)
    each = [(one.at_ms, one.oracle_usd, one.waits, one.carries_out) for one in found]
    assert each == [
        (1_000, 200, False, False),
        (at_ms, 143, True, False),
        (at_ms + 6_000, 142, False, True),
        (at_ms + 11_000, 141, True, False),
        (at_ms + 15_000, 140, False, True),
        (9 * HOUR_MS, 190, False, False),
    ]


def test_orders_whose_own_tick_was_thinned_are_not_those_of_the_tick_before() -> None:
    at_ms = 2 * HOUR_MS
    longs = [long_event(0, "0", "5", "200"), long_event(at_ms + 6_000, "5", "5", "142")]
    shorts = [short_fill(1_000, "sell", "6", "200"), short_fill(at_ms + 15_000, "buy", "1", "140")]
    found = moments_of(in_one_go(longs, shorts, [2_000, at_ms + 9_000]), [tick(at_ms, "143", "143")])
    assert [(one.is_asked, one.carries_out) for one in found] == [
        (True, False),
        (True, False),
        (False, True),
        (True, False),
    ]
