"""What is read of an account at Alpaca's twin, row by row, and what is not built by it."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from evenkeel.errors import NotUnderstood, VenueRefused
from tests.alpaca_rig import AlpacaRig, alpaca_rig

D = Decimal
both = pytest.mark.parametrize("is_broker", [False, True], ids=["trading", "broker"])


async def bought(rig: AlpacaRig, symbol: str) -> None:
    """Two shares that nothing disturbs."""
    intent, signed = await rig.signed(symbol=symbol, qty="2")
    await rig.venue.send(intent, signed)
    rig.later(1)


@both
async def test_the_calendar_gives_sessions_in_utc_over_a_change_of_the_clocks(is_broker: bool) -> None:
    async with alpaca_rig(is_broker=is_broker) as rig:
        found = (await rig.venue.calendar(date(2026, 3, 6), date(2026, 3, 9))).sessions
        assert [one.day for one in found] == [date(2026, 3, 6), date(2026, 3, 9)]
        before, after = found
        assert before.open_ms % 86_400_000 == (14 * 60 + 30) * 60_000
        assert after.open_ms % 86_400_000 == (13 * 60 + 30) * 60_000
        assert after.pre_open_ms == after.open_ms - 330 * 60_000 and after.post_close_ms is not None
        early = (await rig.venue.calendar(date(2026, 11, 26), date(2026, 11, 27))).sessions
        assert [(one.day, (one.close_ms - one.open_ms) // 60_000) for one in early] == [
            (date(2026, 11, 27), 210)
        ]
        clock = await rig.client.market_clock()
        assert clock.is_open and len(clock.timestamp) == 35


async def test_a_calendar_of_other_days_is_not_understood() -> None:
    async with alpaca_rig() as rig:
        rig.fault("field", "calendar", path="0.date", value="2026-01-05", times=-1)
        with pytest.raises(NotUnderstood, match="days from 2026-03-06"):
            await rig.venue.calendar(date(2026, 3, 6), date(2026, 3, 6))


async def test_a_row_that_cannot_be_read_spoils_itself_alone() -> None:
    async with alpaca_rig() as rig:
        for symbol in ("AAPL", "MSFT"):
            await bought(rig, symbol)
        rig.twin.engine.accounts[rig.account.id].positions["AAPL"].qty = D(-2)
        rig.fault("field", "positions", path="*.side", value="long", times=-1)
        found = await rig.venue.holdings()
        assert set(found) == {"MSFT"} and "AAPL" in rig.client.not_understood
        assert "AAPL" in rig.client.oddities.words()["alpaca positions"]


async def test_assets_and_prices() -> None:
    async with alpaca_rig() as rig:
        rig.twin.control("asset", {"symbol": "NVDA", "fractionable": False})
        assert not (await rig.venue.asset("NVDA")).fractionable
        with pytest.raises(VenueRefused, match="whole shares"):
            await rig.venue.build(rig.intent("NVDA", qty="1.5"))
        with pytest.raises(VenueRefused, match="knows no symbol"):
            await rig.client.asset("NOPE")
        assert await rig.venue.price("AAPL") == 260
        assert await rig.client.price("NOPE") is None
        rig.twin.control("asset", {"symbol": "MSFT", "tradable": False})
        with pytest.raises(VenueRefused, match="cannot be ordered"):
            await rig.venue.build(rig.intent("MSFT"))


@pytest.mark.parametrize(
    ("order", "why"),
    [
        ({"symbol": "GME"}, "no symbol of the settings"),
        ({"qty": "1001"}, "allowed are 1000"),
        ({"qty": "0.1234567891"}, "10 decimals"),
        ({"qty": "0"}, "qty"),
        ({"qty": "NaN"}, "qty"),
        ({"side": "hold"}, "side"),
    ],
)
async def test_what_the_rules_do_not_allow_is_not_built(order: dict[str, str], why: str) -> None:
    async with alpaca_rig() as rig:
        with pytest.raises(VenueRefused, match=why):
            await rig.venue.build(rig.intent(**order))


async def test_bytes_that_are_not_the_order_are_not_signed() -> None:
    async with alpaca_rig() as rig:
        intent = rig.intent()
        built = await rig.venue.build(intent)
        for changed in ({"side": "sell"}, {"qty": "1000"}, {"type": "limit"}, {"extended_hours": True}):
            built.payload.update(changed)
            with pytest.raises(VenueRefused):
                await rig.venue.sign(intent, built)
            built = await rig.venue.build(intent)
