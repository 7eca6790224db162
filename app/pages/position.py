"""What the page of one position says: its result, legs, orders, the comparison of books and venues, and what happened when."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from app.pages.overview import Results, day_began_ms, position_rows
from app.pages.reader import Ledger, Newest
from app.pages.rows import alert_row, legs_of
from evenkeel.errors import EvenkeelError
from evenkeel.types import VenueName
from state.carry.models import Position
from state.fleet.member import named
from state.models import Attempt, Intent
from tasks.carry.books.as_seen import SeenAccount, seen_account
from tasks.carry.books.reconcile import ALARMS
from tasks.carry.books.report import life_events, life_snapshots, long_events, paid_in, short_fills
from tasks.carry.books.report_reading import Booked, read_booked
from tasks.carry.mark import REPORTED

SHOWN = 200
"""Lines of the timeline."""
REDRAWN_MS = 300_000
MOST_PICTURES = 60
"""Pictures that are kept: some hundred kB each."""


class Unknown(EvenkeelError):
    """There is no such position."""


def find(ledger: Ledger, position_id: str) -> Position:
    """Return the position. Raises Unknown."""
    found = ledger.store.carry.find_position(position_id)
    if found is None:
        raise Unknown(f"there is no position {position_id!r}")
    return found


def position_page(ledger: Ledger, results: Results, position_id: str) -> dict[str, Any]:
    """Return everything that the page shows. Raises Unknown, and EvenkeelError where the ledger cannot be read."""
    from analytics.carry.report import trades_of

    position = find(ledger, position_id)
    booked = read_booked(ledger, position)
    report = last_report(ledger, position)
    results.make(ledger, position, booked)
    [row] = position_rows(ledger, results, [position])
    return {
        "at_ms": booked.now_ms,
        "timezone": ledger.settings.reports.timezone,
        "row": row,
        "legs": legs_of(ledger.store, position),
        "intents": [_intent_row(one, booked.attempts[one.intent_id]) for one in booked.intents],
        "trades": trades_of(long_events(booked), short_fills(booked), position.asset),
        "compared": compared(ledger, position),
        "timeline": _timeline(ledger, booked),
        "has_life": bool(booked.snapshots),
        "items": _items(row["result"], report),
        "report": report,
    }


def last_report(ledger: Ledger, position: Position) -> dict[str, Any] | None:
    """Return the newest account of a position for which both venues were asked; None before the first."""
    kept = ledger.store.checkpoint(f"{REPORTED}{position.position_id}")
    return None if kept is None else kept.detail | {"at_ms": kept.at_ms}


def _intent_row(intent: Intent, attempts: list[Attempt]) -> dict[str, Any]:
    return {
        "intent_id": intent.intent_id,
        "leg": intent.part,
        "venue": intent.venue,
        "kind": intent.kind,
        "state": intent.state.value,
        "failure": intent.failure,
        "created_ms": intent.created_ms,
        "updated_ms": intent.updated_ms,
        "attempts": [
            {
                "n": one.n,
                "outcome": one.outcome.value,
                "sends": one.sends,
                "proof": one.evidence,
                "sent_ms": one.sent_ms,
            }
            for one in attempts
        ],
    }


def compared(ledger: Ledger, position: Position) -> dict[str, Any]:
    """Return when books and venues were last compared, and what stands between them since: alerts about this position's
    venues.
    """
    store = ledger.store
    venues = []
    for venue in (VenueName.HYPERLIQUID, VenueName.ASGARD):
        name, account = f"reconcile:{venue.value}", ledger.settings.account_of(position.short_account)
        kept = store.checkpoint(named(name, account) if account else name)
        venues.append(
            {
                "venue": venue.value,
                "at_ms": None if kept is None else kept.at_ms,
                "rows": None if kept is None else kept.detail.get("rows"),
            }
        )
    legs = [leg.ref for leg in store.carry.legs(position.position_id)]
    alerts = [
        alert_row(one)
        for one in store.alerts(open_only=True)
        if one.subject == position.position_id
        or (one.kind in ALARMS.values() and any(ref in one.subject for ref in legs))
    ]
    return {"venues": venues, "alerts": alerts}


def _timeline(ledger: Ledger, booked: Booked) -> list[dict[str, Any]]:
    """Moves of the position, of its legs and orders, and what people were sent of it, the newest first."""
    store, name = ledger.store, booked.position.position_id
    moves = [
        *store.transitions("position", name),
        *booked.leg_moves,
        *(move for one in booked.intents for move in store.transitions("intent", one.intent_id)),
    ]
    rows: list[dict[str, Any]] = [
        {
            "at_ms": one.at_ms,
            "order": (one.at_ms, 0, one.id or 0),
            "what": f"{one.entity} {one.entity_id.removeprefix(name).lstrip('/') if one.entity != 'intent' else one.entity_id}",
            "text": f"{one.from_state or 'new'} → {one.to_state}",
            "note": one.note,
        }
        for one in moves
    ] + [
        {
            "at_ms": one.at_ms,
            "order": (one.at_ms, 1, one.id or 0),
            "what": f"message, {one.severity.value}",
            "text": f"{one.kind.value}: {one.about}",
            "note": one.text,
        }
        for one in store.messages(thread=name)
    ]
    return sorted(rows, key=lambda row: row["order"], reverse=True)[:SHOWN]


def _items(found: SeenAccount | None, report: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Every item of the result by its group, as the report names it, beside what the last report said."""
    from analytics.carry.words import GROUPS, ITEM_MEANINGS, ITEM_NAMES

    if found is None:
        return []
    items = found.attribution.items
    reported = {name: Decimal(value) for name, value in report["attribution"].items()} if report else {}

    def line(name: str, usd: Decimal, theirs: Decimal | None, meaning: str = "") -> dict[str, Any]:
        return {"name": name, "usd": usd, "reported": theirs, "meaning": meaning, "is_sum": not meaning}

    rows: list[dict[str, Any]] = []
    for group, names in GROUPS.items():
        rows += [
            line(ITEM_NAMES[name], items[name], reported.get(name), ITEM_MEANINGS[name]) for name in names
        ]
        theirs = sum((reported[name] for name in names), Decimal(0)) if reported else None
        rows.append(line(group, sum((items[name] for name in names), Decimal(0)), theirs))
    return [*rows, line("net result", found.attribution.net_usd, reported.get("net_usd"))]


