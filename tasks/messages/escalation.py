"""What nobody has answered: a critical alert that stays open is sent again, to every channel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from state.store import Store
from state.watch_models import Alert, Severity


class Escalation(NamedTuple):
    """An alert that is due again, when a person was last sent it (ms), its how manieth time since then, and how long ago."""

    alert: Alert
    said_ms: int
    number: int
    open_s: float


def due(alerts: Iterable[tuple[Alert, int]], now_ms: int, after_s: float, every_s: float) -> list[Escalation]:
    """Of the open alerts, each with the moment (ms) at which a person was last sent it, the critical ones that nobody has
    acknowledged for `after_s` since then, and again each `every_s`.
    """
    found = []
    for one, said_ms in alerts:
        open_s = (now_ms - (said_ms or one.at_ms)) / 1000
        waits = one.severity is Severity.CRITICAL and one.acked_ms is None and one.seen_ms is None
        if waits and open_s >= after_s:
            found.append(Escalation(one, said_ms, 1 + int((open_s - after_s) // every_s), open_s))
    return found


def escalate(store: Store, after_s: float, every_s: float) -> int:
    """Write the messages of what is due, each once; returns how many were new."""
    now_ms = store.clock.now_ms()
    critical = [row for row in store.alerts(open_only=True) if row.severity is Severity.CRITICAL]
    new = 0
    for one in due([(row, store.last_said(row)) for row in critical], now_ms, after_s, every_s):
        row, step = one.alert, f"{one.said_ms}/{one.number}"
        if store.has_message(f"alert/{row.id}/escalated/{step}"):
            continue
        minutes = max(1, round(one.open_s / 60))
        new += store.escalate(row.id or 0, step, f"for {minutes} min nobody has acknowledged it. {row.text}")
    return new
