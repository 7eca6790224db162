"""Draws the pictures of the web pages that the documents show: `python -m tests.pictures` (needs Chromium)."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from app.pages.sessions import Sessions
from flows.carry.daily import DailyRequest, report_the_day, send_report
from flows.carry.monitor import MonitorRequest, watch_position
from flows.carry.reconcile import reconcile_and_act
from flows.carry.scan import ScanRequest, scan_markets
from state.watch_models import Severity
from tasks import admin
from tests.browser import Tab, chromium
from tests.carry.rig import Rig, story_rig, watched
from tests.pages_rig import KEY, served

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
DESKTOP, PHONE = (1280, 800), (390, 844)
MOST = {"": 3200, "-phone": 1800}
"""Pixels from the top, by the suffix of the picture's name."""
SHOTS = {"overview": "/", "position": "/positions/{}"}
MORE = {"opportunities": "/opportunities", "alerts": "/alerts", "reports": "/reports", "login": "/login"}


async def lived(rig: Rig) -> str:
    """A position of 30 hours in a market that moves, with what an operator meets; its id."""
    position_id = await rig.entered(asset="jitoSOL", protocol=1)
    premium, price = 0.0004, 200.0
    for hour in range(30):
        premium += 0.0001 if hour % 7 < 4 else -0.00015
        price *= 1.004 if hour % 5 < 2 else 0.9968
        rig.market(premium=premium, sol_price=price)
        await rig.desk.clock.refresh()
        until_ms = rig.desk.clock.now_ms() + 3_600_000
        await watch_position(
            rig.desk, MonitorRequest(position_id=position_id, until_ms=until_ms, interval_s=300)
        )
    await watched(rig, position_id, 60)
    await reconcile_and_act(rig.desk)
    await scan_markets(rig.desk, ScanRequest())
    text = "a fill of 0.50 SOL at 198.10 USD on our account belongs to no order of ours"
    rig.desk.store.alert("foreign fill", Severity.WARNING, text, "hyperliquid 91822", news=True)
    admin.halt(rig.desk.store, "ops@host", "entries", "funding of the weekend, see the log book", 6)
    send_report(rig.desk.store, await report_the_day(rig.desk, DailyRequest()))
    await watched(rig, position_id, 60)
    return position_id


async def shoot(tab: Tab, address: str, position_id: str, folder: Path, shots: dict[str, str]) -> None:
    """Each page in both sizes."""
    for name, path in shots.items():
        for suffix, (width, height) in (("", DESKTOP), ("-phone", PHONE)):
            await tab.size(width, height, phone=bool(suffix))
            await tab.open(address + path.format(position_id))
            await tab.picture(folder / f"desk-{name}{suffix}.png", MOST[suffix])


async def main(folder: Path, more: Path | None) -> None:
    with tempfile.TemporaryDirectory() as work:
        async with story_rig(Path(work)) as rig:
            position_id = await lived(rig)
            async with served(rig.desk.settings, rig.desk.store, Sessions(720)) as browser, chromium() as tab:
                address = str(browser.http.base_url).rstrip("/")
                await tab.open(f"{address}/login")
                await tab.submit({"key": KEY})
                await shoot(tab, address, position_id, folder, SHOTS)
                if more is not None:
                    await shoot(tab, address, position_id, more, MORE)
                assert not tab.complaints, tab.complaints


if __name__ == "__main__":
    import sys

    asyncio.run(main(IMAGES, Path(sys.argv[1]) if len(sys.argv) > 1 else None))
