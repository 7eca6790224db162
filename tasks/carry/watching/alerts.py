"""What is kept of the danger that a position is in, and that it ends with the position."""

from __future__ import annotations

from evenkeel.legs import CARRY
from state.models import Fence
from state.store import Store
from state.watch_models import Severity
from strategy.carry.needs.listed import NEEDS
from strategy.carry.rulebook import REBALANCE_RULES, WARNINGS, WATCH_RULES
from tasks.carry.desk import CarryDesk
from tasks.carry.mark import TICKED

WATCHED_RULES = frozenset(rule.name for rule in WATCH_RULES)
"""Rules that are judged on every tick, so that silence means that their alert is over."""
REBALANCING_RULES = frozenset(rule.name for rule in REBALANCE_RULES)
"""Rules that are judged on every tick that saw both legs."""
WARNING_NAMES = frozenset(one.name for one in WARNINGS)
"""What a person is warned of early."""
NEED_NAMES = frozenset(need.name for need in NEEDS)
"""What an exit needs: read at a pace of its own while the position is open."""
UNRESOLVED = "entry unresolved"
"""The alert of an entry that is neither open nor given up."""
UNPROVED = "absence unproved"
"""The alert of a leg that its venue does not show, and of whose end there is no proof. Also the name of the breach."""
RESISTS = "leg resists closing"
"""The alert of a leg that could not be closed; before it stands which."""
HELD_BACK = "exit held back"
"""The alert of a closing that would leave one leg alone: the hedge is kept until the other can be closed as well."""
RESIZE_REFUSED = "resize refused"
"""The alert of a change of two legs that a venue does not take: both sizes, and what is done instead."""
TRANSFER = "transfer"
"""The alert of money that lies beside one leg and is wanted at the other: from, to, how much, by when, what it earns."""
RESIDUAL = "short residual"
"""The alert of a short that lacks a part too small for an order."""
NOT_WATCHED = "not watched"
"""The alert of a live position that may have no monitor."""
OF_THE_LIVING = (
    WATCHED_RULES
    | REBALANCING_RULES
    | NEED_NAMES
    | WARNING_NAMES
    | {UNRESOLVED, UNPROVED, RESIDUAL, NOT_WATCHED, HELD_BACK, RESIZE_REFUSED, TRANSFER, "rebalance"}
)
"""Alerts that say how a position stands; others say what has happened, and are closed by a person."""


def alarm_unwatched(store: Store, position_id: str, why: str) -> None:
    """Alert a person; the next tick of the position closes the alert, and so does its end."""
    text = f"{position_id} may be watched by nobody: {why}; keep `evenkeel monitor {position_id}` running until it is"
    store.alert(NOT_WATCHED, Severity.CRITICAL, text, subject=position_id)


def end_watch(desk: CarryDesk, position_id: str, fence: Fence | None = None) -> None:
    """The position ends: no breach of it runs any more, and what was said of its state is over. News stays open.

    The breach that it ends for has fired: an exit acts first and notes later.
    """
    store, why = desk.store, desk.store.carry.position(position_id).close_reason or ""
    for breach in store.running_breaches(CARRY, position_id):
        if why.startswith(f"{breach.kind}:{breach.part}:" if breach.part else f"{breach.kind}:"):
            store.breach_fire(CARRY, position_id, breach.kind, breach.part, fence)
        store.breach_clear(CARRY, position_id, breach.kind, breach.part, fence)
    desk.ticks.forget(f"{TICKED}{position_id}")
    store.forget_heartbeat(f"{TICKED}{position_id}")
    for row in store.open_alerts_of(position_id):
        if row.kind in OF_THE_LIVING or row.kind.endswith(RESISTS):
            store.ack_alert(row.kind, subject=position_id)
