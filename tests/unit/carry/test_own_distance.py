"""Our own liquidation distances against the venues' published arithmetic, and the rules that hold both side by side."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from evenkeel.legs import LegSide
from strategy.carry.decisions import Exit
from strategy.carry.limits import CarryLimits
from strategy.carry.liquidation import implied_threshold, lender_price, own_long_distance
from strategy.carry.readings import LegReading, WatchReadings
from strategy.carry.rules.distance_gap import distance_gap_rule
from strategy.carry.rules.liquidation import liquidation_rule
from strategy.carry.rules.lst_peg import lst_peg_rule
from strategy.carry.rules.price_deviation import price_deviation_rule
from strategy.decisions import Alert, Hold
from tasks.carry.watching.leg_readings import StandingStill
from venues.hyperliquid.margin import implied_equity, liquidation_distance, own_distance

D = Decimal
LIMITS = CarryLimits()
NOW = 1_757_203_200_000


def leg(stated: str | None, own: str | None, **changes: Any) -> LegReading:
    values: dict[str, Any] = {
        "qty": D(100),
        "liquidation_distance": None if stated is None else D(stated),
        "own_distance": None if own is None else D(own),
        "entry_liquidation_distance": D("0.167"),
        "observed_ms": NOW,
    }
    return LegReading(**(values | changes))


def readings(**changes: Any) -> WatchReadings:
    values: dict[str, Any] = {
        "now_ms": NOW, "asset": "jitoSOL", "position_usd": D(15_000), "debt_usd": D(10_000),
        "long": leg("0.16", "0.16"), "short": leg("0.3", "0.3"),
        "funding_now_hourly": D(0), "funding_expected_hourly": D(0),
        "lend_apr": D(0), "borrow_apr": D(0),
        "long_venue_price_usd": D(150), "short_venue_price_usd": D(150), "oracle_price_usd": D(150),
        "lst_price_usd": D(180), "redemption_rate": D("1.2"),
    }  # fmt: skip
    return WatchReadings(**(values | changes))


def test_the_long_is_liquidated_where_our_sums_say() -> None:
    """3x: 10,000 USD owed on 100 SOL of 150 USD; a lender that liquidates at 80 %."""
    distance = own_long_distance(D(100), D(10_000), D(150), D("0.8"))
    assert distance is not None
    fallen = D(150) * (1 - distance)
    assert abs(D(10_000) / (100 * fallen) - D("0.8")) < D("1e-20")
    assert implied_threshold(D(10_000), D(15_000), distance) == pytest.approx(D("0.8"))
    assert lender_price(D(100), D(10_000), distance, D("0.8")) == pytest.approx(D(150))
    assert own_long_distance(D(100), D(0), D(150), D("0.8")) is None, "without debt nothing is liquidated"
    assert implied_threshold(D(10), D(15_000), D("0.1")) is None, "no lender's threshold is 0.1 %"


@pytest.mark.parametrize(
    ("leverage", "rise"), [("1", "0.951"), ("2", "0.463"), ("3", "0.301"), ("5", "0.171"), ("20", "0.024")]
)
def test_the_short_is_liquidated_where_the_venue_says(leverage: str, rise: str) -> None:
    """(m − l) / (1 + l) of one cross short, m being equity over notional."""
    notional = D(15_000)
    found = own_distance(
        is_short=True,
        equity_usd=notional / D(leverage),
        others_usd=D(0),
        notional_usd=notional,
        max_leverage=20,
    )
    assert found == pytest.approx(D(rise), abs=D("0.0006"))
    px = D(150) * (1 + found)
    assert liquidation_distance(is_short=True, mark_px=D(150), liquidation_px=px) == pytest.approx(found)
    equity = implied_equity(
        is_short=True, mark_px=D(150), liquidation_px=px, qty=D(100), rate=D("0.025"), required_usd=D(375)
    )
    assert equity == pytest.approx(notional / D(leverage)), "one is the other, the other way round"


def test_the_tier_above_seventy_million_takes_more() -> None:
    common: dict[str, Any] = {"is_short": True, "others_usd": D(0), "max_leverage": 20}
    below = own_distance(equity_usd=D(23_000_000), notional_usd=D(70_000_000), **common)
    above = own_distance(equity_usd=D(23_000_001), notional_usd=D(70_000_003), **common)
    assert 0 < below - above < D("0.01")


@pytest.mark.parametrize(
    ("one", "kind", "said"),
    [
        (leg("0.16", "0.145"), Hold, "16.00 %"),
        (leg("0.16", "0.139"), Alert, "the smaller counts"),
        (leg("0.16", "0.15", stands_still=True), Alert, "does not move"),
        (leg("0.16", None), Hold, "not checked"),
        (leg(None, "0.16"), Alert, "ours alone counts"),
        (leg(None, None), Alert, "is not known"),
    ],
)
def test_a_gap_between_both_distances_alerts(one: LegReading, kind: type, said: str) -> None:
    answer = distance_gap_rule(LegSide.LONG)(readings(long=one), LIMITS).answer
    assert isinstance(answer, kind) and said in answer.reason


@pytest.mark.parametrize(("stated", "own"), [("0.16", "0.03"), ("0.03", "0.16"), (None, "0.03")])
def test_the_smaller_distance_is_the_one_that_counts(stated: str | None, own: str) -> None:
    near = readings(long=leg(stated, own), breaches={"liquidation:long": NOW - 20_000})
    assert isinstance(liquidation_rule(LegSide.LONG)(near, LIMITS).answer, Exit)


@pytest.mark.parametrize(
    ("prices", "leaves"),
    [
        ({"long_venue_price_usd": D(145)}, False),
        ({"long_venue_price_usd": D(145), "long_price_proved": True}, True),
        ({"short_venue_price_usd": D(155)}, True),
        ({"long_venue_price_usd": D(145), "short_venue_price_usd": D(155)}, True),
        ({"long_venue_price_usd": D(145), "oracle_price_usd": None}, True),
    ],
)
def test_one_price_that_stands_alone_closes_nothing(prices: dict[str, Any], leaves: bool) -> None:
    seen = readings(breaches={"price_deviation": NOW - 30_000}, **prices)
    answer = price_deviation_rule(seen, LIMITS).answer
    assert isinstance(answer, Exit) is leaves
    assert isinstance(answer, Exit | Alert)


@pytest.mark.parametrize(
    ("prices", "leaves"),
    [
        ({"lst_price_usd": D(175)}, True),
        ({"lst_price_usd": D(175), "lst_price_stands_still": True}, False),
        ({"long_venue_price_usd": D(155)}, False),
        ({"lst_price_usd": D(186), "long_venue_price_usd": D(155), "oracle_price_usd": D(155)}, False),
    ],
)
def test_a_token_leaves_its_peg_only_by_two_prices_of_sol(prices: dict[str, Any], leaves: bool) -> None:
    assert isinstance(lst_peg_rule(readings(**prices), LIMITS).answer, Exit) is leaves


def test_a_figure_that_does_not_move_with_the_price_is_old() -> None:
    still = StandingStill()
    assert not still.note("x", D("0.16"), D(150))
    assert not still.note("x", D("0.16"), D("150.7")), "less than half a per cent"
    assert still.note("x", D("0.16"), D("148"))
    assert not still.note("x", D("0.1601"), D("148")), "it moves again"
    assert not still.note("x", None, D("140")) and not still.note("x", D("0.1601"), None)
