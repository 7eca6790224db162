"""Whether somebody goes on with what was approved, by the ledger alone: for the passes, and for who watches from outside."""

from __future__ import annotations

from evenkeel.settings.hedging import Hedging
from state.hedging.models import Rebalance, RebalanceState
from state.store import Store
from state.watch_models import Severity

LEFT = "rebalance left"
"""The alert of a rebalance that was approved and is not over, and that nobody goes on with."""


def left_after_s(hedging: Hedging) -> int:
    """So long nothing may happen to one: a go over it is kept in its row, and `auto` comes at its own times."""
    found = hedging.rebalance
    return found.stuck_s + (found.every_minutes * 60 if found.auto else 0)


def alarm_left(store: Store, hedging: Hedging) -> list[str]:
    """Alert of each that is left, once, and end the alert of each that is not any more; return the names of the first."""
    now, after_s = store.clock.now_ms(), left_after_s(hedging)
    left = [
        one
        for one in store.hedging.rebalances(open_only=True)
        if goes_on_by_itself(one) and now - one.updated_ms >= after_s * 1000
    ]
    said = {one.subject for one in store.alerts(open_only=True) if one.kind == LEFT}
    for one in left:
        if one.name not in said:
            store.alert(LEFT, Severity.CRITICAL, _words(one, now), subject=one.name)
    for name in said - {one.name for one in left}:
        store.ack_alert(LEFT, name)
    return [one.name for one in left]


def goes_on_by_itself(row: Rebalance) -> bool:
    """Whether it waits for no person, of which there are alerts of its own."""
    if row.state is RebalanceState.RUNNING:
        return not row.done.get("for_person")
    return row.state is RebalanceState.APPROVED


def _words(row: Rebalance, now_ms: int) -> str:
    steps, done = row.plan["steps"], len(row.done.get("steps", ()))
    at = (
        f"at its step {steps[done]} ({done + 1} of {len(steps)})"
        if done < len(steps)
        else "after its last step"
    )
    return (
        f"{row.name} ({row.amount:f} {row.scope} {row.direction}) stands {at}, and nobody has gone on with it for "
        f"{(now_ms - row.updated_ms) // 1000} s: `evenkeel hedging rebalance run {row.name}`"
    )
