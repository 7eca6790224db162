"""A position beside a back-test: every source of money once, trades by the hour, and what cannot be compared in one line."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from analytics.carry.attribution import ITEMS, Attribution
from analytics.carry.life import LifeEvent
from analytics.carry.report import Report
from analytics.research.account import ITEMS as SOURCES
from analytics.research.results import Run
from evenkeel.errors import OperatorError
from evenkeel.legs import PositionStatus
from evenkeel.settings.settings import Settings
from evenkeel.units import HOUR_MS
from state.carry.liquidation_models import Liquidation
from state.carry.models import Position
from strategy.carry.keeping_size import PAID_FIRST
from tasks.carry.books.report_reading import Booked
from tasks.research.assumptions import Assumptions
from tasks.research.backtest import limits_at, span_of
from tasks.research.moments import Moment, by_hour, in_one_go, moments_of
from tasks.research.parity import Parity, _notes, _of_series, _pairs, items_of, parity
from tasks.research.simulation import Simulation
from tests.research.events import long_event, short_fill, tick
from tests.research.markets import FIRST_MS, calm

ENTERED = FIRST_MS + 24 * HOUR_MS + 120_000
"""Two minutes into the first hour in which the rules have enough history of a calm market."""
CLOSED = FIRST_MS + 60 * HOUR_MS + 5_000


def closed(**changes: object) -> Position:
    fields: dict[str, object] = {
        "position_id": "sol-1",
        "asset": "SOL",
        "protocol": 1,
        "status": PositionStatus.CLOSED,
        "leverage": Decimal(3),
        "facts": {"before": {"wallet_usdc": "50000", "hyperliquid_usd": "30000"}},
        "created_ms": ENTERED,
        "updated_ms": CLOSED,
        "opened_ms": ENTERED + 15_000,
        "closed_ms": CLOSED,
    }
    return Position.model_validate(fields | changes)


def booked(position: Position) -> Booked:
    """A ledger that holds the position alone."""
    return Booked(position, CLOSED, [], {}, [], frozenset(), [], [], [], [], [])


def account(events: list[tuple[int, str]], **items: str) -> Report:
    zero = Decimal(0)
    made = {name: Decimal(items.get(name, "0")) for name in ITEMS}
    attribution = Attribution(
        items=made,
        venue_change_usd=sum(made.values(), zero),
        residual_hyperliquid_usd=zero,
        residual_solana_usd=zero,
        residual_gas_usd=zero,
        capital_usd=Decimal(80_000),
        holding_hours=Decimal(36),
        is_open=False,
    )
    return Report(
        position_id="sol-1",
        title="sol-1",
        status=PositionStatus.CLOSED,
        opened_ms=ENTERED,
        ended_ms=CLOSED,
        attribution=attribution,
        events=[LifeEvent(at_ms=at_ms, kind=kind, label=kind) for at_ms, kind in events],
    )


def compared(report: Report, position: Position | None = None) -> Parity:
    return parity(booked(position or closed()), report, calm(200), Settings(), FIRST_MS)


def test_the_same_trades_in_the_same_hours() -> None:
    found = compared(account([(ENTERED, "enter"), (CLOSED, "exit")]))
    assert [(one.kind, one.position, one.backtest) for one in found.pairs] == [
        ("enter", 1, 1),
        ("exit", 1, 1),
    ]
    assert found.same_trades


def test_a_trade_of_one_alone_is_seen() -> None:
    found = compared(account([(ENTERED, "enter"), (ENTERED + HOUR_MS, "grown"), (CLOSED, "exit")]))
    [apart] = [one for one in found.pairs if not one.same]
    assert (apart.kind, apart.position, apart.backtest) == ("grown", 1, 0)
    assert not found.same_trades


def test_an_exit_by_a_rule_that_the_backtest_does_not_make_is_seen() -> None:
    """A close by hand ends the back-test too; a rule's close is one that the back-test has to make by itself."""
    report = account([(ENTERED, "enter"), (CLOSED, "exit")])
    by_hand = compared(report, closed(close_reason="asked for by the operator"))
    by_rule = compared(report, closed(close_reason="carry: it pays to leave"))
    assert by_hand.same_trades and not by_rule.same_trades
    [apart] = [one for one in by_rule.pairs if not one.same]
    assert (apart.kind, apart.position, apart.backtest) == ("exit", 1, 0)
    assert "made to end" in by_hand.notes[0] and "made to end" in by_rule.notes[0]


