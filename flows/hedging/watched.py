"""Which account's hedging needs a run, which deployment it has, and the alert where none does."""

from __future__ import annotations

import os
from pathlib import Path

from evenkeel.settings.rebalancing import Rebalancing
from evenkeel.settings.settings import load_settings
from flows.handover import Watch
from state.store import Store
from state.watch_models import Severity
from tasks.hedging.running.silence import UNWATCHED
from tasks.leases import described, own_name

WATCHED = "hedging:run"


def hedging_accounts() -> list[str]:
    """The broker of this host's settings, where hedging is switched on. Raises OperatorError for settings that are wrong."""
    named = os.environ.get("EVENKEEL_CONFIG")
    hedging = load_settings(Path(named) if named else None).hedging
    return [hedging.broker] if hedging.enabled else []


def rebalancing_here() -> Rebalancing | None:
    """What this host's settings say of rebalancing, where it is switched on. Raises OperatorError for wrong settings."""
    named = os.environ.get("EVENKEEL_CONFIG")
    hedging = load_settings(Path(named) if named else None).hedging
    return hedging.rebalance if hedging.enabled and hedging.rebalance.enabled else None


def live_accounts(store: Store) -> list[str]:
    """Whose hedging needs a run."""
    return hedging_accounts()


def alarm_unwatched(store: Store, account: str, why: str) -> None:
    """Raise the alert that perhaps nobody hedges."""
    store.alert(UNWATCHED, Severity.CRITICAL, f"fills may not be hedged at {account}: {why}", subject=account)


def note_run(store: Store, account: str) -> None:
    """Keep who made the last pass; what was said of nobody making any is over."""
    store.record_heartbeat(f"{WATCHED}:{account}", {"by": described(own_name())})
    if any(one.kind == UNWATCHED for one in store.open_alerts_of(account)):
        store.ack_alert(UNWATCHED, account)


def last_by(store: Store, account: str) -> str:
    """Which process made the last pass, in words."""
    name = f"{WATCHED}:{account}"
    return next((str(one.detail.get("by", "")) for one in store.heartbeats() if one.name == name), "")


ACCOUNTS = Watch(
    deployment="hedge/served",
    parameter="account",
    live=live_accounts,
    alarm=alarm_unwatched,
    last_by=last_by,
)
