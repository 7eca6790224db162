"""Two processes that hedge in one account and begin at once: each fill is hedged once, whatever ledger each of them has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from evenkeel.settings.settings import Settings
from flows.hedging.hedge import HedgeRequest, hedge_account
from flows.hedging.opened import open_hedging
from state.store import Store
from tasks.hedging.running.sole import SHARED
from tests.chaos.process import Ended, ProductProcess
from tests.databases import database, make_ledger
from tests.hedging_rig import HedgingRig, hedging_rig, host_settings
from twins.faults import App, CallName

D = Decimal
SHARES = {"AAPL": D(3), "MSFT": D(2), "NVDA": D(5)}


class Together:
    """Stands before the broker: orders wait there until so many have come, or until somebody says that no more will."""

    def __init__(self, all_of: int) -> None:
        self.all_of, self.came, self.open = all_of, 0, asyncio.Event()

    def around(self, venue: str, app: App, name_of: CallName) -> App:
        async def together(scope: Any, receive: Any, send: Any) -> None:
            is_order = scope["type"] == "http" and scope["method"] == "POST"
            if venue == "alpaca" and is_order and scope["path"].endswith("/orders"):
                self.came += 1
                if self.came >= self.all_of:
                    self.open.set()
                await self.open.wait()
            await app(scope, receive, send)

        return together


async def _hedge(settings: Settings) -> dict[str, Any]:
    """Passes until nothing is open, or until the other one is seen; on a busy machine one may not be enough."""
    async with open_hedging(settings) as at:
        store, until_ms = at.desk.store, at.desk.clock.now_ms() + 60_000

        def is_over(account: str, is_due: bool) -> bool:
            is_flat = not any(one.open_shares for one in store.hedging.exposures())
            is_seen = any(one.kind == SHARED for one in store.alerts(open_only=True))
            return is_flat or is_seen or at.desk.clock.now_ms() > until_ms

        return (await hedge_account(at, HedgeRequest(), is_over)).model_dump(mode="json")


@asynccontextmanager
async def machine(rig: HedgingRig, url: str, folder: Path) -> AsyncIterator[Path]:
    """A settings file with this ledger, on a machine of its own."""
    folder.mkdir()
    async with host_settings(rig, url, folder, limits_folder=str(folder)) as config:
        yield config


async def two_at_once(rig: HedgingRig, together: Together, first: Path, second: Path) -> list[Ended]:
    """Let two processes that are begun at once hedge."""
    pair = rig.keys["trading"]
    keys = {"EVENKEEL_ALPACA_KEY": pair["key_id"], "EVENKEEL_ALPACA_SECRET": pair["secret"]}
    rig.store.close()  # nothing of a ledger is open where a process is forked
    running = [
        ProductProcess(one.parent, "hedges", [("hedge", {})], {"hedge": _hedge}, one, keys)
        for one in (first, second)
    ]

    async def to_its_end(process: ProductProcess) -> Ended:
        found = await process.end()
        together.open.set()  # it sends no more
        return found

    ended = list(await asyncio.gather(*map(to_its_end, running)))
    assert all(one.code in (0, 1) for one in ended), [one.last_lines for one in ended]
    rig.later(30)
    rig.broker.catch_up()
    return ended


@asynccontextmanager
async def traded(url: str, together: Together) -> AsyncIterator[HedgingRig]:
    async with hedging_rig(url, around=together.around) as rig:
        rig.alpaca, rig.timeout_s = {"updates": False}, 60.0
        rig.world.clock.stepped = False
        rig.world.clock.set_speed(1.0)
        for symbol, shares in SHARES.items():
            rig.trade(symbol, "sell", str(shares))
        yield rig


@pytest.mark.timeout(900)
async def test_two_ledgers_on_two_machines_hedge_each_fill_once(tmp_path: Path) -> None:
    together, other = Together(2 * len(SHARES)), f"sqlite:///{tmp_path}/other.db"
    with database("sqlite", tmp_path) as url:
        make_ledger(other)
        async with (
            traded(url, together) as rig,
            machine(rig, url, tmp_path / "one") as first,
            machine(rig, other, tmp_path / "two") as second,
        ):
            ended = await two_at_once(rig, together, first, second)
            assert together.came == 2 * len(SHARES), [one.last_lines for one in ended]
            assert rig.shares_at_broker() == SHARES and len(rig.account.orders) == len(SHARES)
            theirs = Store.open(other, rig.clock)
            try:
                ledgers = (rig.store, theirs)
                said = [one.kind for ledger in ledgers for one in ledger.alerts(open_only=True)]
                assert SHARED in said, "whoever came second knows that it is not alone"
                for (
                    ledger
                ) in ledgers:  # an order is in the books of both, so that neither hedges its fill again
                    assert {one.subject for one in ledger.hedging.orders()} == set(SHARES)
            finally:
                theirs.close()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_one_ledger_lets_one_of_two_hedge(kind: str, tmp_path: Path) -> None:
    together = Together(len(SHARES) + 1)
    with database(kind, tmp_path) as url:
        async with (
            traded(url, together) as rig,
            machine(rig, url, tmp_path / "one") as first,
            machine(rig, url, tmp_path / "two") as second,
        ):
            ended = await two_at_once(rig, together, first, second)
            said = [(one.code, one.answers, one.last_lines) for one in ended]
            assert rig.shares_at_broker() == SHARES and together.came == len(SHARES), said
            assert sorted(one.code for one in ended) == [0, 1]
            [refused] = [one for one in ended if one.code]
            assert "is being handled by" in str(refused.answers or refused.err)
