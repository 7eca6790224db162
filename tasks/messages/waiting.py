"""How the delivery of messages stands, for `doctor`, the watchdog and the metrics."""

from __future__ import annotations

import math

from evenkeel.settings.settings import Settings
from state.outbox import Pending
from state.outbox_models import MessageKind
from state.store import Store
from state.watch_models import Severity
from tasks.messages.choose import quiet_at, urgency
from tasks.messages.connect import named_channels
from tasks.messages.sender import HEARTBEAT, JOINED, wall_ms

SILENT_S = 60.0
"""How long after its last sign of life a sender counts as dead: it gives one each ten seconds."""
UNHEARD_S = 900.0
"""How long a critical message may wait at every channel."""


def waiting_for(store: Store, channel: str) -> list[Pending]:
    """What a channel has still to deliver, oldest first; nothing before it was first used. A chart that waits is left out: its
    text was sent.
    """
    joined = store.checkpoint(f"{JOINED}{channel}")
    rows = store.pending(channel, int(joined.detail.get("after", 0))) if joined else []
    return [one for one in rows if one.message.kind is not MessageKind.CHART]


def quiet_now(settings: Settings) -> bool:
    """Whether it is quiet by the time of people."""
    return quiet_at(settings, wall_ms())


def sender_faults(store: Store) -> dict[str, str]:
    """What does not work at the sender by its last sign of life, by name."""
    for row in store.heartbeats():
        if row.name == HEARTBEAT:
            return {str(name): str(why) for name, why in dict(row.detail.get("faults") or {}).items()}
    return {}


def silent_s(store: Store) -> float:
    """Wall seconds since the sender's last sign of life; infinite where there never was one."""
    for row in store.heartbeats():
        if row.name == HEARTBEAT:
            return max(0.0, (wall_ms() - float(row.detail.get("wall_ms", 0))) / 1000)
    return math.inf


def unheard(settings: Settings, store: Store) -> str:
    """Why nobody would hear of an alert now, though channels are set: no sender lives, or none of them takes what is critical.
    Empty where somebody hears, and where there is no channel.
    """
    names = named_channels(settings)
    if not names:
        return ""
    silent = silent_s(store)
    if silent > SILENT_S:
        since = "has never run" if math.isinf(silent) else f"was last alive {silent / 60:.0f} min ago"
        return f"the sender {since}"
    waits = min(_critical_waits_s(store, name) for name in names)
    return (
        f"a critical message has waited for {waits / 60:.0f} min at every channel"
        if waits > UNHEARD_S
        else ""
    )


def _critical_waits_s(store: Store, channel: str) -> float:
    """How long the oldest critical message has waited at a channel; 0 where none does."""
    now_ms = store.clock.now_ms()
    waiting = (one.message for one in waiting_for(store, channel))
    ages = [now_ms - one.at_ms for one in waiting if urgency(one) == Severity.CRITICAL.rank]
    return max(ages, default=0) / 1000
