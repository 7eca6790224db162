"""What a position saw of the prices, moment by moment, and what its legs left open between its orders."""

from __future__ import annotations

from decimal import Decimal

import pytest

from evenkeel.settings.settings import Settings
from evenkeel.units import HOUR_MS
from tasks.research.backtest import limits_at
from tasks.research.hedging import below_a_lot, between_legs
from tasks.research.moments import Moment, by_hour, in_one_go, moments_of, yields_seen
from tasks.research.readings import as_shown, knowledge
from tests.research.events import long_event, short_fill, tick
from tests.research.markets import FIRST_MS, calm


def test_what_lots_leave_open_is_named_from_one_change_of_both_legs_to_the_next() -> None:
    """100.004 SOL against 100, then 80.003 against 80 once both were made smaller; a top-up of the short alone says nothing of
    what the long had become by then.
    """
    longs = [long_event(0, "0", "100.004", "200"), long_event(9_000_000, "100.5", "80.003", "180")]
    longs.append(long_event(29_000_000, "80.6", "0", "150"))
    shorts = [short_fill(1_000, "sell", "100", "201"), short_fill(9_001_000, "buy", "20", "179")]
    closing = short_fill(28_999_000, "buy", "80", "151")
    left = Decimal("0.004") * (180 - 201) + Decimal("0.003") * (151 - 179)
    assert below_a_lot(longs, [*shorts, closing]) == left
    topped_up = short_fill(19_000_000, "sell", "0.5", "160")
    closing = short_fill(28_999_000, "buy", "80.5", "151")
    left = Decimal("0.004") * (180 - 201) + Decimal("0.003") * (160 - 179)
    assert below_a_lot(longs, [*shorts, topped_up, closing]) == left
    assert below_a_lot([], []) == 0


def test_a_leg_that_stands_alone_is_not_below_a_lot() -> None:
    longs = [long_event(0, "0", "100", "200"), long_event(9_000_000, "100", "0", "150")]
    assert below_a_lot(longs, []) == 0


def test_what_the_price_did_between_the_legs_is_named() -> None:
    """100 SOL bought at 200 and sold in two parts at 201 and 202; at the end the short is bought back at 150 and the long sold
    at 149. Drift in between is not of it.
    """
    longs = [long_event(0, "0", "100", "200"), long_event(9_000, "100.1", "0", "149")]
    shorts = [short_fill(1_000, "sell", "60", "201"), short_fill(2_000, "sell", "40", "202")]
    shorts.append(short_fill(8_000, "buy", "100", "150"))
    assert between_legs(longs, shorts) == 100 * 1 + 40 * 1 + 100 * (149 - 150)
    assert between_legs([], []) == 0


def test_drift_of_months_is_not_between_the_legs() -> None:
    """The long earns staking, the short is levelled upwards each week: by the changes alone the long would look too small."""
    week = 7 * 86_400_000
    longs = [long_event(0, "0", "100", "200")]
    shorts = [short_fill(1_000, "sell", "100", "200")]
    shorts += [short_fill(at * week, "sell", "0.2", str(200 - at)) for at in range(1, 20)]
    assert between_legs(longs, shorts) == 0


def test_orders_are_one_moment_at_the_long_s_price_and_the_short_s_second_and_premium() -> None:
    longs = [long_event(58_000, "0", "4", "198"), long_event(HOUR_MS + 9_000, "4", "0", "190")]
    shorts = [
        short_fill(60_000, "sell", "1", "202", index="200"),
        short_fill(61_000, "sell", "3", "200", index="200"),
        short_fill(HOUR_MS, "buy", "4", "199", index="200"),
    ]
    entry, exit_ = moments_of(in_one_go(longs, shorts), [])
    assert (entry.at_ms, entry.oracle_usd, entry.mark_usd) == (60_000, 198, pytest.approx(198 * 1.0025))
    assert (exit_.at_ms, exit_.oracle_usd, exit_.mark_usd) == (HOUR_MS, 190, pytest.approx(190 * 0.995))


def test_ticks_are_moments_between_the_orders_and_orders_without_an_index_keep_the_premium() -> None:
    shorts = [
        short_fill(60_000, "sell", "1", "200"),
        short_fill(5 * HOUR_MS, "buy", "1", "199").model_copy(update={"index_price_usd": None}),
    ]
    ticks = [
        tick(30_000, "999", "999"),
        tick(HOUR_MS, "210", "220.5"),
        tick(2 * HOUR_MS, None, "220"),
        tick(6 * HOUR_MS, "999", "999"),
    ]
    found = moments_of(in_one_go([], shorts), ticks)
    assert found == [
        Moment(60_000, 200, 200),
        Moment(HOUR_MS, 210, 220.5),
        Moment(5 * HOUR_MS, 199, pytest.approx(199 * 1.05)),
    ]
    assert moments_of([], ticks) == []


