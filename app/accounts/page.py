"""What the desk's page of managed accounts says: trades, charges, deployments and how they are watched, by the ledger alone."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from app.pages.reader import Ledger
from app.pages.rows import alert_row, pause_row
from evenkeel.settings.settings import Settings
from state.accounts.many import HYPERLIQUID, LIVE, OSTIUM
from state.accounts.models import AccountTrade, DeploymentState
from state.store import Store
from strategy.accounts.share import ChargeState
from tasks.accounts.alerts import WATCHES, last_watched_ms
from tasks.accounts.desks import wanted_watches
from tasks.accounts.hyperliquid.booking import coin_of
from tasks.accounts.meanings import MEANINGS
from tasks.admin import ALL, ENTRIES
from tasks.messages.compose import load_meanings

MOST = 100
"""Rows of each table; the rest is counted."""
TO_PAY = (ChargeState.DUE, ChargeState.OUTSTANDING)


class AccountsWork:
    """What is read for the page each time; nothing is made beside it."""

    def __init__(self) -> None:
        self._kinds = frozenset(load_meanings(MEANINGS))

    def shown(self, ledger: Ledger) -> dict[str, Any]:
        """Return everything that the page shows. Raises EvenkeelError where the ledger cannot be read."""
        return accounts_page(ledger, self._kinds)

    def makers(self, ledger: Ledger) -> list[Callable[[Ledger], object]]:
        """Return nothing to be made."""
        return []


def accounts_page(ledger: Ledger, kinds: frozenset[str]) -> dict[str, Any]:
    """Return the page: `trades` that are not over, `charges` newest first, `deployments`, with how many there are."""
    store, settings = ledger.store, ledger.settings
    accounts, now_ms = store.accounts, store.clock.now_ms()
    alerts = [one for one in store.alerts(open_only=True) if one.kind in kinds]
    alerts.sort(key=lambda row: (-row.severity.rank, row.at_ms))
    agents = {one.agent_id: one for one in accounts.agents()}
    deployments = accounts.deployments(venue=None)
    order = (DeploymentState.ACTIVE, DeploymentState.PAUSED, DeploymentState.REVOKED)
    deployments.sort(key=lambda one: (order.index(one.state), -one.created_ms))
    trades = sorted(accounts.trades(*LIVE, venue=None), key=lambda one: -one.updated_ms)
    charges = sorted(accounts.charges(), key=lambda one: (one.state not in TO_PAY, -one.created_ms))
    owed = sum((one.usdc for one in charges if one.state in TO_PAY), Decimal(0))
    scopes = (ALL, ENTRIES, OSTIUM)
    return {
        "at_ms": now_ms,
        "enabled": settings.has_accounts,
        "watches": _watches(store, settings, now_ms),
        "alerts": [alert_row(one) for one in alerts],
        "pauses": [pause_row(one) for one in store.active_pauses() if one.scope in scopes],
        "owed_usdc": owed,
        "result_usdc": sum((one.result_usdc for one in deployments), Decimal(0)),
        "trades_in_all": len(trades),
        "trades": [_trade(settings, one) for one in trades[:MOST]],
        "charges_in_all": len(charges),
        "charges": [
            {
                "charge_id": one.charge_id,
                "at_ms": one.created_ms,
                "account": one.account,
                "base_usdc": one.base_usdc,
                "usdc": one.usdc,
                "state": str(one.state),
                "why": one.why,
                "transaction": one.transaction or "",
            }
            for one in charges[:MOST]
        ],
        "deployments_in_all": len(deployments),
        "deployments": [
            {
                "deployment_id": one.deployment_id,
                "account": one.account,
                "agent": one.agent_id,
                "venue": agents[one.agent_id].venue,
                "share": agents[one.agent_id].share,
                "state": str(one.state),
                "result_usdc": one.result_usdc,
            }
            for one in deployments[:MOST]
        ],
    }


def _watches(store: Store, settings: Settings, now_ms: int) -> list[dict[str, Any]]:
    """Each watch that the settings ask for, and how long ago it succeeded; None where it never has."""
    found = []
    for name in wanted_watches(settings):
        last_ms = last_watched_ms(store, name)
        ago = None if last_ms is None else max(0, now_ms - last_ms) / 1000
        late = ago is not None and ago > float(settings.watchdog.after_s)
        found.append({"venue": WATCHES[name], "seconds_since_tick": ago, "late": late})
    return found


def _trade(settings: Settings, one: AccountTrade) -> dict[str, Any]:
    markets = settings.ostium.markets
    return {
        "name": one.name,
        "account": one.account,
        "venue": one.venue,
        "market": coin_of(one) if one.venue == HYPERLIQUID else markets.get(one.pair, str(one.pair)),
        "side": "long" if one.is_long else "short",
        "by": str(one.origin).lower(),
        "state": str(one.state),
        "leverage": one.leverage,
        "paid_usdc": one.paid_usdc,
        "open_price": one.open_price,
        "stop": one.stop,
        "stop_by": one.stop_by,
        "opened_ms": one.opened_ms,
    }
