"""Which desk each watch of managed accounts has, and which watches the settings ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from evenkeel.errors import OperatorError
from evenkeel.settings.settings import Settings
from tasks.accounts.alerts import ACCOUNTS_WATCH, HYPERLIQUID_WATCH, WATCHES
from tasks.accounts.desk import AccountsDesk, accounts_desk
from tasks.accounts.hyperliquid.desk import HyperliquidAccountsDesk, hyperliquid_accounts_desk
from tasks.desk import opened_ledger

AnyDesk = AccountsDesk | HyperliquidAccountsDesk


@asynccontextmanager
async def watched_desk(settings: Settings, watch: str) -> AsyncIterator[AnyDesk]:
    """The desk of a watch on this host's ledger and clock, closed at the end. Raises OperatorError for a name that is none, and
    as the desks do.
    """
    if watch not in WATCHES:
        raise OperatorError(f"there is no watch {watch!r}: give one of {', '.join(WATCHES)}")
    async with opened_ledger(settings) as store:
        if watch == HYPERLIQUID_WATCH:
            async with hyperliquid_accounts_desk(settings, store.clock, store) as guarding:
                yield guarding
            return
        async with accounts_desk(settings, store.clock, store) as trading:
            yield trading


def wanted_watches(settings: Settings) -> list[str]:
    """The watches of the venues that are switched on."""
    on = {ACCOUNTS_WATCH: settings.ostium.enabled, HYPERLIQUID_WATCH: settings.agents.enabled}
    return [one for one in WATCHES if on[one]]
