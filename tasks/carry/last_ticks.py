"""When each live position was last seen to by somebody, and which by nobody for too long.

A look of the watch counts, and so does a step of an order: an entry or a close that is under way is somebody at work. The same
rule serves `evenkeel watchdog`, `recover`, `doctor` and `status`.
"""

from __future__ import annotations

from typing import Any

from evenkeel.legs import CARRY
from evenkeel.settings.settings import Settings
from evenkeel.types import Frozen
from state.store import Store
from tasks.carry.mark import LIVE, TICKED
from tasks.carry.watching.alerts import alarm_unwatched


class LastTick(Frozen):
    """A live position and when somebody last looked at it or moved an order of it, ms UTC. `age_s`: seconds since then."""

    position_id: str
    status: str
    last_ms: int
    age_s: float

    def is_overdue(self, after_s: float) -> bool:
        """Whether nobody has for longer than this."""
        return self.age_s > after_s


def overdue_after_s(settings: Settings) -> float:
    """Seconds without a look after which a position counts as not watched: `watchdog.after_s`, or three times the pace that the
    monitor was given where that is slower.
    """
    return max(float(settings.watchdog.after_s), 3 * float(settings.strategy.poll_interval_s))


def last_ticks(store: Store) -> list[LastTick]:
    """Every live position, oldest first. Raises Retryable while the ledger is busy."""
    now_ms = store.clock.now_ms()
    ticked = {
        one.name.removeprefix(TICKED): one.at_ms for one in store.heartbeats() if one.name.startswith(TICKED)
    }
    found = []
    for position in store.carry.positions(LIVE):
        name = position.position_id
        orders = [one.updated_ms for one in store.intents_of(CARRY, name)]
        last_ms = max(position.created_ms, ticked.get(name, 0), *orders)
        age_s = max(0, now_ms - last_ms) / 1000
        found.append(LastTick(position_id=name, status=position.status, last_ms=last_ms, age_s=age_s))
    return found


def overdue(store: Store, after_s: float) -> list[LastTick]:
    """Every live position that nobody has looked at for so long, oldest first."""
    return [one for one in last_ticks(store) if one.is_overdue(after_s)]


def alarm_overdue(store: Store, after_s: float) -> list[LastTick]:
    """Alert a person to each live position that nobody has looked at for so long; return these. The next
    look of a monitor closes the alert.
    """
    found = overdue(store, after_s)
    for one in found:
        why = f"nobody has looked at it for {one.age_s:.0f} s, at most {after_s:.0f} s are allowed"
        alarm_unwatched(store, one.position_id, why)
    return found


def rows_of(store: Store, settings: Settings) -> list[dict[str, Any]]:
    """Every live position with its last look, JSON-able."""
    after = overdue_after_s(settings)
    return [
        {
            "position_id": one.position_id,
            "status": one.status,
            "seconds_since_tick": round(one.age_s, 1),
            "watched": not one.is_overdue(after),
        }
        for one in last_ticks(store)
    ]