class Pictures:
    """Charts as SVG, kept until there is something new to draw. Drawing takes a second of a processor: call it in a thread."""

    def __init__(self) -> None:
        self._kept: Newest[tuple[str, str], tuple[tuple[int, int], str]] = Newest(MOST_PICTURES)

    def life(self, ledger: Ledger, position_id: str) -> str:
        """Return the life of a position. Raises Unknown where nothing was seen of it."""
        from analytics.carry.charts import as_svg, life_chart

        booked = read_booked(ledger, find(ledger, position_id))
        seen = life_snapshots(booked.snapshots, paid_in(booked))
        if not seen:
            raise Unknown(f"nobody has looked at {position_id} yet: there is no life to draw")
        chart = lambda: as_svg(life_chart(seen, life_events(booked), "Life of the position"))
        return self._drawn("life", booked, chart)

    def result(self, ledger: Ledger, position_id: str) -> str:
        """Return where a position's money came from and went, as it was last seen. Raises Unknown."""
        from analytics.carry.charts import as_svg, attribution_chart

        booked = read_booked(ledger, find(ledger, position_id))
        found = seen_account(booked, day_began_ms(ledger.settings, booked.now_ms))
        if found is None:
            raise Unknown(f"nobody has looked at {position_id} yet: there is no result to draw")
        title = "Where the money came from and went"
        return self._drawn("result", booked, lambda: as_svg(attribution_chart(found.attribution, title)))

    def _drawn(self, what: str, booked: Booked, draw: Callable[[], str]) -> str:
        """The kept picture, where the position has not moved and no more than some minutes have gone by since."""
        key = what, booked.position.position_id
        until = booked.position.updated_ms if booked.position.closed_ms else booked.now_ms // REDRAWN_MS
        kept = self._kept.get(key)
        if kept is None or kept[0] != (until, len(booked.intents)):
            kept = (until, len(booked.intents)), draw()
            self._kept.put(key, kept)
        return kept[1]
