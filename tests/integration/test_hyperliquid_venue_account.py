"""The account on the twin: agent and mode, leverage, legs and margin, funding and fills, market reads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
from eth_account import Account

from evenkeel.errors import OperatorError, Retryable
from evenkeel.legs import LegSide
from evenkeel.types import Confirmed
from tests.integration.hyperliquid_rig import AGENT_KEY, MASTER_KEY, Rig, hyperliquid_rig
from twins.world import HOUR_MS

AGENT = str(Account.from_key(AGENT_KEY).address).lower()
DAY_MS = 24 * HOUR_MS


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with hyperliquid_rig() as found:
        yield found


def approve(rig: Rig, valid_until_ms: int | None = None, name: str | None = "desk") -> None:
    """The master approves the agent; its expiry can be read back only under a name."""
    rig.twin.control(
        "approve_agent",
        {"master": rig.address, "agent": AGENT, "name": name, "valid_until_ms": valid_until_ms},
    )


async def test_an_agent_trades_for_the_account(rig: Rig) -> None:
    approve(rig)
    desk = rig.venue_for(AGENT_KEY)
    await desk.check_agent()
    intent = rig.intent()
    signed = await desk.sign(intent, await desk.build(intent))
    assert signed.key["signer"] == AGENT and signed.key["account"] == rig.address
    assert isinstance(await desk.send(intent, signed), Confirmed)
    assert isinstance(await desk.find(intent, signed), Confirmed)
    assert (await desk.legs())[0].qty == 10


async def test_an_expired_or_unknown_agent_needs_the_operator(rig: Rig) -> None:
    with pytest.raises(OperatorError, match=r"neither the account .* nor a living named agent"):
        await rig.venue_for(AGENT_KEY).check_agent()
    approve(rig, name=None)
    with pytest.raises(OperatorError, match="under a name"):
        await rig.venue_for(AGENT_KEY).check_agent()
    approve(rig, rig.world.now_ms() + DAY_MS)
    await rig.venue_for(AGENT_KEY).check_agent()
    rig.later(86_401)
    with pytest.raises(OperatorError, match="agent"):
        await rig.venue_for(AGENT_KEY).check_agent()
    await rig.venue_for(MASTER_KEY).check_agent()


@pytest.mark.parametrize(
    ("mode", "fine"),
    [("default", True), ("disabled", True), ("unifiedAccount", True), ("portfolioMargin", False)],
)
async def test_only_an_account_whose_equity_can_be_read_whole_is_traded(
    rig: Rig, mode: str, fine: bool
) -> None:
    rig.twin.control("set_abstraction", {"address": rig.address, "mode": mode})
    if fine:
        assert await rig.venue.account_mode() == mode
    else:
        with pytest.raises(OperatorError, match=r"userSetAbstraction\('disabled'\)"):
            await rig.venue.account_mode()


@pytest.mark.parametrize("kind", ["", "drop_answer", "http_500", "http_500_after", "garbage"])
async def test_leverage_is_set_even_when_an_answer_is_lost(rig: Rig, kind: str) -> None:
    if kind:
        rig.fault(kind, "exchange:updateLeverage")
    await rig.venue.set_leverage("SOL", 3)
    setting = rig.twin.engine.accounts[rig.address].leverage_of("SOL")
    assert (setting.is_cross, setting.value) == (True, 3)
    assert rig.calls("exchange:updateLeverage") == (2 if kind else 1)


async def test_a_leverage_that_is_not_allowed_is_for_the_operator(rig: Rig) -> None:
    for leverage in (0, 21):
        with pytest.raises(OperatorError, match="whole number from 1 to 20"):
            await rig.venue.set_leverage("SOL", leverage)
    rig.fault("http_500", "exchange:updateLeverage", times=-1)
    with pytest.raises(Retryable, match="did not confirm leverage"):
        await rig.venue.set_leverage("SOL", 3)


async def test_a_leg_shows_its_margin_and_its_distance_to_liquidation() -> None:
    async with hyperliquid_rig(usdc="1000") as rig:
        await rig.venue.set_leverage("SOL", 3)
        await rig.done(rig.intent(size="14"))
        (leg,) = await rig.venue.legs()
        assert (leg.side, leg.ref, leg.qty, leg.exposure_sol) == (LegSide.SHORT, "SOL", 14, -14)
        assert leg.notional_usd == leg.qty * leg.price_usd
        summary = await rig.venue.account()
        assert leg.equity_usd == summary.account_value_usd
        assert abs(leg.leverage - leg.notional_usd / summary.account_value_usd) < Decimal("0.0001")
        assert leg.liquidation_distance is not None
        rate = Decimal("0.025")
        expected = (summary.account_value_usd / summary.total_notional_usd - rate) / (1 + rate)
        assert abs(leg.liquidation_distance - expected) < Decimal("0.0001")
        assert summary.free_margin_usd < summary.account_value_usd
        assert summary.total_notional_usd == leg.notional_usd
        rig.world.overrides.sol_price = 220.0
        (after,) = await rig.venue.legs()
        assert after.liquidation_distance is not None
        assert after.liquidation_distance < leg.liquidation_distance - Decimal("0.09")


async def test_an_empty_account_has_no_legs(rig: Rig) -> None:
    assert await rig.venue.legs() == []
    summary = await rig.venue.account()
    assert summary.account_value_usd == summary.free_margin_usd == 100_000


async def test_a_short_receives_positive_funding_every_hour(rig: Rig) -> None:
    began = rig.world.now_ms()
    await rig.done(rig.intent())
    rig.later(5 * 3600 + 60)  # a settlement is stamped some ms after its hour
    payments = await rig.venue.funding_payments(began)
    assert len(payments) == 5
    for payment in payments:
        assert payment.coin == "SOL" and payment.position_size == -10 and payment.account == rig.address
        assert payment.funding_rate_hourly > 0 and payment.usdc > 0
        income = -payment.position_size * 200 * payment.funding_rate_hourly
        assert abs(payment.usdc - income) < Decimal("0.000002")
    hours = [payment.hour_ms for payment in payments]
    assert hours == [began // HOUR_MS * HOUR_MS + (n + 1) * HOUR_MS for n in range(5)]


async def test_a_short_pays_negative_funding() -> None:
    async with hyperliquid_rig(hourly_premium=-0.002) as rig:
        began = rig.world.now_ms()
        await rig.done(rig.intent())
        rig.later(3660)  # a settlement is stamped some ms after its hour
        (payment,) = await rig.venue.funding_payments(began)
        assert payment.funding_rate_hourly < 0 and payment.usdc < 0
        assert (await rig.venue.market.context("SOL")).funding_hourly < 0


async def test_fills_and_ledger_are_read_back(rig: Rig) -> None:
    began = rig.world.now_ms()
    opened = await rig.done(rig.intent())
    rig.later(60)
    closed = await rig.done(rig.intent(is_buy=True, reduce_only=True))
    assert await rig.venue.fills(began) == opened.fills + closed.fills
    assert all(fill.closed_pnl_usd == 0 for fill in opened.fills)
    assert sum(fill.closed_pnl_usd or 0 for fill in closed.fills) < 0
    (deposit,) = await rig.venue.non_funding_ledger(0)
    assert (deposit.kind, deposit.usdc) == ("deposit", 100_000)


async def test_the_market_is_read_with_its_book_and_funding(rig: Rig) -> None:
    market = rig.venue.market
    sol = await market.asset("SOL")
    assert (sol.index, sol.sz_decimals, sol.max_leverage) == (5, 2, 20)
    assert "MATIC" not in await market.coins()
    context = await market.context("SOL")
    assert context.oracle_px == 200 and context.funding_hourly == Decimal("0.0000125")
    assert context.premium is not None
    book = await market.book("SOL")
    assert book.best_bid_px < book.mid_px < book.best_ask_px
    history = await market.funding_history("SOL", hours=168)
    assert len(history) in (167, 168)
    assert all(row.hour_ms % HOUR_MS == 0 and row.rate_hourly == Decimal("0.0000125") for row in history)


async def test_a_month_of_funding_is_paged(rig: Rig) -> None:
    history = await rig.venue.market.funding_history("SOL", hours=1100)
    assert len(history) in (1099, 1100)
    assert len({row.hour_ms for row in history}) == len(history)
    assert rig.calls("info:fundingHistory") >= 3


async def test_candles_say_what_the_perpetual_was_at_a_past_moment(rig: Rig) -> None:
    """Whatever the price is now; as fine as the venue still lists them."""
    market, start = rig.venue.market, rig.world.now_ms() // HOUR_MS * HOUR_MS
    mid = (await market.book("SOL")).mid_px
    rig.world.clock.advance_to(start + 600_000)
    rig.world.overrides.sol_price = 100.0
    rig.world.clock.advance_to(start + 1_200_000)
    found = await market.candles("SOL", start, start + 540_000)
    assert [one.open_ms for one in found] == [start + minute * 60_000 for minute in range(10)]
    assert all(one.px_at(one.open_ms + 20_000) == mid for one in found)
    rig.world.clock.advance_to(start + 1_230_000)
    [latest] = await market.candles("SOL", start + 1_200_000, start + 1_260_000)
    assert latest.open_ms == start + 1_200_000 and latest.close_ms <= rig.world.now_ms()
    rig.world.clock.advance_to(start + 10 * DAY_MS)
    coarse = await market.candles("SOL", start, start + HOUR_MS - 1)
    assert [one.open_ms - start for one in coarse] == [quarter * 900_000 for quarter in range(4)]
    assert coarse[0].px_at(start) == mid and coarse[2].px_at(start + 1_900_000) < mid / 2 + 1
    assert await rig.venue.client.candles("SOL", "1m", start, start + 60_000) == [], "the 5,000 newest alone"
