"""Odd rows and fields in the venues' answers: the hedge is kept, the alert names them, and the way out stays open."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from evenkeel.errors import UNREAD
from evenkeel.legs import CARRY, IntentKind, LegSide
from flows.carry.exit import ExitRequest, exit_position
from flows.carry.flatten import flatten_everything
from flows.carry.scan import ScanRequest, scan_markets
from tasks.carry.books.collect import collect_everything
from tasks.carry.books.reconcile import reconcile_everything
from tasks.oddities import ODD_ANSWER
from tests.carry.rig import Rig, story_rig, watched

STATE = "info:clearinghouseState"
OWN = "assetPositions.[position.coin=SOL].position."
PRICES = "info:metaAndAssetCtxs"


def alerts(rig: Rig) -> dict[str, str]:
    """Open alerts: kind and text."""
    return {row.kind: row.text for row in rig.desk.store.alerts(open_only=True)}


def attempts(rig: Rig, position_id: str) -> list[dict[str, Any]]:
    """What was signed for the short."""
    store = rig.desk.store
    intents = [one for one in store.intents_of(CARRY, position_id) if one.part == LegSide.SHORT]
    return [one.key for intent in intents for one in store.attempts_of(intent.intent_id)]


def odd(rig: Rig, kind: str, call: str, venue: str = "hyperliquid", **args: Any) -> None:
    rig.fault(venue, kind, call, times=-1, **args)


async def test_one_odd_row_of_another_coin_costs_nothing_but_an_alert_that_names_it(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered()
        odd(rig, "odd_row", STATE)
        result = await watched(rig, position_id, 150)
        assert (result.status, result.actions) == ("OPEN", ())
        rig.assert_hedged()
        rows = [row for row in rig.desk.store.alerts() if row.kind == ODD_ANSWER]
        [row] = [one for one in rows if one.subject == "hyperliquid clearinghouseState"]
        assert "DOGE" in row.text and row.times == 1, "one alert, however often it is seen"
        found = await reconcile_everything(rig.desk)
        assert not found.unreadable

        rig.heal()
        await watched(rig, position_id, 60)
        assert ODD_ANSWER not in alerts(rig), "it ends by itself"

        odd(rig, "odd_row", STATE)
        done = await exit_position(rig.desk, ExitRequest(position_id=position_id))
        assert done.status == "CLOSED" and rig.flat


@pytest.mark.parametrize(
    "change",
    [{"path": OWN + "szi", "value": "NaN"}, {"path": OWN + "coin", "missing": True},
     {"path": OWN + "leverage.type", "value": "portfolio"}, {"path": "assetPositions", "value": None}],
    ids=lambda change: f"{change['path']}={change.get('value', 'missing')}",
)  # fmt: skip
async def test_an_own_row_that_is_not_understood_is_no_outage_and_can_be_closed(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    async with story_rig(tmp_path, limits={"stale_exit_after_s": "100", "outage_exit_after_s": "60"}) as rig:
        position_id = await rig.entered()
        odd(rig, "field", STATE, **change)
        result = await watched(rig, position_id, 200)
        assert (result.status, result.actions) == ("OPEN", ())
        rig.assert_hedged()
        found = alerts(rig)
        assert "short leg" in found["not_understood"] and "outage" not in found

        with suppress(*UNREAD):  # it ends once the account can be read: closed is an empty reading
            await exit_position(rig.desk, ExitRequest(position_id=position_id, emergency=True))
        assert rig.flat, "by an order that can only reduce, of the size in the books"
        closes = [
            one for one in rig.desk.store.intents_of(CARRY, position_id) if one.kind == IntentKind.CLOSE
        ]
        assert {one.part for one in closes} == {LegSide.LONG, LegSide.SHORT}
        rig.heal()
        again = await exit_position(rig.desk, ExitRequest(position_id=position_id))
        assert again.status == "CLOSED"


@pytest.mark.parametrize("scale", ["0.1", "10"])
async def test_a_stamp_that_its_own_date_contradicts_says_nothing_of_the_age_of_a_reading(
    tmp_path: Path, scale: str
) -> None:
    async with story_rig(tmp_path, limits={"stale_exit_after_s": "100", "outage_exit_after_s": "60"}) as rig:
        position_id = await rig.entered()
        odd(rig, "field", STATE, path="time", scale=scale)
        result = await watched(rig, position_id, 200)
        assert (result.status, result.actions) == ("OPEN", ())
        found = alerts(rig)
        assert "time" in found[ODD_ANSWER] and not {"stale:short", "outage"} & found.keys()
        assert (await exit_position(rig.desk, ExitRequest(position_id=position_id))).status == "CLOSED"
        assert rig.flat


async def test_the_kill_switch_buys_back_what_is_ours_and_leaves_the_rest(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        await rig.entered()
        rig.trade_by_hand("SOL", "-5")  # somebody else's, on the same account
        odd(rig, "field", STATE, path=OWN + "szi", value="NaN")
        await flatten_everything(rig.desk, "test", within_s=60)
        assert not rig.holdings() and rig.short_qty() == Decimal(5)


@pytest.mark.parametrize("how", ["500", "drop"])
async def test_with_the_account_alone_out_of_reach_both_legs_are_closed(tmp_path: Path, how: str) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered()
        rig.fault("hyperliquid", "one_endpoint", STATE, times=-1, how=how)
        with suppress(*UNREAD):  # it ends once the account can be read: closed is an empty reading
            await exit_position(rig.desk, ExitRequest(position_id=position_id, emergency=True))
        assert rig.flat


@pytest.mark.parametrize(
    ("call", "change"),
    [
        ("info:l2Book", {"path": "levels.1.0.px", "value": "2000.0"}),
        ("info:l2Book", {"path": "levels.0.0.px", "value": "0.01"}),
        ("info:l2Book", {"path": "levels.*.*.px", "scale": "10"}),
        ("info:l2Book", {"path": "levels", "value": []}),
        ("info:l2Book", {"path": "levels.1", "value": []}),
        (STATE, {"path": OWN + "positionValue", "scale": "10"}),
        (STATE, {"path": OWN + "positionValue", "scale": "0.1"}),
        (STATE, {"path": OWN + "positionValue", "value": "0"}),
    ],
    ids=lambda part: part if isinstance(part, str) else "-".join(map(str, part.values())),
)
@pytest.mark.parametrize("emergency", [False, True])
async def test_one_price_that_is_wrong_holds_up_no_exit_and_no_order_goes_by_it(
    tmp_path: Path, call: str, change: dict[str, Any], emergency: bool
) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered()
        odd(rig, "field", call, **change)
        with suppress(*UNREAD):
            await exit_position(rig.desk, ExitRequest(position_id=position_id, emergency=emergency))
        assert rig.flat
        limits = [Decimal(one["limit_px"]) for one in attempts(rig, position_id) if one["is_buy"]]
        assert limits and max(limits) < 220


@pytest.mark.parametrize("field", ["markPx", "premium"])
async def test_a_coin_without_prices_spoils_its_own_row_alone(tmp_path: Path, field: str) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered()
        odd(rig, "field", PRICES, path=f"1.0.{field}", value="NaN")  # BTC: no coin of ours
        result = await watched(rig, position_id, 100)
        assert (result.status, result.actions) == ("OPEN", ())
        assert "outage" not in alerts(rig) and "carry" not in alerts(rig)
        assert field in alerts(rig)[ODD_ANSWER]
        assert (await scan_markets(rig.desk, ScanRequest())).passed


async def test_an_hour_that_cannot_be_read_is_a_gap_and_not_the_end_of_the_scan(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        odd(rig, "field", "info:fundingHistory", path="20.fundingRate", value="NaN")
        odd(rig, "field", "info:fundingHistory", path="21.premium", value="NaN")
        found = await scan_markets(rig.desk, ScanRequest())
        assert found.passed
        text = alerts(rig)[ODD_ANSWER]
        assert "fundingRate" in text and "premium" in text


async def test_with_the_list_of_markets_alone_out_of_reach_nothing_is_closed(tmp_path: Path) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(asset="jitoSOL", protocol=1)
        rig.fault("asgard", "http_500", "GET /markets", times=-1)
        result = await watched(rig, position_id, 900)
        assert (result.status, result.actions) == ("OPEN", ())
        rig.assert_hedged()
        assert "cannot be judged" in alerts(rig)["carry"] and "outage" not in alerts(rig)


@pytest.mark.parametrize("call", ["GET /token-metadata", "GET /markets"])
async def test_odd_rows_of_a_list_leave_the_leg_as_it_is(tmp_path: Path, call: str) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered()
        odd(rig, "odd_row", call, venue="asgard")
        result = await watched(rig, position_id, 100)
        assert (result.status, result.actions) == ("OPEN", ())
        assert not {"outage", "not_understood", "carry"} & alerts(rig).keys()
        assert "ODD" in " ".join(alerts(rig).values()) or "9" in alerts(rig)[ODD_ANSWER]


@pytest.mark.parametrize(("field", "value"), [("assetsQt", "NaN"), ("mint", None)])
async def test_a_balance_of_ours_that_is_not_understood_is_not_taken_for_nothing(
    tmp_path: Path, field: str, value: str | None
) -> None:
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered()
        path = f"positions.*.summary.booksAndBalances.balances.0.*.{field}"
        odd(rig, "field", "POST /refresh-positions", venue="asgard", path=path, value=value)
        result = await watched(rig, position_id, 100)
        assert (result.status, result.actions) == ("OPEN", ())
        assert "long leg" in alerts(rig)["not_understood"] and "outage" not in alerts(rig)


@pytest.mark.parametrize("path", ["1.delta.usdc", "1.time", "1"])
async def test_a_settlement_that_could_not_be_read_is_booked_once_it_can(tmp_path: Path, path: str) -> None:
    """Hours later, when later ones are booked already."""
    async with story_rig(tmp_path) as rig:
        await rig.entered(asset="SOL", protocol=1)
        rig.later(3 * 3600)
        odd(rig, "field", "info:userFunding", path=path, value=None)
        await collect_everything(rig.desk)
        rig.heal()
        rig.later(5 * 3600)
        await collect_everything(rig.desk)
        paid = [row["time"] // 3_600_000 for row in rig.account()["fundings"]]
        booked = [row.hour_ms // 3_600_000 for row in rig.desk.store.carry.funding_payments()]
        assert len(paid) == 8 and booked == paid


async def test_a_perpetual_that_is_listed_no_more_keeps_nothing_from_closing(tmp_path: Path) -> None:
    """Its price beside the booking is gone too."""
    async with story_rig(tmp_path) as rig:
        position_id = await rig.entered(asset="jitoSOL", protocol=1)
        odd(rig, "field", PRICES, path="0.universe.[name=SOL].name", value="SOL2")
        odd(rig, "field", "info:meta", path="universe.[name=SOL].name", value="SOL2")
        assert (await watched(rig, position_id, 60)).status == "OPEN"
        rig.assert_hedged("0.01")
        assert "Hyperliquid's mark price" in alerts(rig)["price_deviation"]
        await exit_position(rig.desk, ExitRequest(position_id=position_id))
        assert rig.flat and rig.status(position_id) == "CLOSED"
