"""What is read of an account at Schwab and of the market: row by row, exact, by both forms of time."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest

from evenkeel.errors import NotUnderstood, Retryable, VenueRefused
from tests.schwab_rig import SchwabRig, schwab_rig
from venues.schwab.venue import SchwabVenue

TUESDAY = date(2026, 1, 6)


def ms(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp() * 1000)  # type: ignore[arg-type]


async def test_cash_is_cash_and_never_buying_power() -> None:
    async with schwab_rig(cash=Decimal("1234.56")) as rig:
        assert await rig.venue.cash() == Decimal("1234.56")
        rig.twin.book.cash = Decimal("-10.5")
        assert await rig.venue.cash() == Decimal("-10.5")
        rig.fault(
            "field", "account", times=-1, path="securitiesAccount.currentBalances.cashBalance", value=None
        )
        with pytest.raises(NotUnderstood, match="cashBalance"):
            await rig.venue.cash()


async def test_holdings_are_long_less_short_and_one_odd_row_spoils_itself() -> None:
    async with schwab_rig() as rig:
        rig.twin.book.shares = {"AMD": Decimal(7), "NVDA": Decimal(-2)}
        found = await rig.venue.holdings()
        assert {symbol: one.qty for symbol, one in found.items()} == {"AMD": Decimal(7), "NVDA": Decimal(-2)}
        option = {"longQuantity": 1, "instrument": {"assetType": "OPTION", "symbol": "AMD"}}
        rig.fault("odd_row", "account", path="securitiesAccount.positions", row=option)
        assert (await rig.venue.holdings())["AMD"].qty == 7
        nobody = {"longQuantity": 3, "instrument": {"assetType": "EQUITY", "symbol": None}}
        rig.fault("odd_row", "account", times=-1, path="securitiesAccount.positions", row=nobody)
        with pytest.raises(NotUnderstood):
            await rig.venue.holdings()


async def test_sessions_follow_the_brokers_calendar_over_a_holiday_an_early_close_and_the_change_of_clocks() -> (
    None
):
    async with schwab_rig() as rig:
        rig.twin.control("close", {"day": "2026-01-08"})
        rig.twin.control("early", {"day": "2026-01-09"})
        found = (await rig.venue.calendar(TUESDAY, date(2026, 1, 12))).sessions
        assert [one.day.day for one in found] == [6, 7, 9, 12]
        assert (found[0].open_ms, found[0].close_ms) == (ms(2026, 1, 6, 14, 30), ms(2026, 1, 6, 21))
        assert found[0].pre_open_ms == ms(2026, 1, 6, 9) and found[0].post_close_ms == ms(2026, 1, 7, 1)
        assert found[2].close_ms == ms(2026, 1, 9, 18)
        (monday,) = (await rig.venue.calendar(date(2026, 3, 7), date(2026, 3, 9))).sessions
        assert (monday.open_ms, monday.close_ms) == (ms(2026, 3, 9, 13, 30), ms(2026, 3, 9, 20))


@pytest.mark.parametrize(
    "change",
    [
        {"path": "equity.EQ.sessionHours", "missing": True},
        {"path": "equity.EQ.date", "value": "2026-02-01"},
        {"path": "equity.EQ.sessionHours.regularMarket", "value": []},
        {"path": "equity.EQ.sessionHours.regularMarket.0.end", "value": "2026-01-06T16:00:00"},
        {"path": "equity.EQ.sessionHours.regularMarket.0.end", "value": "2026-01-06T09:00:00-05:00"},
        {"path": "equity", "value": {}},
    ],
)
async def test_a_day_that_is_not_understood_is_no_closed_day(change: dict[str, Any]) -> None:
    async with schwab_rig() as rig:
        rig.fault("field", "hours", times=-1, **change)
        with pytest.raises(NotUnderstood):
            await rig.venue.calendar(TUESDAY, TUESDAY)
        rig.running.faults.clear()
        rig.fault("field", "hours", **change)
        week = await rig.venue.calendar(TUESDAY, date(2026, 1, 12))
        (odd,) = week.unread
        assert {6, 7, 8, 9, 12} - {odd.day} == {one.day.day for one in week.sessions}, "the others are read"
        assert odd.isoformat() in rig.venue.client.oddities.words()["hours"]


async def test_the_twin_shows_the_hours_under_both_of_their_paths() -> None:
    async with schwab_rig() as rig:
        headers = {"authorization": f"Bearer {await rig.login.access()}"}
        async with httpx.AsyncClient(trust_env=False, base_url=rig.url, headers=headers) as http:
            one = await http.get("/marketdata/v1/markets?markets=equity&date=2026-01-06")
            other = await http.get("/marketdata/v1/markets/equity?date=2026-01-06")
            assert one.json() == other.json() and one.json()["equity"]["EQ"]["isOpen"]
            assert (await http.get("/marketdata/v1/markets?markets=bond")).status_code == 400


async def test_a_price_is_the_latest_trade_and_a_symbol_that_nobody_knows_is_refused() -> None:
    async with schwab_rig() as rig:
        assert await rig.venue.price("AMD") == Decimal("150.25")
        assert (await rig.venue.asset("AMD")).tradable and not (await rig.venue.asset("AMD")).fractionable
        with pytest.raises(VenueRefused, match="no such symbol"):
            await rig.venue.price("ZZZ")
        rig.fault("field", "quotes", path="AMD.quote.lastPrice", value=None)
        assert await rig.venue.price("AMD") is None
        rig.fault("field", "quotes", path="AMD.assetMainType", value="OPTION")
        assert not (await rig.venue.asset("AMD")).tradable


async def test_an_order_outside_hours_waits_for_the_open_and_is_worked_then() -> None:
    async with schwab_rig(start_ms=ms(2026, 1, 6, 22)) as rig:
        intent = rig.intent()
        signed = await rig.signed(intent)
        outcome = await rig.venue.send(intent, signed)
        assert "PENDING_ACTIVATION" in str(outcome)
        rig.later(16.6 * 3600)
        assert "FILLED" in str(await rig.venue.find(intent, signed))


def named(rig: SchwabRig, account: str) -> SchwabVenue:
    return SchwabVenue(rig.client, rig.venue._rules, dict, account=account)


async def test_the_account_is_read_once_and_must_be_one() -> None:
    async with schwab_rig() as rig:
        assert await rig.venue.account() == await rig.venue.account() == rig.twin.book.hash_value
        assert rig.calls("accountNumbers") == 1
        assert await named(rig, "6789").account() == rig.twin.book.hash_value
        with pytest.raises(VenueRefused, match="0 of the 1 accounts"):
            await named(rig, "1111").account()
        rig.fault("odd_row", "accountNumbers", path="", row={"accountNumber": "987", "hashValue": "X"})
        with pytest.raises(VenueRefused, match="2 of the 2 accounts"):
            await named(rig, "").account()


async def test_a_read_is_tried_again_and_one_that_fails_is_retryable() -> None:
    async with schwab_rig() as rig:
        await rig.venue.account()
        rig.fault("http_500", "account", times=2)
        await rig.venue.cash()
        rig.fault("drop_answer", "account", times=-1)
        with pytest.raises(Retryable):
            await rig.venue.cash()
