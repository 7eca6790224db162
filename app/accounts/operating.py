"""How managed accounts stand and what is taken up of them, for the commands that serve every business. Values are JSON-able."""

from __future__ import annotations

import asyncio
from collections import Counter
from decimal import Decimal
from typing import Any

from evenkeel.errors import EvenkeelError, Retryable, words_of
from evenkeel.settings.settings import Settings
from state.accounts.many import LIVE
from state.accounts.store import ACCOUNTS
from state.store import Store
from strategy.accounts.share import ChargeState
from tasks.accounts.alerts import ACCOUNTS_WATCH, WATCHES, last_watched_ms
from tasks.accounts.desks import wanted_watches, watched_desk
from tasks.accounts.watcher import AccountsWatcher


def accounts_status(store: Store) -> dict[str, Any]:
    """Deployments and live trades by state, what is owed, unfinished orders, and when a watch succeeded last."""
    accounts = store.accounts
    watched = [found for one in WATCHES if (found := last_watched_ms(store, one)) is not None]
    last_ms = min(watched, default=None)
    to_pay = accounts.charges(ChargeState.DUE, ChargeState.OUTSTANDING)
    return {
        "deployments": dict(Counter(str(one.state) for one in accounts.deployments(venue=None))),
        "trades": dict(Counter(str(one.state) for one in accounts.trades(*LIVE, venue=None))),
        "to_collect_usdc": str(sum((one.usdc for one in to_pay), Decimal(0))),
        "unfinished_intents": len(store.unfinished_intents(ACCOUNTS)),
        "seconds_since_tick": None if last_ms is None else round((store.clock.now_ms() - last_ms) / 1000, 1),
    }


async def recover_accounts(settings: Settings) -> dict[str, Any]:
    """Read each venue that is switched on, and go on with every order that is under way. A fault is said and raises nothing:
    neither another venue's nor another business's recovery depends on it.
    """
    found: dict[str, Any] = {"settled": 0, "unfinished_intents": None, "faults": {}}
    for watch in wanted_watches(settings):
        try:
            async with watched_desk(settings, watch) as desk:
                report = await desk.tick()
                found["settled"] += report.settled
                found["unfinished_intents"] = len(desk.desk.store.unfinished_intents(ACCOUNTS))
                found["faults"] |= report.faults
        except EvenkeelError as fault:
            found["faults"][watch] = words_of(fault)
    return found


async def watch(settings: Settings, *, once: bool) -> dict[str, Any]:
    """Watch every trade until it is ended, each venue by itself; one watcher of a venue a ledger. Raises Retryable for one tick
    that cannot be made.
    """
    wanted = wanted_watches(settings) or [ACCOUNTS_WATCH]  # off: its desk says so

    async def one(name: str) -> dict[str, int]:
        async with (
            watched_desk(settings, name) as desk,
            desk.desk.exclusive(name, "the watch of the accounts") as fence,
        ):
            watcher = AccountsWatcher(desk, fence)
            while True:
                made = await watcher.tick()
                if once and made is None:
                    raise Retryable(
                        f"the venue or the ledger cannot be used now: the tick of {name} is left out"
                    )
                if once:
                    return watcher.done.model_dump()
                await desk.desk.clock.sleep(watcher.pace_s)

    ends = await asyncio.gather(*(one(name) for name in wanted))
    return {field: sum(end[field] for end in ends) for field in ends[0]}