def test_what_a_lender_seized_is_a_moment_of_its_own_at_which_no_rule_is_asked() -> None:
    """It lies a second before orders of ours, which answer it."""
    seized = long_event(2 * HOUR_MS, "5", "4", "170").model_copy(update={"kind": "liquidated"})
    longs = [long_event(0, "0", "5", "200"), seized, long_event(2 * HOUR_MS + 1_000, "4", "3", "168")]
    shorts = [short_fill(1_000, "sell", "5", "200"), short_fill(2 * HOUR_MS + 2_000, "buy", "2", "167")]
    found = [(one.at_ms, one.oracle_usd, one.is_asked) for one in moments_of(in_one_go(longs, shorts), [])]
    assert found == [
        (1_000, 200, True),
        (2 * HOUR_MS, 170, False),
        (2 * HOUR_MS + 2_000, 168, True),
    ]


def test_orders_that_a_tick_has_just_decided_ask_no_rule_again() -> None:
    """Orders that no tick explains were decided by themselves: the entry, a close by hand, those of thinned ticks."""
    longs = [long_event(at * HOUR_MS, str(at), str(at + 1), "200") for at in range(4)]
    ticks = [tick(HOUR_MS - 5_000, "200", "200"), tick(2 * HOUR_MS - 70_000, "200", "200")]
    found = moments_of(in_one_go(longs, []), ticks)
    assert [(one.at_ms, one.is_asked) for one in found] == [
        (0, True),
        (HOUR_MS, True),
        (HOUR_MS, False),
        (2 * HOUR_MS - 70_000, True),
        (2 * HOUR_MS, True),
        (3 * HOUR_MS, True),
    ]


def test_a_tick_says_what_funding_the_running_hour_showed_once_it_is_ten_minutes_old() -> None:
    longs = [long_event(0, "0", "1", "200"), long_event(9 * HOUR_MS, "1", "0", "200")]
    ticks = [tick(HOUR_MS + at, "200", "200", "-0.0004") for at in (599_000, 600_000)]
    found = moments_of(in_one_go(longs, []), ticks)
    assert [one.funding_hourly for one in found] == [None, None, -0.0004, None]


def test_yields_are_those_that_the_ticks_kept() -> None:
    kept = {FIRST_MS + 2 * HOUR_MS + 5: "0.06", FIRST_MS + 4 * HOUR_MS: "0.07"}
    ticks = [tick(FIRST_MS, "200", "200")]
    ticks += [tick(at_ms, "200", "200", staking_apr=apr) for at_ms, apr in kept.items()]
    market = calm(6, staking_apr=0.09)
    assert yields_seen(market, ticks, 0.05).tolist() == [0.06, 0.06, 0.06, 0.07, 0.07, 0.07]
    assert yields_seen(market, ticks[:1], 0.05).tolist() == [0.05] * 6


def test_a_lender_shows_the_rates_of_the_hour_that_runs() -> None:
    market = calm(4, borrow_apr=[0.01, 0.02, 0.03, 0.04], lend_apr=[0.1, 0.2, 0.3, 0.4])
    known = knowledge(market, limits_at(Settings(), 3))
    shown = as_shown(known)
    assert [one.borrow_apr for one in shown] == [0.02, 0.03, 0.04, 0.04]
    assert [one.lend_apr for one in shown] == [0.2, 0.3, 0.4, 0.4]
    assert [one.funding_hourly for one in shown] == [one.funding_hourly for one in known]


def test_an_hour_whose_decision_was_done_in_the_next_one_has_no_moment() -> None:
    moments = [Moment(HOUR_MS + 3, 200, 200), Moment(HOUR_MS + 4, 201, 201), Moment(3 * HOUR_MS, 202, 202)]
    found = by_hour(moments, HOUR_MS - 5)
    assert found == {0: (), HOUR_MS: tuple(moments[:2]), 3 * HOUR_MS: (moments[2],)}
    assert by_hour(moments, HOUR_MS + 1) == {HOUR_MS: tuple(moments[:2]), 3 * HOUR_MS: (moments[2],)}
