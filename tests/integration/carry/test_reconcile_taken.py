"""Legs taken by their venue: recognised, the other leg follows, books equal both venues, and the account says what it cost."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from evenkeel.legs import LegSide, PositionStatus
from flows.carry.exit import ExitRequest, exit_position
from flows.carry.report import ReportRequest, account_for
from strategy.carry.reconcile import Handling
from tasks.carry.books.external_long import SECOND_READING_S
from tasks.carry.books.reconcile import reconcile_everything
from tasks.carry.books.recovery import compare_legs
from tests.carry.rig import NO_RESERVE, Rig, story_rig, watched
from tests.interruptions import hooked

SOL_ON_KAMINO = {"asset": "SOL", "protocol": 1}
CENT = Decimal("0.01")


def pda(rig: Rig) -> str:
    [held] = rig.holdings()
    return str(held["pda"])


async def assert_books_equal_venues(rig: Rig, position_id: str) -> dict[str, Decimal]:
    """Legs, fills, funding and money: nothing is left unexplained. The items of the account."""
    assert (await compare_legs(rig.desk)).unowned == ()
    short = rig.desk.store.carry.leg(position_id, LegSide.SHORT)
    assert short is not None and short.qty == rig.short_qty()
    long = rig.desk.store.carry.leg(position_id, LegSide.LONG)
    assert long is not None and abs(long.qty - sum(Decimal(one["tokens"]) for one in rig.holdings())) < 1
    report, _ = await account_for(rig.desk, ReportRequest(position_id=position_id))
    assert not report.differences and not report.attribution.checks, (
        report.differences,
        report.attribution.checks,
    )
    assert abs(report.attribution.residual_usd) <= CENT, report.attribution.as_strings()
    return report.attribution.items


@pytest.mark.parametrize("how", ["liquidate", "adl"])
async def test_a_short_that_is_taken_whole(tmp_path: Path, how: str) -> None:
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.control("hyperliquid", how, address=rig.address, coin="SOL")
        result = await watched(rig, position_id, 60)
        assert result.status == "CLOSED" and rig.flat, result
        await assert_books_equal_venues(rig, position_id)


@pytest.mark.parametrize("fraction", ["0.3", "0.9"])
async def test_a_short_deleveraged_in_part_is_sold_again(tmp_path: Path, fraction: str) -> None:
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.control("hyperliquid", "adl", address=rig.address, coin="SOL", fraction=fraction)
        result = await watched(rig, position_id, 60)
        assert result.status == "OPEN" and len(result.actions) == 1, result
        rig.assert_hedged()
        await assert_books_equal_venues(rig, position_id)
        assert "leg reduced" in {one.kind for one in rig.desk.store.alerts()}


async def test_a_long_liquidated_for_one_round_is_hedged_again(tmp_path: Path) -> None:
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        before = rig.long_sol()
        rig.control("asgard", "liquidate", pda=pda(rig))
        assert rig.long_sol() < before
        result = await watched(rig, position_id, 60)
        assert result.status == "OPEN" and len(result.actions) == 1, result
        rig.assert_hedged()
        items = await assert_books_equal_venues(rig, position_id)
        assert items["liquidation"] < 0, "the lender's penalty"
        assert len(rig.desk.store.carry.liquidations(position_id)) == 1


async def test_a_long_taken_whole_in_a_crash_is_followed_by_the_short(tmp_path: Path) -> None:
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.market(sol_price=80.0)
        rig.later(1)
        assert not rig.holdings(), "nothing is left to force"
        result = await watched(rig, position_id, 120)
        assert result.status == "CLOSED" and rig.flat, result
        items = await assert_books_equal_venues(rig, position_id)
        assert items["liquidation"] != 0


async def test_a_backstop_takes_the_margin_with_the_short(tmp_path: Path) -> None:
    """A price that leaps over the whole margin: the position and the account's value are gone, and the books say so."""
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        rig.set_usdc("hyperliquid", 3000)
        result = await rig.enter(**SOL_ON_KAMINO, size_usd="2200")
        assert result.status == "OPEN" and result.position_id, result
        rig.market(sol_price=470.0)
        rig.later(1)
        assert rig.short_qty() == 0
        await watched(rig, result.position_id, 120)
        assert rig.flat
        items = await assert_books_equal_venues(rig, result.position_id)
        [taken] = [row["delta"] for row in rig.account()["ledger"] if row["delta"]["type"] == "liquidation"]
        assert items["liquidation"] == -Decimal(taken["accountValue"]) != 0


