"""A weak long is mended from the wallet, and both legs grow back: once, level after every crash, and to the cent."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from evenkeel.errors import Retryable
from evenkeel.legs import IntentKind, LegSide, PositionStatus
from tasks.carry.books.report import life_events, life_snapshots, paid_in
from tasks.carry.books.report_reading import read_booked
from tasks.carry.entering.growing import LEFT_ALONE
from tasks.carry.mark import GROWING
from tests.carry.rig import ORDER, Rig, story_rig
from tests.integration.carry.test_rebalance import UPDATE_SUBMIT, assert_accounted, rebalanced, updates
from tests.interruptions import die, hooked, killed

KEPT = "1000000000"


async def shrunk(rig: Rig, asset: str = "SOL") -> str:
    """A position that has become smaller in a fall, after which the price came back: its money carries more than it holds.

    The wallet is kept out of it while the price falls, and is free afterwards.
    """
    position_id = await rig.entered(asset=asset, protocol=1)
    kept = rig.desk.settings.strategy.wallet_kept_usd
    assert kept == 0
    keep_wallet(rig, KEPT)
    rig.market(sol_price=170.0)
    result = await rebalanced(rig, position_id)
    assert result.action == "resized" and updates(rig) == ["deleverage"], result
    keep_wallet(rig, "0")
    rig.market(sol_price=200.0)
    return position_id


async def about_to_grow(rig: Rig) -> str:
    """The same after the money that the long needs for it was paid in."""
    position_id = await shrunk(rig)
    assert (await rebalanced(rig, position_id)).action == "resized"
    assert updates(rig) == ["deleverage", "repay_debt"]
    return position_id


def keep_wallet(rig: Rig, usd: str) -> None:
    """The operator changes a setting; every desk of this rig is restarted with it."""
    for desk in rig.desks:
        strategy = desk.settings.strategy.model_copy(update={"wallet_kept_usd": Decimal(usd)})
        desk.settings = desk.settings.model_copy(update={"strategy": strategy})


async def settled(rig: Rig, position_id: str) -> None:
    """Looked at until nothing is left to be done."""
    for _ in range(6):
        if (await rebalanced(rig, position_id)).action == "held":
            return
    raise AssertionError("it never came to rest")


@pytest.mark.parametrize("asset", ["SOL", "jitoSOL"])
async def test_a_weak_long_is_mended_from_the_wallet_before_anything_is_sold(
    tmp_path: Path, asset: str
) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(asset=asset, protocol=1)
        before, held = rig.short_qty(), rig.long_sol()
        rig.market(sol_price=176.0)
        result = await rebalanced(rig, position_id)

        assert result.action == "resized" and "wallet" in result.reason, result
        assert updates(rig) == ["repay_debt"]
        assert rig.short_qty() == before and abs(rig.long_sol() - held) < Decimal("0.0001"), "interest alone"
        await settled(rig, position_id)  # a price so much lower leaves room up to what was entered
        assert updates(rig)[-1] == "increase_leverage" and "deleverage" not in updates(rig)
        rig.assert_hedged("0.01")
        await assert_accounted(rig, position_id)


async def test_what_the_wallet_cannot_mend_is_made_smaller(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(asset="SOL", protocol=1)
        free = (await rig.desk.long.wallet_balances()).usdc
        keep_wallet(rig, str(free - 300))
        rig.market(sol_price=172.0)
        await settled(rig, position_id)
        assert updates(rig) == ["repay_debt", "deleverage"]
        rig.assert_hedged("0.01")
        await assert_accounted(rig, position_id)


@pytest.mark.parametrize("asset", ["SOL", "jitoSOL"])
async def test_both_legs_grow_back_to_what_was_entered(tmp_path: Path, asset: str) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await shrunk(rig, asset)
        small = rig.short_qty()
        await settled(rig, position_id)

        assert "increase_leverage" in updates(rig)
        rig.assert_hedged("0.01")
        position = rig.desk.store.carry.position(position_id)
        assert position.size_usd is not None
        grown_usd = rig.short_qty() * 200
        assert rig.short_qty() > small
        assert position.size_usd * Decimal("0.9") < grown_usd < position.size_usd * Decimal("1.01")
        assert not position.facts.get(GROWING)
        assert rig.intents(LegSide.LONG, IntentKind.OPEN) == 1
        await assert_accounted(rig, position_id)


async def test_nothing_grows_while_entries_are_paused(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await shrunk(rig)
        rig.desk.store.pause("entries", "test")
        small, before = rig.short_qty(), updates(rig)
        result = await rebalanced(rig, position_id)
        assert result.action == "held", result
        assert rig.short_qty() == small and updates(rig) == before


async def test_a_short_that_cannot_follow_gives_the_long_back(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await shrunk(rig)
        small = rig.short_qty()
        for _ in range(20):  # as often as an entry tries, and more
            rig.fault("hyperliquid", "reject", ORDER)
        result = await rebalanced(rig, position_id)
        for _ in range(3):
            if result.action != "resized" or "increase_leverage" in updates(rig):
                break
            result = await rebalanced(rig, position_id)
        assert "increase_leverage" in updates(rig) and updates(rig)[-1] == "partial_close", (
            result,
            updates(rig),
        )
        assert rig.short_qty() == small
        rig.assert_hedged("0.35")  # whole percents of the long
        assert not rig.desk.store.carry.position(position_id).facts.get(GROWING)


CALLS: list[tuple[str, str, str]] = [
    ("asgard", "drop_answer", UPDATE_SUBMIT),
    ("asgard", "drop_request", UPDATE_SUBMIT),
    ("hyperliquid", "drop_answer", ORDER),
    ("hyperliquid", "partial_fill", ORDER),
]


@pytest.mark.parametrize(("venue", "kind", "call"), CALLS)
async def test_a_broken_growth_happens_once(tmp_path: Path, venue: str, kind: str, call: str) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await shrunk(rig)
        rig.fault(venue, kind, call)
        await settled(rig, position_id)
        rig.assert_hedged("0.05")
        assert updates(rig).count("increase_leverage") == 1
        await assert_accounted(rig, position_id)


@pytest.mark.parametrize("leg", [LegSide.LONG, LegSide.SHORT])
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_dying_in_the_middle_of_a_growth(tmp_path: Path, leg: LegSide, moment: str) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await about_to_grow(rig)
        venue = rig.desk.long if leg is LegSide.LONG else rig.desk.short
        with hooked(venue, "send", **{moment: die}):  # type: ignore[arg-type]
            assert await killed(rebalanced(rig, position_id))
        assert rig.desk.store.carry.position(position_id).facts[GROWING]
        found = await rig.recovered()
        rig.assert_clean(found)
        assert rig.status(position_id) is PositionStatus.OPEN
        rig.assert_hedged("0.05")
        await settled(rig, position_id)
        rig.assert_hedged("0.05")
        assert not rig.desk.store.carry.position(position_id).facts.get(GROWING)
        await assert_accounted(rig, position_id)


async def test_a_fall_while_the_short_has_yet_to_follow_takes_the_long_back(tmp_path: Path) -> None:
    """The process dies when its long has grown; the next one finds the price below the stop of a naked long."""
    async with story_rig(tmp_path) as rig:
        position_id = await about_to_grow(rig)
        small = rig.short_qty()
        with hooked(rig.desk.long, "send", after=die):
            assert await killed(rebalanced(rig, position_id))
        rig.market(sol_price=197.0)
        rig.assert_clean(await rig.recovered())
        assert updates(rig)[-2:] == ["increase_leverage", "partial_close"]
        assert rig.short_qty() == small
        rig.assert_hedged("0.35")
        assert rig.status(position_id) is PositionStatus.OPEN


async def test_a_growth_whose_short_is_unknown_is_taken_back_in_time(tmp_path: Path) -> None:
    """The short's answer is lost and its venue stays dark: the added long is not left naked for as long as that lasts."""
    async with story_rig(tmp_path) as rig:
        position_id = await about_to_grow(rig)
        small = rig.short_qty()
        with hooked(rig.desk.short, "send", before=die):
            assert await killed(rebalanced(rig, position_id))
        rig.fault("hyperliquid", "http_500", ".*", times=-1)
        unanswered = rig.fault("asgard", "http_500", "POST /position/partial-close", times=2)
        rig.later(100)
        while unanswered.hits < 2:
            await rig.recovered()
        facts = rig.desk.store.carry.position(position_id).facts
        assert facts[GROWING] and not facts[LEFT_ALONE]["growth"]["times"], "nothing was taken back yet"
        await rig.recovered()
        assert updates(rig)[-2:] == ["increase_leverage", "partial_close"]
        rig.heal()
        rig.assert_clean(await rig.recovered())
        assert rig.short_qty() == small
        rig.assert_hedged("0.35")


