"""What a process of the product may be asked to do for an account on Hyperliquid: the functions behind the commands."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import Any

from app.accounts import actions, operating
from evenkeel.errors import OperatorError
from evenkeel.settings.settings import Settings
from state.accounts.many import HELD, HYPERLIQUID
from tasks.accounts.alerts import HYPERLIQUID_WATCH
from tests.agents_rig import Person
from tests.chaos.accounts.steps import STEPS as OF_ACCOUNTS
from tests.chaos.accounts.steps import tend
from tests.chaos.process import StepFunction

SECOND = Person(None, "0x" + "62" * 32).address  # type: ignore[arg-type]


async def _agent(settings: Settings) -> dict[str, Any]:
    """One tick of the watch."""
    return await operating.watch(settings, once=True)


async def _close(settings: Settings, share: str = "1") -> dict[str, Any]:
    """Close a share of the one trade that is held."""
    with actions.ledger(settings) as store:
        held = store.accounts.trades(*HELD, venue=HYPERLIQUID)
    if len(held) != 1:
        raise OperatorError(f"{len(held)} trades are held, not one")
    return await actions.close_trade(settings, held[0].name, Decimal(share), 100)


async def _deploy(settings: Settings) -> dict[str, Any]:
    """The second user is guarded too."""
    return await actions.deploy(settings, SECOND, "night")


STEPS: dict[str, StepFunction] = {
    "agent": _agent,
    "close": _close,
    "deploy": _deploy,
    "tend": partial(tend, watch=HYPERLIQUID_WATCH),
    "status": OF_ACCOUNTS["status"],
}
