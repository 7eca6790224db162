"""Draws the pictures of the desk's page of hedging for the documents: `python -m tests.pictures_hedging` (needs Chromium)."""

from __future__ import annotations

import asyncio
import random
import tempfile
from pathlib import Path

from app.pages.sessions import Sessions
from flows.hedging.hedge import HedgeRequest, hedge_account
from tests.browser import chromium
from tests.databases import make_ledger
from tests.hedging_rig import PRICES, HedgingRig, hedging_rig
from tests.pages_rig import KEY, served
from tests.pictures import DESKTOP, IMAGES, PHONE

MOST = {"": 1900, "-phone": 1800}
"""Pixels from the top, by the suffix of the picture's name."""


async def lived(rig: HedgingRig) -> None:
    """Some forty fills of four symbols at a spread, hedged; one order under way, one symbol without means, a pause."""
    drawn = random.Random(5)
    async with rig.desk() as at:
        for _ in range(20):
            for _ in range(2):
                symbol = drawn.choice(sorted(PRICES))
                side = drawn.choice(("buy", "sell"))
                price = float(PRICES[symbol]) * (1.003 if side == "sell" else 0.997)
                rig.trade(symbol, side, f"{drawn.uniform(0.1, 6):.9f}", f"{price:.6f}")
            done = await hedge_account(at, HedgeRequest(until_ms=rig.clock.now_ms() + 20_000))
            assert done.failed == 0
        rig.later(30)
        await hedge_account(at, HedgeRequest(until_ms=rig.clock.now_ms() + 60_000))
    rig.fault("alpaca", "slow", seconds=3600)
    rig.trade("MSFT", "buy", "1.25", "478.9")
    await rig.one_pass()
    rig.fault("alpaca", "refuse", times=9, status=403, code=40310000, message="insufficient buying power")
    rig.trade("NVDA", "sell", "12.5", "191.2")
    for _ in range(3):
        rig.later(400)
        await rig.one_pass()
    rig.later(4)


async def draw(folder: Path) -> None:
    """The page in both sizes."""
    with tempfile.TemporaryDirectory() as work:
        url = f"sqlite:///{work}/ledger.db"
        make_ledger(url)
        async with hedging_rig(url) as rig:
            await lived(rig)
            async with served(rig.given(), rig.store, Sessions(720)) as browser, chromium() as tab:
                address = str(browser.http.base_url).rstrip("/")
                await browser.log_in()
                await tab.open(f"{address}/login")
                await tab.submit({"key": KEY})
                while "Earned by symbol" not in (await browser.get("/hedging")).text:
                    await asyncio.sleep(0.2)
                for suffix, (width, height) in (("", DESKTOP), ("-phone", PHONE)):
                    await tab.size(width, height, phone=bool(suffix))
                    await tab.open(f"{address}/hedging")
                    await tab.picture(folder / f"desk-hedging{suffix}.png", MOST[suffix])
                assert not tab.complaints, tab.complaints


if __name__ == "__main__":
    asyncio.run(draw(IMAGES))
