"""Draws the pictures of the page for users that the documents show: `python -m tests.pictures_accounts` (needs Chromium)."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from tests.pictures import DESKTOP, IMAGES, PHONE
from tests.wallet_rig import button, on_page, press, said

MOST = {"accounts": 3000, "accounts-phone": 1800}
"""Pixels from the top, by the name of the picture."""


async def draw(folder: Path) -> None:
    """A user who has signed the three steps and has a trade open, in both sizes."""
    with tempfile.TemporaryDirectory() as ledger:
        async with on_page(Path(ledger)) as (rig, _, tab):
            await tab.size(*DESKTOP)
            await tab.open(rig.address + "/")
            await press(tab, button("Connect Test wallet"))
            await said(tab, "Connected.")
            await press(tab, button("Choose trend"))
            await said(tab, "Stored.")
            for place in (1, 2, 3):
                await press(tab, button(f"Sign step {place}"))
                await said(tab, f"Step {place} is signed" if place < 3 else "The agent trades for you now")
            await press(tab, button("Open"))
            await said(tab, "Opened")
            await tab.evaluate("document.getElementById('says').style.position = 'static'")
            for name, size in (("accounts", DESKTOP), ("accounts-phone", PHONE)):
                await tab.size(*size, phone=name.endswith("phone"))
                await tab.picture(folder / f"{name}.png", MOST[name])


if __name__ == "__main__":
    asyncio.run(draw(IMAGES))