def test_a_liquidation_of_the_position_alone_is_seen() -> None:
    taken = Liquidation.model_construct(at_ms=ENTERED + HOUR_MS)
    ledger = replace(booked(closed()), liquidations=[taken])
    pairs = _pairs(ledger, account([]), Run(first_ms=FIRST_MS, capital_usd=1.0), [], left_by_rule=False)
    assert [(one.kind, one.position, one.backtest) for one in pairs] == [("liquidated", 1, 0)]


def test_hours_that_the_series_lack_are_said() -> None:
    funding, prices = np.full(200, 0.0000125), np.full(200, 200.0)
    funding[30:33], prices[40:42] = np.nan, np.nan
    market = calm(200, funding=funding, open=prices, high=prices, low=prices, close=prices)
    notes = parity(booked(closed()), account([]), market, Settings(), FIRST_MS).notes
    assert [one[:2] for one in notes[1:3]] == ["2 ", "3 "], notes


def test_the_backtest_has_the_positions_money_and_deploys_its_share() -> None:
    """A tenth of the poorer side, half of it a leg, at 3x: 4,500 USD earn 36 hours of funding at its floor."""
    found = {one.name: one for one in compared(account([])).items}
    assert float(found["funding"].backtest_usd) == pytest.approx(4_500 * 0.0000125 * 36, rel=0.01)
    assert float(found["fees"].backtest_usd) == pytest.approx(-4_500 * 24 / 10_000, rel=0.01)


def test_what_is_named_and_what_is_not_sum_to_the_whole_difference() -> None:
    report = account([], funding="20", basis="7", lst_basis="-2", fees_asgard="-80", price_long="5")
    found = compared(report)
    of_backtest = sum((one.backtest_usd for one in found.items), Decimal(0))
    assert found.difference_usd == report.attribution.net_usd - of_backtest
    named = sum((one.difference_usd for one in found.items if one.why), Decimal(0))
    assert found.unexplained_usd == found.difference_usd - named
    assert {one.name for one in found.items if one.why} == {
        "fees",
        "slippage",
        "gas",
        "premium",
        "peg",
        "redemption",
        "below a lot",
        "between the legs",
    }
    assert found.costs_usd == 80


