"""Data that does not fit, before the twins: what it concerns waits and is said, and nothing is counted that nobody proved."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from strategy.hedging.sessions import Market
from tasks.hedging.books import books_of
from tasks.hedging.calendar import NO_CALENDAR
from tasks.hedging.orders import BLOCKED
from tasks.oddities import ODD_ANSWER
from tests.databases import database_fixtures
from tests.hedging_rig import HedgingRig, hedging_rig
from tests.integration.hedging.test_stories import until_flat

databases, url, _store = database_fixtures("sqlite")
D = Decimal


def said(rig: HedgingRig) -> set[tuple[str, str]]:
    return {(one.kind, one.subject) for one in rig.store.alerts(open_only=True)}


@pytest.mark.parametrize(
    "change",
    [
        {"path": "0.open", "value": None},
        {"path": "0.open", "value": 930},
        {"path": "0.close", "value": "08:00"},
        {"path": "0.close", "missing": True},
        {"path": "0.date", "value": "today"},
        {"path": "0", "value": None},
        {"path": "", "value": []},
    ],
)
async def test_a_day_that_cannot_be_read_is_no_closed_day(url: str, change: dict[str, Any]) -> None:
    async with hedging_rig(url) as rig:
        rig.fault("alpaca", "field", "calendar", times=-1, **change)
        rig.trade("AAPL", "sell", "4")
        report = await rig.one_pass()
        assert report.market is Market.UNKNOWN and not report.orders
        assert (NO_CALENDAR, "alpaca") in said(rig)
        rig.plan.clear()
        assert list((await rig.one_pass()).orders) == ["AAPL"]
        assert (NO_CALENDAR, "alpaca") not in said(rig)
        rig.later(86_400)
        rig.fault("alpaca", "field", "calendar", times=-1, **change)
        assert (await rig.one_pass()).market is Market.OPEN, "what was read of the day before serves"


async def test_a_fill_of_next_to_nothing_does_not_say_what_a_share_is_worth(url: str) -> None:
    """Else who takes an order could add a fill at no price, and what he left open would seem to be worth nothing."""
    async with hedging_rig(url) as rig:
        rig.trade("AAPL", "buy", "5")
        rig.trade("AAPL", "buy", "0.00000000000001", "0.0001")
        assert list((await rig.one_pass()).orders) == ["AAPL"]
        assert rig.store.hedging.exposure("AAPL").price_usd == 260
        rig.later(5)
        await rig.one_pass()
        rig.check()


async def test_an_unknown_status_stays_said_while_other_orders_come_and_go(url: str) -> None:
    async with hedging_rig(url) as rig:
        rig.fault("alpaca", "odd_status", "order:.*", status="not_heard_of")
        rig.trade("AAPL", "sell", "4")
        await rig.one_pass()
        assert (ODD_ANSWER, "alpaca order of AAPL") in said(rig)
        for symbol in ("NVDA", "MSFT"):
            rig.trade(symbol, "sell", "2")
            assert symbol in (await rig.one_pass()).orders
            assert (ODD_ANSWER, "alpaca order of AAPL") in said(rig), "a list, or another order, ends it not"
        for order in rig.account.orders:
            order.shown = ""
        rig.later(70)
        await rig.one_pass()
        assert (ODD_ANSWER, "alpaca order of AAPL") not in said(rig)
        await until_flat(rig)


@pytest.mark.parametrize("field", ["filled_qty", "filled_avg_price"])
async def test_what_was_filled_or_paid_never_falls(url: str, field: str) -> None:
    """The broker contradicts what it showed before: that symbol stands still by name, and the books stay what they were."""
    async with hedging_rig(url) as rig:
        rig.fault("alpaca", "partial", "order:.*", fraction="0.5", then="rest", after_s=5)
        rig.trade("AAPL", "sell", "4")
        await rig.one_pass()
        rig.later(2)
        await rig.one_pass()
        [half] = rig.store.hedging.hedges("AAPL")
        rig.fault("alpaca", "field", "orders:by_client_id", times=-1, path=field, value="0.5")
        rig.later(20)
        await rig.one_pass()
        assert (BLOCKED, "AAPL") in said(rig)
        assert rig.store.hedging.hedges("AAPL") == [half] and rig.store.hedging.open_order("AAPL") is not None
        assert books_of(rig.store).symbols["AAPL"].open_shares == -2
        rig.plan.clear()
        rig.trade("NVDA", "sell", "2")
        assert "NVDA" in (await rig.one_pass()).orders
        await until_flat(rig)
        rig.check()
