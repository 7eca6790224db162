"""How managed accounts stand and what is taken up of them, for the commands that serve every business. Values are JSON-able."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

from evenkeel.errors import EvenkeelError, words_of
from evenkeel.settings.settings import Settings
from state.accounts.many import LIVE
from state.accounts.store import ACCOUNTS
from state.store import Store
from strategy.accounts.share import ChargeState
from tasks.accounts.alerts import last_watched_ms
from tasks.accounts.desk import open_accounts_desk


def accounts_status(store: Store) -> dict[str, Any]:
    """Deployments and live trades by state, what is owed, unfinished orders, and when somebody watched last."""
    accounts, last_ms = store.accounts, last_watched_ms(store)
    to_pay = accounts.charges(ChargeState.DUE, ChargeState.OUTSTANDING)
    return {
        "deployments": dict(Counter(str(one.state) for one in accounts.deployments())),
        "trades": dict(Counter(str(one.state) for one in accounts.trades(*LIVE))),
        "to_collect_usdc": str(sum((one.usdc for one in to_pay), Decimal(0))),
        "unfinished_intents": len(store.unfinished_intents(ACCOUNTS)),
        "seconds_since_tick": None if last_ms is None else round((store.clock.now_ms() - last_ms) / 1000, 1),
    }


async def recover_accounts(settings: Settings) -> dict[str, Any]:
    """Read the chain, and go on with every order that is under way. A fault is said and raises nothing: another business's
    recovery does not depend on it.
    """
    try:
        async with open_accounts_desk(settings) as desk:
            report = await desk.tick()
            left = len(desk.desk.store.unfinished_intents(ACCOUNTS))
            return {"settled": report.settled, "unfinished_intents": left, "faults": report.faults}
    except EvenkeelError as fault:
        return {"settled": 0, "unfinished_intents": None, "faults": {"accounts": words_of(fault)}}
