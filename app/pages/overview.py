"""What the overview says: every live position as it was last seen, what is open for a person, and what refuses entries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, time
from decimal import Decimal
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from app.pages.reader import Ledger, Newest
from app.pages.rows import alert_row, last_tick, pause_row, position_row
from evenkeel.clock import as_datetime
from evenkeel.legs import CARRY, LegSide
from evenkeel.settings.settings import Settings
from state.carry.models import Position
from strategy.carry.liquidation import exit_distance, rebalance_distance, reference_distance
from tasks.carry.books.as_seen import SeenAccount, seen_account
from tasks.carry.books.report_reading import Booked, read_booked
from tasks.carry.last_ticks import rows_of
from tasks.carry.mark import LIVE, TICKED

RESULT_KEPT_MS = 300_000
"""How long an account is shown before it is made again: it reads every look of a position's life."""
MOST_KEPT = 500
"""Positions whose accounts are kept."""


@dataclass
class Results:
    """The account of each position as it was last made. Making one reads for seconds: the overview shows what there is."""

    settings: Settings
    _kept: Newest[str, tuple[int, int, SeenAccount | None]] = field(default_factory=lambda: Newest(MOST_KEPT))

    def of(self, position: Position) -> SeenAccount | None:
        """Return the account as it was last made; None before the first."""
        kept = self._kept.get(position.position_id)
        return None if kept is None else kept[2]

    def due(self, ledger: Ledger) -> list[Position]:
        """Return live positions that have moved since their account was made, or whose account is some minutes old."""
        now_ms = ledger.clock.now_ms()
        return [one for one in ledger.store.carry.positions(LIVE) if self._is_due(one, now_ms)]

    def shown(self, ledger: Ledger) -> dict[str, Any]:
        """Return the overview. Raises EvenkeelError where the ledger cannot be read."""
        return overview(ledger, self)

    def makers(self, ledger: Ledger) -> list[Callable[[Ledger], object]]:
        """Return a call for each account that is due."""
        return [partial(self.make, position=one) for one in self.due(ledger)]

    def _is_due(self, position: Position, now_ms: int) -> bool:
        made_ms, moved_ms, found = self._kept.get(position.position_id) or (0, -1, None)
        return moved_ms != position.updated_ms or not 0 <= now_ms - made_ms < RESULT_KEPT_MS or found is None

    def make(self, ledger: Ledger, position: Position, booked: Booked | None = None) -> SeenAccount | None:
        """Make the account of a position, from what was read of it, if given, and keep it."""
        now_ms = ledger.clock.now_ms()
        found = seen_account(booked or read_booked(ledger, position), day_began_ms(self.settings, now_ms))
        self._kept.put(position.position_id, (now_ms, position.updated_ms, found))
        return found


def day_began_ms(settings: Settings, now_ms: int) -> int:
    """When the day began, by the clock of `reports.timezone`."""
    zone = ZoneInfo(settings.reports.timezone)
    today = as_datetime(now_ms).astimezone(zone).date()
    return int(datetime.combine(today, time(), zone).timestamp() * 1000)


def overview(ledger: Ledger, results: Results) -> dict[str, Any]:
    """Return everything that the overview shows. Raises EvenkeelError where the ledger cannot be read."""
    store = ledger.store
    open_alerts = alerts_and_pauses(ledger)
    live = store.carry.positions(LIVE)
    return open_alerts | {
        "at_ms": store.clock.now_ms(),
        "timezone": ledger.settings.reports.timezone,
        "positions": position_rows(ledger, results, live),
        "unfinished": [
            {"intent_id": one.intent_id, "state": one.state, "venue": one.venue, "kind": one.kind}
            for one in store.unfinished_intents(CARRY)
        ],
    }


def alerts_and_pauses(ledger: Ledger) -> dict[str, Any]:
    """Return what is open for a person, the worst first, and what refuses entries: by a person, and by a breaker."""
    store = ledger.store
    rows = sorted(store.alerts(open_only=True), key=lambda row: (-row.severity.rank, row.at_ms))
    pauses = store.active_pauses()
    return {
        "alerts": [alert_row(one) for one in rows],
        "pauses": [pause_row(one) for one in pauses if one.breaker is None],
        "breakers": [pause_row(one) | {"name": one.breaker} for one in pauses if one.breaker is not None],
    }


def position_rows(ledger: Ledger, results: Results, positions: list[Position]) -> list[dict[str, Any]]:
    """Return each position with its last look, its distances against their limits, and what it has earned."""
    store = ledger.store
    seen = {row["position_id"]: row for row in rows_of(store, ledger.settings)}
    by = {
        one.name.removeprefix(TICKED): one.detail.get("by")
        for one in store.heartbeats()
        if one.name.startswith(TICKED)
    }
    return [
        position_row(one)
        | last_tick(store, one, seen.get(one.position_id))
        | {
            "watched_by": by.get(one.position_id),
            "distances": _distances(ledger, one),
            "result": results.of(one),
        }
        for one in positions
    ]


def _distances(ledger: Ledger, position: Position) -> list[dict[str, Any]]:
    """Of each leg: the distance now, where it is resized and where it is closed, and its distance at entry, in per cent."""
    last = ledger.store.carry.last_snapshot(position.position_id)
    at_entry = position.facts.get("entry_distance", {})
    rows = []
    for side in LegSide:
        now = None if last is None else getattr(last, f"{side.value}_liquidation_distance")
        given = at_entry.get(side.value)
        entry = None if given is None else Decimal(str(given))
        risk = ledger.settings.limits
        rows.append(
            {
                "leg": side.value,
                "now_pct": _percent(now),
                "exit_pct": _percent(None if entry is None else exit_distance(entry, risk)),
                "resize_pct": _percent(None if entry is None else rebalance_distance(entry, risk)),
                "entry_pct": _percent(entry),
                "full_pct": _percent(None if entry is None else reference_distance(entry, risk)),
            }
        )
    return rows


def _percent(value: Decimal | None) -> float | None:
    return None if value is None else round(float(value) * 100, 4)
