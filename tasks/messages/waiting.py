"""How the delivery of messages stands, for `doctor` and the metrics."""

from __future__ import annotations

import math

from evenkeel.settings.settings import Settings
from state.outbox import Pending
from state.outbox_models import MessageKind
from state.store import Store
from tasks.messages.choose import quiet_at
from tasks.messages.sender import HEARTBEAT, JOINED, wall_ms


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
