"""The desk's page of managed accounts: what it shows of a ledger that the twin has filled, and where there is no way to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from evenkeel.settings.settings import Settings
from tasks.accounts.watcher import AccountsWatcher
from tests.agents_rig import AgentsRig, agents_rig, bought
from tests.pages_rig import served


async def lived(rig: AgentsRig) -> None:
    """One trade is closed with a profit, another is open and guarded; a third user has taken his leave back."""
    first, second, third = rig.users
    watcher = AccountsWatcher(rig.desk)
    for one in (first, second):
        bought(one)
    rig.later(10)
    await watcher.tick()
    rig.price("210")
    first.trade(is_buy=False, size="5", price="150", reduce_only=True)
    rig.revoke(third)
    rig.later(1_000)
    await watcher.tick()
    rig.later(10)
    await watcher.tick()


async def test_it_shows_trades_charges_deployments_and_how_they_are_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with agents_rig(tmp_path, monkeypatch, users=3) as rig:
        await lived(rig)
        trade, [charge] = rig.only(), rig.store.accounts.charges()
        async with served(rig.settings, rig.store) as browser:
            assert (await browser.get("/accounts/stream")).status_code == 401
            await browser.log_in()
            answer = await browser.get("/accounts")
            text = answer.text
            for word in (
                "Hyperliquid: watched", trade.name, trade.account, "SOL", f"{trade.stop:f}", "<td data-label=\"side\">long",
                charge.charge_id, "STATEMENT", f"{round(charge.usdc, 6).normalize():f}",
                "delegate revoked", "REVOKED", "ACTIVE", ">10 %<",
            ):  # fmt: skip
                assert word in text, word
            assert "unknown" not in text and "off in the settings" not in text
            assert '<a href="/accounts"' in (await browser.get("/")).text


async def test_where_accounts_are_off_there_is_no_way_to_it_and_the_page_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with agents_rig(tmp_path, monkeypatch) as rig:
        off = Settings(database=rig.settings.database.model_dump())
        async with served(off, rig.store) as browser:
            await browser.log_in()
            assert '<a href="/accounts"' not in (await browser.get("/")).text
            text = (await browser.get("/accounts")).text
            assert "Managed accounts are off in the settings" in text and "No trade is open" in text
