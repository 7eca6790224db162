"""Entering, judged by the venues' own ledgers: one long, one short of equal exposure, or nothing at all."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from evenkeel.legs import CARRY, IntentKind, LegSide, PositionStatus
from evenkeel.types import IntentState
from tests.carry.rig import OPEN_SUBMIT, ORDER, Rig, story_rig
from tests.interruptions import hooked

SOL_ON_KAMINO = {"asset": "SOL", "protocol": 1}
LEVERAGE = "exchange:updateLeverage"


def assert_nothing_held(rig: Rig) -> None:
    """Whatever was tried is gone from both venues, and no row of ours claims a leg."""
    assert rig.flat
    assert not [leg for leg in rig.desk.store.carry.open_legs()]
    assert not rig.desk.store.unfinished_intents(CARRY)


@pytest.mark.parametrize(("asset", "protocol"), [("SOL", 1), ("jitoSOL", 0), ("INF", 2)])
async def test_opens_both_legs_with_equal_sol_exposure(tmp_path: Path, asset: str, protocol: int) -> None:
    """The short follows what the long really got; a token of staked SOL counts at its redemption rate."""
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(asset=asset, protocol=protocol)

        rig.assert_hedged()
        [held] = rig.holdings()
        assert (held["symbol"], held["protocol"]) == (asset, protocol)
        bought = Decimal(held["position_accounting"][0]["token_bought"])
        rate = Decimal(str(rig.world.redemption_rate(asset)))
        assert abs(bought * rate - rig.short_qty()) <= Decimal("0.005")
        planned = rig.desk.store.carry.position(position_id).target_short_qty
        assert planned is not None and rig.short_qty() != planned.quantize(Decimal("0.01"))
        assert len(rig.sells()) == 1 and rig.opened_longs() == 1
        assert rig.account()["positions"][0]["leverage"] == 3


async def test_a_partial_fill_is_topped_up_by_a_second_intent(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        rig.fault("hyperliquid", "partial_fill", ORDER, fraction="0.6")
        await rig.entered(**SOL_ON_KAMINO)

        rig.assert_hedged()
        first, second = rig.sells()
        assert first["sz"] > second["sz"] > 0
        assert first["sz"] + second["sz"] == rig.short_qty()
        assert rig.intents(LegSide.SHORT, IntentKind.OPEN, IntentState.CONFIRMED) == 2


@pytest.mark.parametrize(
    ("venue", "call"),
    [("hyperliquid", ORDER), ("asgard", OPEN_SUBMIT), ("solana", "rpc:sendTransaction")],
)
@pytest.mark.parametrize("kind", ["drop_answer", "garbage", "drop_request"])
async def test_a_broken_call_that_moves_money_never_doubles(
    tmp_path: Path, venue: str, call: str, kind: str
) -> None:
    """Answer lost, answer unreadable, request lost: exactly one of each leg."""
    async with story_rig(tmp_path) as rig:
        if venue == "solana":
            rig.fault("asgard", "http_500", OPEN_SUBMIT)  # so that the transaction goes by our own node
        struck = rig.fault(venue, kind, call)
        await rig.entered(**SOL_ON_KAMINO)

        assert struck.hits == 1
        rig.assert_hedged()
        assert rig.opened_longs() == 1 and len(rig.sells()) == 1
        assert len(rig.desk.store.fills_of(CARRY, rig.desk.store.carry.positions()[0].position_id)) >= 2
        assert not rig.desk.store.unfinished_intents(CARRY)


async def test_servers_in_trouble_everywhere_once(tmp_path: Path) -> None:
    """An error page after the order was executed, a limit at the next call, a failure at the third."""
    async with story_rig(tmp_path) as rig:
        faults = [
            rig.fault("hyperliquid", "http_500_after", ORDER),
            rig.fault("hyperliquid", "http_429", "info:orderStatus"),
            rig.fault("asgard", "http_500_after", OPEN_SUBMIT),
            rig.fault("asgard", "http_429", "POST /create-position"),
            rig.fault("solana", "http_500", "rpc:getSignatureStatuses"),
        ]
        await rig.entered(**SOL_ON_KAMINO)
        assert [one.hits for one in faults] == [1, 1, 1, 1, 1]
        rig.assert_hedged()
        assert rig.opened_longs() == 1 and len(rig.sells()) == 1


async def test_a_refused_long_leaves_nothing(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        rig.fault("asgard", "reject", "POST /create-position", times=-1, message="no such luck")
        result = await rig.enter(**SOL_ON_KAMINO)

        assert result.status == "FAILED" and "no such luck" in result.reasons[0]
        assert_nothing_held(rig)
        assert not rig.desk.store.carry.legs(str(result.position_id))
        assert rig.opened_longs() == 0 and not rig.account()["orders"]
        rig.heal()
        await rig.entered(**SOL_ON_KAMINO)
        rig.assert_hedged()


async def test_a_short_refused_fifteen_times_unwinds_the_long(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        rig.fault("hyperliquid", "reject", ORDER, times=-1, reason="Order rejected.")
        result = await rig.enter(**SOL_ON_KAMINO)

        assert result.status == "CLOSED", result
        assert "15 attempts" in result.reasons[0]
        assert len(rig.account()["orders"]) == 15 and not rig.account()["fills"]
        assert_nothing_held(rig)
        opened, closed = rig.executions()
        assert closed["time_ms"] - opened["time_ms"] <= 120_000


async def test_shorts_that_fail_slowly_unwind_in_time(tmp_path: Path) -> None:
    """Each order stays unknown until it is proved dead; all the same the long is flat before its limit."""
    async with story_rig(tmp_path) as rig:
        rig.fault("hyperliquid", "http_500", ORDER, times=-1)
        result = await rig.enter(**SOL_ON_KAMINO)

        assert result.status == "CLOSED", result
        assert_nothing_held(rig)
        opened, closed = rig.executions()
        assert closed["time_ms"] - opened["time_ms"] <= 120_000


async def test_a_short_that_was_filled_while_its_venue_went_dark(tmp_path: Path) -> None:
    """Nobody knows, so the long is closed in time; when the venue is back its short is found and closed."""
    async with story_rig(tmp_path) as rig:
        rig.fault("hyperliquid", "drop_answer", ORDER)
        dark = lambda: rig.control("hyperliquid", "halt", mode="502")
        with hooked(rig.desk.short, "send", after=dark):
            result = await rig.enter(**SOL_ON_KAMINO)

        assert result.status == "UNWINDING", result
        assert rig.short_qty() > 0 and not rig.holdings()
        opened, closed = rig.executions()
        assert closed["time_ms"] - opened["time_ms"] <= 120_000

        rig.control("hyperliquid", "resume")
        rig.assert_clean(await rig.recovered())
        assert_nothing_held(rig)
        assert len(rig.sells()) == 1
        assert rig.status(str(result.position_id)) is PositionStatus.CLOSED


async def test_a_fall_between_the_legs_is_the_stop(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        fall = lambda: rig.market(sol_price=197.9)
        with hooked(rig.desk.long, "send", after=fall):
            result = await rig.enter(**SOL_ON_KAMINO)

        assert result.status == "CLOSED" and "stop at" in result.reasons[0], result
        assert_nothing_held(rig)
        assert not rig.account()["orders"], "no short may be sold into the fall"


async def test_a_fall_during_the_retries_is_the_stop(tmp_path: Path) -> None:
    """The stop is watched before every try, not only before the first."""
    async with story_rig(tmp_path) as rig:
        rig.fault("hyperliquid", "no_liquidity", ORDER, times=-1)
        with hooked(rig.desk.short, "send", skip=3, after=lambda: rig.market(sol_price=197.0)):
            result = await rig.enter(**SOL_ON_KAMINO)

        assert result.status == "CLOSED" and "stop at" in result.reasons[0], result
        assert len(rig.account()["orders"]) == 4
        assert_nothing_held(rig)


async def test_a_small_fall_or_a_rise_is_no_stop(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        with hooked(rig.desk.long, "send", after=lambda: rig.market(sol_price=198.5)):
            await rig.entered(**SOL_ON_KAMINO)
        rig.assert_hedged()


async def test_a_missing_price_between_the_legs_counts_as_the_stop(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        blind = lambda: rig.fault("hyperliquid", "http_500", "info:metaAndAssetCtxs", times=-1)
        with hooked(rig.desk.long, "send", after=blind):
            result = await rig.enter(**SOL_ON_KAMINO)

        assert result.status == "CLOSED", result
        assert "no SOL price" in result.reasons[0]
        assert not rig.account()["orders"]
        assert_nothing_held(rig)


async def test_a_missing_redemption_rate_between_the_legs_unwinds(tmp_path: Path) -> None:
    """Without the rate nobody knows how much SOL the long is worth, so nothing can hedge it."""
    async with story_rig(tmp_path) as rig:
        blind = lambda: rig.fault(
            "solana", "http_500", "rpc:getMultipleAccounts|rpc:getAccountInfo", times=-1
        )
        seeing = lambda: rig.heal()
        with (
            hooked(rig.desk.long, "send", after=blind),
            hooked(rig.desk.store.carry, "move_position", before=seeing),
        ):
            result = await rig.enter(asset="jitoSOL", protocol=1)

        assert result.status == "CLOSED", result
        assert_nothing_held(rig)
        assert not rig.account()["orders"]


async def test_leverage_that_cannot_be_set_stops_before_anything_is_naked(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        rig.fault("hyperliquid", "http_500", LEVERAGE, times=-1)
        result = await rig.enter(**SOL_ON_KAMINO)

        assert result.status == "FAILED" and "leverage" in result.reasons[0], result
        assert rig.opened_longs() == 0 and not rig.account()["orders"]
        assert_nothing_held(rig)


async def test_leverage_whose_answer_is_lost_is_set_again(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        struck = rig.fault("hyperliquid", "drop_answer", LEVERAGE, times=2)
        await rig.entered(**SOL_ON_KAMINO)
        assert struck.hits == 2
        rig.assert_hedged()


@pytest.mark.parametrize(("times", "status"), [(8, "OPEN"), (-1, "OPENING")])
async def test_an_error_after_both_legs_costs_nothing(tmp_path: Path, times: int, status: str) -> None:
    """Prices that cannot be read while validating: both legs stay, at worst recovery finishes it."""
    async with story_rig(tmp_path) as rig:
        blind = lambda: rig.fault("asgard", "http_500", "GET /token-metadata", times=times)
        with hooked(rig.desk.short, "send", after=blind):
            result = await rig.enter(**SOL_ON_KAMINO)
        assert result.status == status, result
        rig.heal()
        rig.assert_clean(await rig.recovered())
        rig.assert_hedged()
        position = rig.desk.store.carry.position(str(result.position_id))
        assert position.status is PositionStatus.OPEN
        assert position.facts["entry_distance"]["long"] and position.facts["entry_distance"]["short"]
        assert rig.opened_longs() == 1 and len(rig.sells()) == 1


# --- refusals: a reason, and nothing else ---


def _foreign_short(rig: Rig) -> None:
    engine = rig.twins.hyperliquid.engine

    def sell() -> None:
        account = engine.accounts[rig.address]
        parts = engine.books.take("SOL", False, Decimal(150), Decimal(3), engine.now_ms)
        engine.fill(account, "SOL", False, parts, oid=1, crossed=True)

    rig.on_twins(sell)


REFUSALS: dict[str, tuple[dict[str, Any], Any, str]] = {
    "negative funding": ({}, lambda rig: rig.market(premium=-0.002), "funding"),
    "borrow capacity": (
        {},
        lambda rig: rig.control("asgard", "set_capacity", protocol=1, symbol="USDC", amount="100"),
        "capacity",
    ),
    "inactive market": (
        {},
        lambda rig: rig.control("asgard", "set_active", protocol=1, symbol="SOL", on=False),
        "",
    ),
    "fee market": (
        {},
        lambda rig: rig.control("solana", "congestion", micro_lamports=50_000_000_000),
        "fee",
    ),
    "price deviation": ({}, lambda rig: rig.market(premium=0.02), "price consensus"),
    "foreign SOL position": ({}, _foreign_short, "not ours"),
    "too little on Solana": ({}, lambda rig: rig.set_usdc("solana", 300), "USD"),
    "too little on Hyperliquid": ({}, lambda rig: rig.set_usdc("hyperliquid", 300), "USD"),
    "paused entries": (
        {},
        lambda rig: rig.desk.store.pause("entries", "the operator is at lunch"),
        "at lunch",
    ),
    "Asgard unreachable": (
        {},
        lambda rig: rig.fault("asgard", "http_500", "POST /create-position-simulate", times=-1),
        "simulation",
    ),
    "agent not approved any more": (
        {},
        lambda rig: rig.on_twins(lambda: rig.twins.hyperliquid.engine.accounts[rig.address].agents.clear()),
        "simulation",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
async def test_a_refusal_sends_and_stores_nothing(tmp_path: Path, case: str) -> None:
    strategy, spoil, word = REFUSALS[case]
    async with story_rig(tmp_path, strategy=strategy) as rig:
        spoil(rig)
        before = rig.fingerprint()
        result = await rig.enter(**SOL_ON_KAMINO)

        assert result.status == "refused", result
        assert result.reasons and all(result.reasons)
        assert word in "; ".join(result.reasons), result.reasons
        assert rig.fingerprint() == before
        assert not rig.desk.store.carry.positions() and not rig.desk.store.intent_counts()


async def test_wild_funding_is_refused(tmp_path: Path) -> None:
    async with story_rig(tmp_path, strategy={"max_volatility_annual": "0.000001"}) as rig:
        series: Any = rig.world.series
        calm = series.funding_history
        series.funding_history = lambda start, end: [
            (t, rate * (1 + i % 3), premium) for i, (t, rate, premium) in enumerate(calm(start, end))
        ]
        before = rig.fingerprint()
        result = await rig.enter(**SOL_ON_KAMINO)
        assert result.status == "refused" and "volatility" in "; ".join(result.reasons), result
        assert rig.fingerprint() == before and not rig.desk.store.carry.positions()


async def test_one_position_at_a_time(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        await rig.entered(**SOL_ON_KAMINO)
        before = rig.fingerprint()
        result = await rig.enter(**SOL_ON_KAMINO)
        assert result.status == "refused", result
        assert rig.fingerprint() == before and len(rig.desk.store.carry.positions()) == 1
