"""A stop never loosens and trails natively; a share is owed of profit alone, once, rounded in the payer's favour."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as some

from strategy.accounts.share import CENT, ChargeState, FeeModel, charge_for, net_profit
from strategy.accounts.stops import StopRules, TradeSeen, gain_at, price_at, wanted_stop, way_out_stop

RULES = StopRules()
TENTH = Decimal("0.1")


def trade(best: str, stop: str | None = None, *, is_long: bool = True, costs: str = "0") -> TradeSeen:
    """100 USDC at 5x, opened at 100."""
    return TradeSeen(
        is_long=is_long,
        open_price=Decimal(100),
        leverage=Decimal(5),
        collateral_usdc=Decimal(100),
        paid_usdc=Decimal(100),
        costs_usdc=Decimal(costs),
        best_price=Decimal(best),
        stop=None if stop is None else Decimal(stop),
    )


@pytest.mark.parametrize(
    ("seen", "stop"),
    [
        (trade("100"), "98"),  # ten per cent of the collateral, at 5x two of the price
        (trade("100", is_long=False), "102"),
        (trade("100.5"), "98"),  # 2.5 % up: trails from 3 %
        (trade("100.6"), "100.4"),  # 3 % up, 1 % given back
        (trade("102"), "101.8"),
        (trade("98", is_long=False), "98.2"),
        (trade("100", costs="1"), "98.2"),  # a dollar of costs is lost already
        (trade("102", "101.8"), None),  # it stands there
        (trade("101", "101.8"), None),  # the best is past: it never loosens
        (trade("102.05", "101.8"), None),  # not for less than a thousandth
        (trade("102.5", "101.8"), "102.3"),
    ],
)
def test_where_a_stop_stands(seen: TradeSeen, stop: str | None) -> None:
    assert wanted_stop(seen, RULES) == (None if stop is None else Decimal(stop))


def test_the_venue_takes_no_stop_that_could_lose_more_than_its_bound() -> None:
    wide = StopRules(most_loss=Decimal("0.99"))
    assert wanted_stop(trade("100"), wide) == Decimal(83)


def test_a_trade_that_cannot_be_closed_by_an_order_gets_a_stop_at_the_market() -> None:
    assert way_out_stop(trade("100", "90"), Decimal(97)) == 97
    assert way_out_stop(trade("100", "98"), Decimal(97)) == 98
    assert way_out_stop(trade("100", "110", is_long=False), Decimal(103)) == 103


prices = some.decimals("1", "100000", places=4)
trades = some.builds(
    TradeSeen,
    is_long=some.booleans(),
    open_price=prices,
    leverage=some.decimals("1", "100", places=2),
    collateral_usdc=some.decimals("5", "10000", places=6),
    paid_usdc=some.decimals("5", "10000", places=6),
    costs_usdc=some.decimals("-5", "5", places=6),
    best_price=prices,
    stop=some.none() | prices,
)


@given(trades)
def test_a_stop_that_is_moved_protects_more_than_the_one_before(seen: TradeSeen) -> None:
    wanted = wanted_stop(seen, RULES)
    if wanted is not None and seen.stop is not None:
        assert wanted > seen.stop if seen.is_long else wanted < seen.stop


@given(trades, some.decimals("-0.9", "2", places=4))
def test_price_and_gain_are_each_others_inverse(seen: TradeSeen, gain: Decimal) -> None:
    assert abs(gain_at(seen, price_at(seen, gain)) - gain) < Decimal("1e-15")


def test_a_share_is_owed_of_profit_alone() -> None:
    found = charge_for(Decimal("12.3456789"), TENTH, FeeModel.PER_TRADE)
    assert found is not None and (found.usdc, found.state) == (Decimal("1.234567"), ChargeState.DUE)
    assert charge_for(Decimal(0), TENTH, FeeModel.PER_TRADE) is None
    assert charge_for(Decimal("-5"), TENTH, FeeModel.PER_TRADE) is None
    small = charge_for(Decimal("0.0999"), TENTH, FeeModel.PER_TRADE)
    assert small is not None and small.state is ChargeState.WAIVED


def test_above_the_best_alone() -> None:
    lost = charge_for(
        Decimal(-5), TENTH, FeeModel.HIGH_WATER, result_usdc=Decimal(20), high_water_usdc=Decimal(20)
    )
    assert lost is None
    back = charge_for(
        Decimal(5), TENTH, FeeModel.HIGH_WATER, result_usdc=Decimal(15), high_water_usdc=Decimal(20)
    )
    assert back is None
    more = charge_for(
        Decimal(8), TENTH, FeeModel.HIGH_WATER, result_usdc=Decimal(15), high_water_usdc=Decimal(20)
    )
    assert more is not None and (more.base_usdc, more.usdc, more.high_water_usdc) == (3, Decimal("0.3"), 23)


@given(some.lists(some.decimals("-100", "100", places=6), max_size=30), some.sampled_from(list(FeeModel)))
def test_nobody_pays_more_than_the_share_of_what_was_gained(profits: list[Decimal], model: FeeModel) -> None:
    result, best, owed = Decimal(0), Decimal(0), Decimal(0)
    for profit in profits:
        found = charge_for(profit, TENTH, model, result_usdc=result, high_water_usdc=best)
        result += profit
        best = max(best, result)
        if found is not None:
            owed += found.usdc
            assert found.base_usdc > 0 and found.usdc <= found.base_usdc * TENTH
            assert (found.state is ChargeState.DUE) == (found.usdc >= CENT)
    gained = sum((one for one in profits if one > 0), Decimal(0)) if model is FeeModel.PER_TRADE else best
    assert owed <= gained * TENTH


def test_the_result_of_the_recorded_close() -> None:
    """1,000 were given, 998.692628 came back, and the oracle fee was refunded: −1.307372 (data/ostium/settlement_logs.json)."""
    assert net_profit(Decimal("998.692628"), Decimal(1000), Decimal(1)) == Decimal("-1.307372")
    assert net_profit(Decimal(30), Decimal(100), Decimal("0.25"), Decimal("0.1")) == Decimal("4.9")
