"""What a process of the product may be asked to do for a managed account: the functions behind the commands."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from app.accounts import actions, operating
from app.accounts.limits import Asked
from app.accounts.operating import accounts_status
from evenkeel.settings.settings import Settings
from state.store import Store
from tasks.accounts.alerts import ACCOUNTS_WATCH
from tasks.accounts.desks import watched_desk
from tasks.accounts.watcher import AccountsWatcher
from tasks.desk import make_clock
from tests.chaos.process import StepFunction


async def _open(settings: Settings) -> dict[str, Any]:
    terms = ("SOL/USD", "long", Decimal(100), Decimal(3), 100)
    return await actions.open_trade(settings, "d0", *terms, "t1")


async def _limit(settings: Settings, price: str = "150.5") -> dict[str, Any]:
    """At this price it is executed at once, at a lower one it waits."""
    terms = ("SOL/USD", "long", Decimal(100), Decimal(3), 100)
    return await actions.open_trade(settings, "d0", *terms, "t1", limit=Decimal(price))


async def _cancel(settings: Settings) -> dict[str, Any]:
    return await actions.cancel_order(settings, "t1")


async def _close(settings: Settings, share: str = "1") -> dict[str, Any]:
    return await actions.close_trade(settings, "t1", Decimal(share), 100)


async def _watch(settings: Settings) -> dict[str, Any]:
    return await operating.watch(settings, once=True)


async def _collect(settings: Settings) -> dict[str, Any]:
    return await actions.collect(settings)


async def _deploy(settings: Settings) -> dict[str, Any]:
    """A second agent with the same key, and the user of the bed deployed with it."""
    with actions.ledger(settings) as store:
        user = store.accounts.deployment("d0").account
    await actions.add_agent(settings, "second", None)
    return await actions.deploy(settings, user, "second", Asked(Decimal(200), Decimal(5), 200))


async def tend(settings: Settings, ticks: int, apart_s: float, watch: str = ACCOUNTS_WATCH) -> dict[str, Any]:
    """What a supervised process does: the watch, for so many ticks of world time."""
    async with (
        watched_desk(settings, watch) as desk,
        desk.desk.exclusive(watch, "the watch of the accounts") as fence,
    ):
        watcher = AccountsWatcher(desk, fence)
        for _ in range(ticks):
            await desk.desk.clock.sleep(apart_s)
            await watcher.tick()
        return watcher.done.model_dump()


async def _status(settings: Settings) -> dict[str, Any]:
    store = Store.open(settings.database.url, make_clock(settings))
    try:
        await store.clock.refresh()
        return accounts_status(store)
    finally:
        store.close()


STEPS: dict[str, StepFunction] = {
    "open": _open,
    "limit": _limit,
    "cancel": _cancel,
    "close": _close,
    "watch": _watch,
    "collect": _collect,
    "deploy": _deploy,
    "tend": tend,
    "status": _status,
}
