"""Passes of hedging with Schwab as the broker: whole shares, a lost answer, and a login that ends and is made anew."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest

from evenkeel.units import DAY_MS
from tasks.hedging.opening import schwab_login
from tests.databases import database_fixtures
from tests.hedging_rig import HELD, PRICES, SYMBOLS, HedgingRig, hedging_rig
from tests.schwab_rig import TOKEN_KEY, state_of
from twins.faults import FaultMiddleware
from twins.http import served
from twins.schwab.app import SchwabTwin
from twins.schwab.serve import VENUE

databases, url, _store = database_fixtures("sqlite")
D = Decimal


@asynccontextmanager
async def trading(url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[HedgingRig, SchwabTwin]]:
    """The order book's twin and Schwab's on one clock, somebody logged in, shares to sell at the broker."""
    async with hedging_rig(url) as rig:
        twin = SchwabTwin(rig.world, rig.plan)
        twin.market.prices = {symbol: D(price) for symbol, price in PRICES.items()}
        twin.book.shares = {symbol: D(HELD) for symbol in SYMBOLS}
        for name, value in {
            "EVENKEEL_SCHWAB_KEY": twin.login.app_key,
            "EVENKEEL_SCHWAB_SECRET": twin.login.app_secret,
            "EVENKEEL_TOKEN_KEY": TOKEN_KEY,
        }.items():
            monkeypatch.setenv(name, value)
        app = FaultMiddleware(twin.app, rig.plan, VENUE, twin.call_name, rig.world.now_ms)
        async with served(app) as address:
            rig.settings |= {"broker": "schwab", "schwab": {"url": address, "account": "6789"}}
            await log_in(rig, twin)
            yield rig, twin


class Earlier:
    """The clock as it was some days ago, for a login that is so old."""

    def __init__(self, rig: HedgingRig, days: float) -> None:
        self._clock, self._days = rig.clock, days

    def now_ms(self) -> int:
        return self._clock.now_ms() - int(self._days * DAY_MS)

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)

    async def refresh(self) -> None:
        """Nothing to agree with."""


async def log_in(rig: HedgingRig, twin: SchwabTwin, days_ago: float = 0) -> None:
    login = schwab_login(rig.given().hedging, Earlier(rig, days_ago), rig.store)
    await login.finish(twin.login.allow(state_of(login.begin())))
    await login.aclose()


async def passes(rig: HedgingRig, count: int = 3) -> None:
    """Each by another process."""
    for _ in range(count):
        await rig.one_pass()
        rig.later(60)


def bought(twin: SchwabTwin, symbol: str) -> Decimal:
    return twin.book.shares.get(symbol, D(0)) - HELD


def login_alerts(rig: HedgingRig) -> list[str]:
    return [one.kind for one in rig.store.alerts(open_only=True) if one.kind.startswith("login")]


async def test_fills_are_hedged_in_whole_shares_and_the_rest_waits(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with trading(url, monkeypatch) as (rig, twin):
        rig.trade("AAPL", "sell", "2.6")
        rig.trade("NVDA", "buy", "1.25")
        rig.trade("MSFT", "sell", "0.7")
        await passes(rig)
        assert [bought(twin, symbol) for symbol in ("AAPL", "NVDA", "MSFT")] == [2, -1, 0]
        left = {one.symbol: one.open_shares for one in rig.store.hedging.exposures()}
        assert left == {"AAPL": D("-0.6"), "NVDA": D("0.25"), "MSFT": D("-0.7")}
        rig.trade("MSFT", "sell", "0.3")
        await passes(rig)
        assert bought(twin, "MSFT") == 1 and rig.store.hedging.exposure("MSFT").open_shares == 0


@pytest.mark.parametrize("kind", ["drop_answer", "drop_request", "partial_cancel"])
async def test_whatever_becomes_of_an_answer_a_fill_is_hedged_once(
    url: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with trading(url, monkeypatch) as (rig, twin):
        call = "order:place" if kind.startswith(("drop", "http")) else ".*"
        rig.fault(VENUE, kind, call)
        rig.trade("AAPL", "sell", "4")
        await passes(rig, 5)
        assert bought(twin, "AAPL") == 4
        assert rig.store.hedging.exposure("AAPL").open_shares == 0
        again = rig.store.hedging.recomputed("AAPL")
        assert (again.hedge_bought, again.chain_sold) == (D(4), D(4))


async def test_a_login_that_ends_stops_orders_alone_and_the_next_one_hedges_what_is_open(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with trading(url, monkeypatch) as (rig, twin):
        for days, kinds in ((0, []), (5, ["login day 5"]), (6, ["login day 6"]), (6.5, ["login over"])):
            await log_in(rig, twin, days)
            await rig.one_pass()
            assert login_alerts(rig) == kinds
        rig.trade("AAPL", "sell", "3")
        report = await rig.one_pass()
        assert report.progress.fills == 1 and rig.store.hedging.exposure("AAPL").open_shares == -3
        assert twin.login.refused == 0 and not twin.book.orders
        await log_in(rig, twin)
        await passes(rig)
        assert login_alerts(rig) == [] and bought(twin, "AAPL") == 3
        assert rig.store.hedging.exposure("AAPL").open_shares == 0
