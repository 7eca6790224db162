"""The desk's page of hedging: what it shows of a ledger that twins have filled, live, on a phone and by keys alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from flows.hedging.hedge import HedgeRequest, hedge_account
from state.watch_models import Severity
from tasks.hedging.running.silence import HEARTBEAT, SILENT
from tests.browser import CHROMIUM, chromium, until
from tests.databases import database_fixtures
from tests.hedging_rig import HedgingRig, hedging_rig
from tests.pages_rig import KEY, Browser, served

databases, url, _store = database_fixtures("sqlite")
LONG = "x" * 300


async def lived(rig: HedgingRig) -> None:
    """A fill that was hedged, one whose order is under way, one that a pause leaves open."""
    rig.trade("AAPL", "sell", "3", "261")
    async with rig.desk() as at:
        done = await hedge_account(at, HedgeRequest(until_ms=rig.clock.now_ms() + 60_000))
    assert done.failed == 0
    rig.fault("alpaca", "slow", seconds=3600)
    rig.trade("MSFT", "buy", "0.123456789", "479.5")
    await rig.one_pass()
    rig.store.pause("alpaca", "the broker's own page is down")
    rig.trade("NVDA", "sell", "7", "191")
    await rig.one_pass()


@asynccontextmanager
async def pages(url: str) -> AsyncIterator[tuple[HedgingRig, Browser]]:
    async with hedging_rig(url) as rig:
        await lived(rig)
        async with served(rig.given(), rig.store) as browser:
            yield rig, browser


async def reached(browser: Browser, *words: str) -> str:
    async with asyncio.timeout(30):
        while True:
            text = (await browser.get("/hedging")).text
            if all(word in text for word in words):
                return text
            await asyncio.sleep(0.05)


async def test_it_shows_what_is_open_what_was_earned_fills_and_hedges(url: str) -> None:
    async with pages(url) as (rig, browser):
        assert (await browser.get("/hedging/stream")).status_code == 401
        await browser.log_in()
        text = await reached(browser, "Spread", "Newest hedges", "From block to hedge, median")
        assert "unknown USD" not in text and "script-src &#39;self&#39;" not in text
        for word in (
            "-7",
            "0.123457",
            "hedging paused",
            "the broker&#39;s own page is down",
            "read up to block",
        ):
            assert word in text, word
        [order] = rig.store.hedging.open_orders()
        assert order.intent_id in text and f"{rig.store.hedging.fills('AAPL')[0].transaction[:10]}…" in text
        answer = await browser.get("/hedging")
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert '<a href="/hedging"' in (await browser.get("/")).text


async def test_where_hedging_is_off_there_is_no_way_to_it_and_the_page_says_so(url: str) -> None:
    async with hedging_rig(url) as rig:
        rig.settings = {"enabled": False}
        async with served(rig.given(), rig.store) as browser:
            await browser.log_in()
            assert '<a href="/hedging"' not in (await browser.get("/")).text
            answer = await browser.get("/hedging")
            assert answer.status_code == 200 and "Hedging is off" in answer.text


@pytest.mark.timeout(900)
@pytest.mark.skipif(not CHROMIUM, reason="no Chromium here: `apt-get install chromium`")
async def test_it_is_live_no_wider_than_a_phone_and_led_by_keys(url: str) -> None:
    async with pages(url) as (rig, browser), chromium() as tab:
        address = str(browser.http.base_url).rstrip("/")
        rig.store.alert(SILENT, Severity.CRITICAL, LONG, HEARTBEAT)
        await tab.open(f"{address}/hedging")
        await tab.submit({"key": KEY})
        assert await tab.evaluate("location.pathname") == "/hedging"
        await tab.size(360, 740, phone=True)
        await tab.open(f"{address}/hedging")
        assert await tab.evaluate("document.documentElement.scrollWidth") <= 360
        await until(lambda: tab.evaluate("document.getElementById('stream').textContent === 'Live.'"), "live")
        await tab.evaluate("document.getElementById('ack-1').focus()")
        rig.trade("TSLA", "sell", "2")
        await rig.one_pass()
        await until(
            lambda: tab.evaluate("document.body.textContent.includes('shares of TSLA')"), "the fill is shown"
        )
        assert await tab.evaluate("document.activeElement.id") == "ack-1", "who uses the keyboard stays there"
        regions = (
            "[...document.querySelectorAll('.scroll')].every(one => one.tabIndex === 0 && one.ariaLabel)"
        )
        assert await tab.evaluate(regions)
        assert tab.complaints == []