def test_a_tick_whose_orders_were_done_in_the_next_hour_counts_at_their_second() -> None:
    """Two seconds before the hour a tick finds the long weak; the long lands a second before it, the short a second after. An
    earlier tick of the same hour stays where it was.
    """
    entry = short_fill(60_000, "sell", "5", "200")
    longs = [long_event(2 * HOUR_MS - 1_000, "5", "4", "180")]
    shorts = [
        entry,
        short_fill(2 * HOUR_MS + 1_000, "buy", "1", "179"),
        short_fill(9 * HOUR_MS, "buy", "4", "190"),
    ]
    ticks = [tick(2 * HOUR_MS - 900_000, "190", "190"), tick(2 * HOUR_MS - 2_000, "181", "181")]
    orders = in_one_go(longs, shorts)
    found = [(one.at_ms, one.oracle_usd) for one in moments_of(orders, ticks)]
    assert found == [
        (60_000, 200),
        (2 * HOUR_MS - 900_000, 190),
        (2 * HOUR_MS + 1_000, 181),
        (2 * HOUR_MS + 1_000, 180),
        (9 * HOUR_MS, 190),
    ]
    report = account([(60_500, "enter"), (2 * HOUR_MS + 4_000, "rebalance"), (9 * HOUR_MS + 900, "exit")])
    pairs = _pairs(booked(closed()), report, Run(first_ms=0, capital_usd=1.0), orders, left_by_rule=False)
    assert [(one.hour_ms // HOUR_MS, one.kind) for one in pairs] == [
        (0, "enter"),
        (2, "rebalance"),
        (9, "exit"),
    ]
    late = [(2 * HOUR_MS - 500, "rebalance")]
    pairs = _pairs(
        booked(closed()), account(late), Run(first_ms=0, capital_usd=1.0), orders, left_by_rule=False
    )
    assert [(one.hour_ms // HOUR_MS, one.kind) for one in pairs] == [(2, "rebalance")]


def test_a_liquidation_between_two_ticks_is_answered_at_the_second_one() -> None:
    """3,000 USD owed on 4,500 at 200: at 166 the lender takes a fifth, 612 USD of SOL. A minute later, at 164, the rules pay
    debt back and level the short; until then it stood alone by what was taken.
    """
    seized_ms = FIRST_MS + 40 * HOUR_MS + 600_000
    moments = [
        Moment(ENTERED, 200, 200),
        Moment(seized_ms, 166, 166, is_asked=False),
        Moment(seized_ms + 60_000, 164, 164),
        Moment(CLOSED, 170, 170),
    ]
    market, limits = calm(200), limits_at(Settings(), 3)
    first, last = span_of(market, FIRST_MS, CLOSED // HOUR_MS * HOUR_MS)
    assumed = Assumptions(
        capital_usd=80_000,
        margin_share=0.375,
        deploys_share=True,
        closes_at_end=True,
        asks_at_end=False,
        seen=by_hour(moments, ENTERED),
    )
    run = Simulation(market, limits, assumed, first, last).run()
    in_that_hour = [(one.kind, one.at_ms) for one in run.trades if seized_ms <= one.at_ms < CLOSED][:3]
    assert in_that_hour == [
        ("liquidation", seized_ms),
        ("reserve", seized_ms + 60_000),
        ("resize", seized_ms + 60_000),
    ]
    assert run.between_legs_usd == pytest.approx(-612 / 166 * (164 - 166), rel=0.01)
    assert abs(run.below_a_lot_usd) < 0.5


@pytest.mark.parametrize(("running", "kinds"), [(0.00002, ["grow", "grow"]), (-0.00002, [])])
def test_growth_pays_in_first_and_grows_at_the_next_tick_unless_the_running_hour_costs(
    running: float, kinds: list[str]
) -> None:
    """SOL falls by an eighth: debt is paid back, and what the position was entered with is held again two ticks later."""
    at_ms = FIRST_MS + 40 * HOUR_MS + 900_000
    ticks = [
        Moment(at_ms + place * 300_000, price, price, funding_hourly=running)
        for place, price in enumerate((175.0, 176.0, 172.0, 172.0))
    ]
    moments = [Moment(ENTERED, 200, 200), *ticks, Moment(CLOSED, 174, 174)]
    funding = np.full(200, 0.00005)
    market, limits = calm(200, funding=funding), limits_at(Settings(), 3)
    first, last = span_of(market, FIRST_MS, CLOSED // HOUR_MS * HOUR_MS)
    assumed = Assumptions(
        capital_usd=80_000,
        margin_share=0.375,
        deploys_share=True,
        closes_at_end=True,
        asks_at_end=False,
        seen=by_hour(moments, ENTERED),
    )
    run = Simulation(market, limits, assumed, first, last).run()
    hour = [(one.kind, one.at_ms) for one in run.trades if at_ms - 900_000 < one.at_ms <= ticks[-1].at_ms]
    paid_ms, grown_ms = ticks[0].at_ms, ticks[1].at_ms
    assert hour == [("reserve", paid_ms), *zip(kinds, (paid_ms, grown_ms), strict=False)]


def test_what_is_paid_in_first_is_a_part_of_the_growth() -> None:
    reasons = {ENTERED + HOUR_MS: f"growth: 5.00 USD {PAID_FIRST}", ENTERED + 2 * HOUR_MS: "reserve: weak"}
    facts = {"rebalances": [{"at_ms": at_ms, "reason": reason} for at_ms, reason in reasons.items()]}
    report = account([(at_ms, "paid in") for at_ms in reasons])
    ledger = booked(closed(facts=facts))
    pairs = _pairs(ledger, report, Run(first_ms=FIRST_MS, capital_usd=1.0), [], left_by_rule=False)
    assert [one.kind for one in pairs] == ["grown", "paid in"]


def test_the_backtest_trades_where_the_position_saw_prices() -> None:
    """4,500 USD at 210 sold 0.2 % over the oracle and bought back at 205 and 0.4 % over it: what the legs lose is the
    premium's, no other item's; the quantity is that of 210 USD, and the candles' result is said beside it.
    """
    entered, closed_ = Moment(ENTERED, 210, 210 * 1.002), Moment(CLOSED, 205, 205 * 1.004)
    market, limits = calm(200), limits_at(Settings(), 3)
    first, last = span_of(market, FIRST_MS, CLOSED // HOUR_MS * HOUR_MS)
    assumed = Assumptions(capital_usd=80_000, margin_share=0.375, deploys_share=True, closes_at_end=True)
    plain = Simulation(market, limits, assumed, first, last).run()
    seen = by_hour([entered, closed_], ENTERED)
    beside = Simulation(market, limits, replace(assumed, seen=seen), first, last).run()
    assert plain.premium_usd == pytest.approx(0, abs=1e-9)
    assert beside.premium_usd == pytest.approx(4_500 / 210 * (210 * 0.002 - 205 * 0.004), rel=0.01)
    assert beside.items["price"] == pytest.approx(beside.premium_usd, abs=0.1)
    assert beside.items["funding"] == pytest.approx(plain.items["funding"] * 200 / 210, rel=0.001)
    assert [(one.kind, one.at_ms) for one in beside.trades] == [("entry", ENTERED), ("exit", CLOSED)]
    notes = _notes(beside, plain, market, 2, left_by_rule=False)
    assert notes[0].startswith("the back-test goes along the 2 moments at which the position saw prices")
    assert notes[0].endswith("0.00 USD of it by the premium")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"closed_ms": None, "status": PositionStatus.OPEN}, "compared once it was open and is closed"),
        ({"protocol": 0}, "borrowed on protocol 0"),
        ({"facts": {}}, "does not say what lay on both sides"),
        ({"facts": {"before": {"wallet_usdc": "5"}}}, "does not say what lay on both sides"),
        ({"facts": {"before": {"wallet_usdc": "0", "hyperliquid_usd": "0"}}}, "needs some on both"),
        ({"opened_ms": None, "status": PositionStatus.FAILED}, "once it was open"),
        (
            {"closed_ms": FIRST_MS + 300 * HOUR_MS, "created_ms": FIRST_MS + 250 * HOUR_MS},
            "the series end at",
        ),
    ],
)
def test_what_cannot_be_compared_is_one_line(changes: dict[str, object], says: str) -> None:
    with pytest.raises(OperatorError, match=says) as why:
        parity(booked(closed(**changes)), account([]), calm(200), Settings())
    assert "\n" not in str(why.value)


def test_a_yield_that_the_series_lack_is_named_and_an_epoch_that_both_saw_is_not() -> None:
    """The series miss the first hours of an epoch, and a yield was assumed: read, the rate grew by 0.1 %, there by 0.08 %.
    Of 50 USD by staking 40 are compared, and 10 have their name.
    """
    rates = np.where(np.arange(200) < 40, 1.0, 1.0008)
    market = calm(200, asset="jitoSOL", redemption=rates)
    plain = (
        long_event(FIRST_MS + 30 * HOUR_MS, "0", "100", "200"),
        long_event(FIRST_MS + 60 * HOUR_MS, "100", "0", "200"),
    )
    bought, sold = (
        one.model_copy(update={"redemption_rate": Decimal(rate)})
        for one, rate in zip(plain, ("1.2", "1.2012"), strict=True)
    )
    share = _of_series(market, [sold, bought])
    assert float(share) == pytest.approx(0.8)
    attribution = account([], staking="50").attribution
    run = Run(first_ms=FIRST_MS, capital_usd=1.0)
    run.items.update(dict.fromkeys(SOURCES, 0.0) | {"staking": 40.0})
    found = {one.name: one for one in items_of(attribution, run, Decimal(0), Decimal(0), share)}
    assert float(found["staking"].difference_usd) == pytest.approx(0, abs=1e-6)
    assert float(found["redemption"].difference_usd) == pytest.approx(10) and found["redemption"].why
    assert sum(one.position_usd for one in found.values()) == 50
    # Bought and sold within one epoch nothing grew, and nothing is divided by it.
    assert (
        _of_series(market, [bought])
        == _of_series(market, [sold.model_copy(update={"redemption_rate": Decimal("1.2")}), bought])
        == 1
    )
