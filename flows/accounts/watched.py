"""Whether there are managed accounts to watch, which deployment watches them, and the alert where none does."""

from __future__ import annotations

from flows.handover import Watch
from state.store import Store
from state.watch_models import Severity
from strategy.accounts.conditions import UNWATCHED
from tasks.accounts.alerts import WATCHES, last_watched_ms

WHAT = "the watch of the accounts"


def live(store: Store) -> list[str]:
    """Of each venue its watch, where a deployment or a trade lives there. Raises Retryable while the ledger is busy."""
    return [one for one in WATCHES if last_watched_ms(store, one) is not None]


def alarm(store: Store, subject: str, why: str) -> None:
    """Alert a person; the next tick that succeeds closes the alert."""
    text = f"managed accounts may be watched by nobody: {why}; keep `evenkeel accounts watch` running until they are"
    store.alert(UNWATCHED, Severity.CRITICAL, text, subject=subject)


def last_by(store: Store, subject: str) -> str:
    """Which process watched last, as its heartbeat says."""
    return next((str(one.detail.get("by", "")) for one in store.heartbeats() if one.name == subject), "")


ACCOUNTS = Watch(
    deployment="watch-accounts/served",
    parameter="watch",
    live=live,
    alarm=alarm,
    last_by=last_by,
)
