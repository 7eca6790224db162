"""Which offer is taken: the size is decided first, offers are ranked by it, and the next is tried where one has no room."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from evenkeel.legs import PositionStatus
from flows.carry.scan import PASS, WOULD_BE_REFUSED, ScanRequest, ScanResult, scan_markets
from tests.carry.rig import Rig, story_rig
from tests.interruptions import hooked
from venues.solana.transactions import UnsafeBuild


async def best_two(rig: Rig) -> tuple[tuple[str, str], tuple[str, str]]:
    """Asset and protocol of the two offers that a scan ranks first."""
    rows = (await scan_markets(rig.desk, ScanRequest(asset="SOL"))).rows
    passing = [(row["asset"], row["protocol"]) for row in rows if row["verdict"] == PASS]
    return passing[0], passing[1]


def held(rig: Rig) -> tuple[str, int]:
    [one] = rig.holdings()
    return one["symbol"], one["protocol"]


NUMBERS = {"Marginfi": 0, "Kamino": 1, "Solend": 2}


async def test_offers_are_scored_for_the_size_that_would_be_entered(tmp_path: Path) -> None:
    """20 % of the smaller balance, half of it a leg, times three; gas weighs less on it than on the 10,000 of no account."""
    async with story_rig(tmp_path) as rig:
        found = await scan_markets(rig.desk, ScanRequest())
        position_id = await rig.entered(asset="SOL", protocol=1)
        entered = rig.desk.store.carry.position(position_id).size_usd
        assert entered is not None
        assert {row["size_usd"] for row in found.rows} == {round(float(entered), 2)}
        small = await scan_markets(rig.desk, ScanRequest(size_usd="1000"))
        assert {row["size_usd"] for row in small.rows} == {1000.0}
        trip = lambda rows: rows[0]["round_trip_bps"]
        assert trip(small.rows) > trip(found.rows)


async def test_an_offer_that_cannot_lend_the_size_is_passed_over(tmp_path: Path) -> None:
    """It has room for 10,000 USD, and would not have for what is to be entered."""
    async with story_rig(tmp_path) as rig:
        (asset, first), (_, second) = await best_two(rig)
        rig.control("asgard", "set_capacity", protocol=NUMBERS[first], symbol="USDC", amount="8100")
        assert (await rig.entered(asset="SOL")) and held(rig) == (asset, NUMBERS[second])


async def test_an_offer_that_cannot_be_built_is_passed_over_before_anything_is_written(
    tmp_path: Path,
) -> None:
    async with story_rig(tmp_path) as rig:
        (asset, first), (_, second) = await best_two(rig)
        real = rig.desk.long.can_build

        async def can_build(order: Any) -> str | None:
            return "no route" if order.protocol == NUMBERS[first] else await real(order)

        rig.desk.long.can_build = can_build  # type: ignore[method-assign]
        await rig.entered(asset="SOL")
        assert held(rig) == (asset, NUMBERS[second])
        assert len(rig.desk.store.carry.positions()) == 1


async def test_a_build_that_is_refused_after_all_leaves_the_next_offer_to_be_taken(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        (asset, first), (_, second) = await best_two(rig)
        real = rig.desk.long.build

        async def build(intent: Any) -> Any:
            if intent.order["protocol"] == NUMBERS[first]:
                raise UnsafeBuild("rule price: planted", "price")
            return await real(intent)

        rig.desk.long.build = build  # type: ignore[method-assign]
        await rig.entered(asset="SOL")
        assert held(rig) == (asset, NUMBERS[second])
        rig.assert_hedged()
        assert rig.opened_longs() == 1 and len(rig.sells()) == 1
        statuses = sorted(one.status for one in rig.desk.store.carry.positions())
        assert statuses == sorted([PositionStatus.FAILED, PositionStatus.OPEN])


async def test_where_every_build_is_refused_all_reasons_are_given(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        rig.fault("asgard", "reject", "POST /create-position", times=-1, message="no such luck")
        result = await rig.enter(asset="SOL")
        assert result.status == "FAILED" and sum("no such luck" in one for one in result.reasons) == 3, result
        assert rig.flat and not rig.desk.store.carry.open_legs()


async def test_what_stands_against_every_offer_tries_no_other(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        rig.fault("asgard", "http_500", "POST /create-position-simulate", times=-1)
        tried = hooked(rig.desk.long, "can_build")
        with tried as seen:
            result = await rig.enter(asset="SOL")
        assert result.status == "refused" and "simulation" in "; ".join(result.reasons)
        assert seen == [1]


# --- a scan says what an entry of now would be refused for ---


async def scanned(rig: Rig) -> ScanResult:
    before = (rig.fingerprint(), len(rig.desk.store.active_pauses()), len(rig.desk.store.alerts()))
    found = await scan_markets(rig.desk, ScanRequest())
    after = (rig.fingerprint(), len(rig.desk.store.active_pauses()), len(rig.desk.store.alerts()))
    assert before == after, "a scan trips nothing"
    return found


def _everybody_pays_much(rig: Rig) -> None:
    rig.control("solana", "congestion", micro_lamports=50_000_000)


@pytest.mark.parametrize(
    ("happens", "words"),
    [
        (lambda rig: rig.market(premium=0.012), "price consensus"),
        (lambda rig: rig.market(premium=0.06), "price_deviation"),
        (lambda rig: rig.desk.store.pause("entries", "at lunch"), "at lunch"),
        (_everybody_pays_much, "fee_market"),
        (
            lambda rig: rig.control(
                "hyperliquid", "set_abstraction", address=rig.address, mode="portfolioMargin"
            ),
            "venue_mode",
        ),
    ],
)
async def test_a_scan_says_that_an_entry_would_be_refused_and_why(
    tmp_path: Path, happens: Callable[[Rig], None], words: str
) -> None:
    async with story_rig(tmp_path) as rig:
        assert (await scanned(rig)).passed and not (await scanned(rig)).refused_now
        happens(rig)
        found = await scanned(rig)
        assert found.passed == 0
        standing = [row for row in found.rows if row["verdict"] == WOULD_BE_REFUSED]
        assert standing and all(words in row["why"] for row in standing), standing
        assert words in "; ".join(found.refused_now)
        assert (await rig.enter(asset="SOL", protocol="Kamino")).status == "refused", "and so it is"


async def test_an_asset_off_its_peg_refuses_itself_alone(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        rig.market(lst_peg={"INF": 0.985})
        found = await scanned(rig)
        off = [row for row in found.rows if row["verdict"] == WOULD_BE_REFUSED]
        assert {row["asset"] for row in off} == {"INF"} and all("lst_peg:INF" in row["why"] for row in off)
        assert found.passed and not found.refused_now


async def test_a_funding_that_pays_no_short_is_refused_as_before(tmp_path: Path) -> None:
    async with story_rig(tmp_path, hourly_premium=-0.0012) as rig:
        found = await scanned(rig)
        assert Decimal(found.funding_today_hourly or 0) < 0
        assert {row["verdict"] for row in found.rows} == {"refused"} and "funding" in "; ".join(
            found.refused_now
        )