async def test_a_short_that_could_not_follow_is_found_before_the_long_grows(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await about_to_grow(rig)
        agent = {"master": rig.address, "agent": rig.desk.short.signer_address, "name": "bot"}
        rig.control("hyperliquid", "approve_agent", valid_until_ms=rig.desk.clock.now_ms() - 1, **agent)
        result = await rebalanced(rig, position_id)
        assert result.action == "held" and "the short cannot grow" in result.reason, result
        assert "increase_leverage" not in updates(rig)


async def test_nothing_grows_while_the_short_pays(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await about_to_grow(rig)
        rig.market(premium=-0.002)
        result = await rebalanced(rig, position_id)
        assert result.action == "held" and "increase_leverage" not in updates(rig), result


@pytest.mark.parametrize(
    "market", [{"premium": -0.002}, {"lst_peg": {"jitoSOL": 0.97}}], ids=["the short pays", "off its peg"]
)
async def test_nothing_is_paid_in_for_a_growth_that_cannot_be_had(
    tmp_path: Path, market: dict[str, Any]
) -> None:
    """What lies in the wallet stays there until both legs can grow: a payment alone earns nothing."""
    async with story_rig(tmp_path) as rig:
        position_id = await shrunk(rig, "jitoSOL")
        before = updates(rig)
        rig.market(**market)
        for _ in range(3):
            await rebalanced(rig, position_id)
        assert "repay_debt" not in updates(rig)[len(before) :], updates(rig)


async def test_a_payment_that_fails_does_not_hold_up_the_shrinking(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(asset="SOL", protocol=1)
        rig.fault("asgard", "http_500", "POST /position/repay-debt", times=-1)
        rig.market(sol_price=176.0)
        for _ in range(2):
            with suppress(Retryable):
                await rebalanced(rig, position_id)
        assert updates(rig) == ["deleverage"]
        rig.assert_hedged("0.01")


async def test_each_growth_that_was_taken_back_makes_the_next_wait_longer(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await about_to_grow(rig)
        waits = []
        for tries in (1, 2, 3):
            rig.fault("hyperliquid", "reject", ORDER, times=-1)
            while updates(rig).count("increase_leverage") < tries:  # a payment may come first
                assert (await rebalanced(rig, position_id)).action != "held"
            rig.heal()
            left = rig.desk.store.carry.position(position_id).facts[LEFT_ALONE]["growth"]
            waits.append(left["until_ms"] - rig.desk.clock.now_ms())
            await settled(rig, position_id)  # the rest of the whole percents is levelled
            rig.later(waits[-1] / 1000 + 1)
        assert waits[1] > 1.9 * waits[0] and waits[2] > 1.9 * waits[1], waits


async def test_what_was_paid_in_is_not_shown_as_earned(tmp_path: Path) -> None:
    """The picture of a position's life: equity does not jump by the USDC that paid back debt."""
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(asset="SOL", protocol=1)
        rig.market(sol_price=176.0)
        await settled(rig, position_id)
        booked = read_booked(rig.desk, rig.desk.store.carry.position(position_id))
        paid = sum((usd for _, usd in paid_in(booked)), Decimal(0))
        assert paid > 1000
        first, last = (
            life_snapshots(booked.snapshots, paid_in(booked))[place].equity_usd for place in (0, -1)
        )
        assert first is not None and last is not None and abs(last - first) < 50
        assert {one.label for one in life_events(booked)} >= {"enter", "paid in", "grown"}