@pytest.mark.parametrize("venue", ["hyperliquid", "asgard"])
async def test_taken_while_the_process_is_down(tmp_path: Path, venue: str) -> None:
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        if venue == "hyperliquid":
            rig.control("hyperliquid", "adl", address=rig.address, coin="SOL", fraction="0.4")
        else:
            rig.control("asgard", "liquidate", pda=pda(rig))
        rig.later(3 * 3600)
        rig.assert_clean(await rig.recovered())
        rig.assert_hedged()
        await assert_books_equal_venues(rig, position_id)


@pytest.mark.parametrize("what", ["short", "part of the short", "long"])
async def test_taken_while_closing(tmp_path: Path, what: str) -> None:
    """The books say CLOSING and a leg resists; meanwhile its venue takes it."""
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        rig.control("hyperliquid", "halt", mode="502")
        rig.fault("asgard", "reject", "POST /close-position", times=-1)
        first = await exit_position(rig.desk, ExitRequest(position_id=position_id))
        assert first.status == "CLOSING" and not rig.flat
        rig.control("hyperliquid", "resume")
        if what == "long":
            rig.control("asgard", "liquidate", pda=pda(rig))
        else:
            fraction = "1" if what == "short" else "0.5"
            rig.control("hyperliquid", "adl", address=rig.address, coin="SOL", fraction=fraction)
        rig.heal()
        await rig.recovered()
        assert rig.flat and rig.status(position_id) is PositionStatus.CLOSED
        await assert_books_equal_venues(rig, position_id)


async def test_seized_between_our_reading_and_the_landing_of_the_close(tmp_path: Path) -> None:
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        held = pda(rig)
        with hooked(
            rig.desk.long, "build", before=lambda: rig.control("asgard", "liquidate", pda=held)
        ) as builds:
            result = await exit_position(rig.desk, ExitRequest(position_id=position_id))
        assert builds[0] >= 1 and result.status == "CLOSED" and rig.flat, result
        items = await assert_books_equal_venues(rig, position_id)
        assert items["liquidation"] < 0


def shrink_in_silence(rig: Rig, what: str) -> None:
    """The lender's books change, and no event shows it."""
    book = rig.twins.asgard.book

    def shrink() -> None:
        holding, now_ms = book.holdings[held], rig.world.now_ms()
        amounts = book.amounts(holding, now_ms)
        tokens, debt = amounts.tokens, amounts.debt_usd
        if what == "collateral":
            tokens -= Decimal(1)
        else:
            debt -= Decimal(100)
        book.write(holding, now_ms, tokens, debt, amounts)
        book.on_liquidation(holding)  # and so it stands on chain

    held = pda(rig)
    rig.on_twins(shrink)


@pytest.mark.parametrize("what", ["collateral", "debt"])
async def test_a_shrink_that_nothing_explains_is_acted_on_once_and_stays_alarmed(
    tmp_path: Path, what: str
) -> None:
    """Interest moves the amounts between two ticks: what is known stays known, what is lost after it is not."""
    async with story_rig(tmp_path, strategy=NO_RESERVE) as rig:
        position_id = await rig.entered(**SOL_ON_KAMINO)
        shrink_in_silence(rig, what)
        first = [one for one in (await reconcile_everything(rig.desk)).open if one.subject == "long"]
        assert Handling.ACT in {one.handling for one in first}, first
        [alert] = [row for row in rig.desk.store.alerts() if row.kind == "leg reduced"]
        leg = rig.desk.store.carry.leg(position_id, LegSide.LONG)

        for _ in range(3):
            rig.later(3600)
            await rig.desk.clock.refresh()
            with hooked(rig.desk.clock, "sleep", when=lambda seconds: seconds == SECOND_READING_S) as slept:
                again = await reconcile_everything(rig.desk)
            handled = {one.handling for one in again.open if one.subject == "long"}
            assert handled == {Handling.ALARM}, again
            assert slept[0] == 0, "no second reading of what is known"
        assert rig.desk.store.carry.leg(position_id, LegSide.LONG) == leg
        [row] = [row for row in rig.desk.store.alerts() if row.kind == "leg reduced"]
        assert row.times == alert.times, "one alert, raised once"
        assert "books differ" in {row.kind for row in rig.desk.store.alerts(open_only=True)}

        shrink_in_silence(rig, what)
        more = await reconcile_everything(rig.desk)
        assert Handling.ACT in {one.handling for one in more.open if one.subject == "long"}, "that is new"
