"""Look-ups against servers that lag behind each other, scripted answer by answer."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import httpx
import pytest

from evenkeel.types import Confirmed, Rejected, Unknown
from venues.hyperliquid.client import HyperliquidClient
from venues.hyperliquid.lookup import OrderLookup
from venues.hyperliquid.orders import OrderKey

USER = "0x" + "ab" * 20
CLOID = "0x" + "0c" * 16
T0 = 1_757_203_200_000
KEY = OrderKey(
    account=USER,
    coin="SOL",
    cloid=CLOID,
    nonce=T0,
    expires_after=T0 + 10_000,
    payload="{}",
    signer=USER,
    built_at_ms=T0,
    is_buy=False,
    size=Decimal(10),
    limit_px=Decimal(199),
    reference_px=Decimal(200),
    szi_before=Decimal(0),
    position_time_ms=T0,
)


class StandingClock:
    """Time passes only by sleeping."""

    ms = T0

    def now_ms(self) -> int:
        return self.ms

    async def sleep(self, seconds: float) -> None:
        self.ms += round(seconds * 1000)

    async def refresh(self) -> None:
        """Nothing to agree with."""


class Venue:
    """What each kind of read answers now; a test changes it between questions."""

    def __init__(self) -> None:
        self.status: dict[int | str, Any] = {}
        self.fills: list[dict[str, Any]] = []
        self.szi = "0"
        self.time = T0
        clock = StandingClock()
        http = httpx.AsyncClient(transport=httpx.MockTransport(self._answer))
        self.lookup = OrderLookup(HyperliquidClient("http://venue.test", clock, http=http), clock, 5_000)

    def record(self, status: str, sz: str, oid: int = 7, cloid: str | None = CLOID) -> None:
        order = {
            "coin": "SOL",
            "side": "A",
            "limitPx": "199",
            "sz": sz,
            "oid": oid,
            "origSz": "10",
            "timestamp": T0 + 500,
            "tif": "Ioc",
            "cloid": cloid,
        }
        known = {"status": "order", "order": {"order": order, "status": status, "statusTimestamp": T0 + 500}}
        self.status[oid] = known
        if cloid:
            self.status[cloid] = known

    def fill(self, sz: str, start: str, **changes: Any) -> None:
        row = {
            "coin": "SOL",
            "px": "199.9",
            "sz": sz,
            "side": "A",
            "time": T0 + 500,
            "startPosition": start,
            "dir": "Open Short",
            "oid": 7,
            "tid": len(self.fills),
            "fee": "0.1",
            "cloid": CLOID,
        }
        self.fills.append(row | changes)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        asked = json.loads(request.content)
        if asked["type"] == "orderStatus":
            return httpx.Response(200, json=self.status.get(asked["oid"], {"status": "unknownOid"}))
        if asked["type"] == "userFillsByTime":
            return httpx.Response(200, json=self.fills)
        assert asked["type"] == "clearinghouseState"
        money = dict.fromkeys(("accountValue", "totalNtlPos", "totalRawUsd", "totalMarginUsed"), "0")
        position = {
            "coin": "SOL",
            "szi": self.szi,
            "positionValue": "1",
            "unrealizedPnl": "0",
            "marginUsed": "0",
            "leverage": {"type": "cross", "value": 3},
        }
        body = {
            "assetPositions": [{"type": "oneWay", "position": position}],
            "marginSummary": money,
            "crossMarginSummary": money,
            "withdrawable": "0",
            "time": self.time,
        }
        return httpx.Response(200, json=body)


async def test_a_cancelled_order_is_not_dead_while_the_position_is_older_than_its_end() -> None:
    """Partly filled, and both the fills and the position are read from a server that lags."""
    venue = Venue()
    venue.record("canceled", sz="5")
    venue.time = T0 + 400
    assert isinstance(await venue.lookup.find(KEY), Unknown)
    venue.time, venue.szi = T0 + 600, "-5"
    assert isinstance(await venue.lookup.find(KEY), Unknown)
    venue.fill("5", "0")
    found = await venue.lookup.find(KEY)
    assert isinstance(found, Confirmed) and found.value.done_qty == 5


async def test_a_filled_order_without_fills_is_never_dead() -> None:
    venue = Venue()
    venue.record("filled", sz="0")
    venue.time = T0 + 60_000
    assert isinstance(await venue.lookup.find(KEY), Unknown)


async def test_part_of_the_fills_is_not_taken_for_all() -> None:
    venue = Venue()
    venue.record("canceled", sz="2")
    venue.time, venue.szi = T0 + 600, "-8"
    venue.fill("3", "0")
    assert isinstance(await venue.lookup.find(KEY), Unknown)
    venue.fill("5", "-3")
    found = await venue.lookup.find(KEY)
    assert isinstance(found, Confirmed) and found.value.done_qty == 8 and len(found.value.fills) == 2


@pytest.mark.parametrize("status", ["open", "triggered"])
async def test_a_living_order_is_unknown(status: str) -> None:
    venue = Venue()
    venue.record(status, sz="10")
    venue.time = T0 + 60_000
    assert isinstance(await venue.lookup.find(KEY), Unknown)


async def test_an_evicted_record_is_found_by_its_fills() -> None:
    venue = Venue()
    venue.time, venue.szi = T0 + 60_000, "-10"
    venue.fill("10", "0")
    found = await venue.lookup.find(KEY)
    assert isinstance(found, Confirmed) and found.value.ref == "7"


@pytest.mark.parametrize(
    ("cloid_of_record", "expected"),
    [(CLOID, Confirmed), ("0x" + "0d" * 16, Rejected), (None, Rejected), ("gone", Unknown)],
)
async def test_a_fill_without_a_cloid_is_judged_by_the_record_of_its_order(
    cloid_of_record: str | None, expected: type
) -> None:
    venue = Venue()
    venue.time, venue.szi = T0 + 60_000, "-10"
    venue.fill("10", "0", cloid=None, oid=9)
    if cloid_of_record != "gone":
        venue.record("filled", sz="0", oid=9, cloid=cloid_of_record)
        venue.status.pop(CLOID, None)
    assert isinstance(await venue.lookup.find(KEY), expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"side": "B", "dir": "Open Long", "startPosition": "-20"},
        {"px": "198.9"},
        {"time": T0 + 15_001},
        {"dir": "Auto-Deleveraging"},
        {"liquidation": {"method": "market"}},
    ],
    ids=lambda changes: next(iter(changes)),
)
async def test_a_fill_that_cannot_be_ours_needs_no_record(changes: dict[str, Any]) -> None:
    venue = Venue()
    venue.time, venue.szi = T0 + 60_000, "-10"
    venue.fill("10", "0", cloid=None, oid=9, **changes)
    assert isinstance(await venue.lookup.find(KEY), Rejected)


async def test_a_fill_of_another_coin_does_not_count() -> None:
    venue = Venue()
    venue.time = T0 + 60_000
    venue.fill("10", "0", coin="ETH")
    assert isinstance(await venue.lookup.find(KEY), Rejected)


async def test_an_order_whose_position_was_only_assumed_dies_with_its_expiry() -> None:
    """Nobody saw the position before it, so that no sum of fills could ever explain one."""
    guess = {"is_buy": True, "szi_before": Decimal(-10), "limit_px": Decimal(201)}
    assumed, believed = KEY.model_copy(update=guess | {"szi_read": False}), KEY.model_copy(update=guess)
    venue = Venue()
    assert isinstance(await venue.lookup.find(assumed), Unknown), "it may still execute"
    venue.time = T0 + 20_000
    assert isinstance(await venue.lookup.find(believed), Unknown)
    assert isinstance(await venue.lookup.find(assumed), Rejected)
    venue.fill("10", start="-10", side="B", dir="Close Short")
    assert isinstance(await venue.lookup.find(assumed), Confirmed)


async def test_an_assumed_position_makes_no_lagging_list_final() -> None:
    """Filled 4 of 10, then cancelled, while the list shows a part of that or nothing."""
    assumed = KEY.model_copy(
        update={"is_buy": True, "szi_before": Decimal(-10), "limit_px": Decimal(201), "szi_read": False}
    )
    filled = Venue()
    filled.record("filled", sz="0")
    filled.fill("4", start="-10", side="B", dir="Close Short")
    filled.time, filled.szi = T0 + 20_000, "0"
    assert isinstance(await filled.lookup.find(assumed), Unknown)

    class Late(Venue):
        """Its list gains the fill only at the third question."""

        asked = 0

        def _answer(self, request: httpx.Request) -> httpx.Response:
            if json.loads(request.content)["type"] == "userFillsByTime":
                self.asked += 1
                if self.asked == 3:
                    self.fill("4", start="-10", side="B", dir="Close Short")
            return super()._answer(request)

    late = Late()
    late.record("canceled", sz="6")
    late.time, late.szi = T0 + 20_000, "-6"
    found = await late.lookup.find(assumed)
    assert isinstance(found, Confirmed) and found.value.done_qty == 4
