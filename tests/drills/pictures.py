"""Draws the pictures of Prefect's UI that the documents show: `python -m tests.drills.pictures` (needs Chromium)."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from tests.browser import Tab, chromium, until, with_text
from tests.drills.form import enter_by_form
from tests.drills.paper import Paper, asked, paper_trading
from tests.pictures import IMAGES

SIZE = (1280, 900)
FORM_PX = 1340


async def drawn(tab: Tab, address: str, text: str, path: Path, inner: str = "") -> None:
    """The page, or the `inner` one behind its tab of that name, once it shows that text and no placeholder."""
    await tab.size(*SIZE)
    await tab.open(address)
    if inner:
        await tab.click(with_text("[role=tab]", inner))
    await until(lambda: tab.evaluate(f"document.body.textContent.includes({text!r})"), f"{address}: {text}")
    await until(lambda: tab.evaluate("!document.querySelector('[data-slot=skeleton]')"), "it is drawn")
    await tab.evaluate("new Promise(done => setTimeout(done, 1500))")  # its charts move into place
    await tab.picture(path, SIZE[1])


async def draw(paper: Paper, folder: Path) -> None:
    """The form of an entry as it is filled in, its run with what it leaves, and the deployments."""
    ui = f"{paper.body['ui_url']}/v2"
    async with chromium() as tab:
        await tab.size(1280, 1400)

        async def form(name: str) -> None:
            await tab.evaluate("scrollTo(0, 0)")
            await tab.picture(folder / f"prefect-{name}.png", FORM_PX)

        await enter_by_form(tab, paper, 2000, form)
        position_id, _, _ = paper.opened()
        [run] = await until(lambda: _completed(paper), "the entry's run has completed")
        address = f"{ui}/runs/flow-run/{run['id']}"
        key = f"enter-{position_id}"
        await drawn(tab, address, key, folder / "prefect-run.png", "Artifacts")
        [left] = [one for one in asked(f"{paper.prefect}/artifacts/filter", {}) if one["key"] == key]
        await drawn(tab, f"{ui}/artifacts/artifact/{left['id']}", "Fees", folder / "prefect-entered.png")
        await drawn(tab, f"{ui}/deployments", "account-for-day", folder / "prefect-deployments.png")


async def _completed(paper: Paper) -> list[dict[str, object]]:
    runs = asked(
        f"{paper.prefect}/flow_runs/filter",
        {"flows": {"name": {"any_": ["enter"]}}, "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}},
    )
    return list(runs)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, paper_trading(Path(folder) / "up") as paper:
        asyncio.run(draw(paper, IMAGES))


if __name__ == "__main__":
    main()
