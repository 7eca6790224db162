"""The early warnings of a position: what a tick has read is judged, and each is raised once and closed when it is over.

Which of them stand is kept with the position, so that a restart neither forgets one nor raises it again, and one that a
person has acknowledged is not raised again before it has ended.
"""

from __future__ import annotations

from typing import Any

from evenkeel.legs import CARRY, IntentKind, LegSide
from evenkeel.types import IntentState
from state.carry.models import Position
from state.models import Attempt, AttemptOutcome, Intent
from state.watch_models import Alert, Severity
from strategy.carry.limits import CarryLimits
from strategy.carry.readings import FailedOrder, LegReading, WarningReadings
from strategy.carry.rebalance import Book
from strategy.carry.rulebook import WARNINGS
from strategy.carry.warnings.state import WarningState
from strategy.carry.warnings.wallets_apart import NAME as WALLETS_APART
from strategy.rules import judge_all
from tasks.carry.desk import CarryDesk
from tasks.carry.expected import day_funding
from tasks.carry.limits import limits_of
from tasks.carry.watching import breakers
from tasks.carry.watching.seen import Seen

KEPT = "warnings"
"""In a position's facts, by name: since when it stands (null where it is over), and the event that it was raised for last."""
FEE_EVERY_MS = 60_000
OF_A_POSITION = tuple(one for one in WARNINGS if one.name != WALLETS_APART)
"""Those that are asked while a position is open; the other is asked when it has ended (`tasks.carry.watching.wallets`)."""
DOING = {IntentKind.OPEN: "open", IntentKind.CLOSE: "close", IntentKind.RESIZE: "resize"}


def note_tick(
    desk: CarryDesk,
    position: Position,
    alerts: list[Alert],
    orders: dict[str, Any],
    seen: Seen,
    legs: dict[LegSide, LegReading],
    book: Book | None,
) -> None:
    """Judge what a tick of an open position has read, and write down what has changed. `position`, its open `alerts` and those
    of nothing in particular, and its `orders`: as the ledger has them now.
    """
    if position.closed_ms is not None:
        return
    read = orders | {
        "now_ms": seen.at_ms,
        "long": legs[LegSide.LONG],
        "short": legs[LegSide.SHORT],
        "long_venue_price_usd": seen.sol_price_usd,
        "short_venue_price_usd": seen.context.mark_px if seen.context else None,
        "funding_day_hourly": day_funding(desk, position.underlying),
        "funding_expected_hourly": seen.funding_expected_hourly,
        "drift": book.drift if book is not None and book.long_sol > 0 else None,
    }
    _note(desk, position, alerts, read)


def note_orders(desk: CarryDesk, position: Position) -> None:
    """Note orders of a position that ends which failed since the last tick."""
    read = {"now_ms": desk.clock.now_ms(), **orders_of(desk, position)}
    _note(desk, position, desk.store.open_alerts_of(position.position_id, ""), read)


class FeeMarket:
    """What a transaction costs while a position is open, read once a minute."""

    def __init__(self, desk: CarryDesk, position_id: str) -> None:
        self._desk, self._position_id = desk, position_id
        self._asked_ms: int | None = None

    async def note_if_due(self) -> None:
        """Read and judge it. A market that cannot be read changes nothing."""
        now_ms = self._desk.clock.now_ms()
        if self._asked_ms is not None and now_ms - self._asked_ms < FEE_EVERY_MS:
            return
        self._asked_ms = now_ms
        fee = await breakers.read_fee(self._desk)
        position = self._desk.store.carry.position(self._position_id)
        if fee is not None and position.closed_ms is None:
            alerts = self._desk.store.open_alerts_of(self._position_id, "")
            _note(self._desk, position, alerts, {"now_ms": now_ms, "fee_lamports": fee})


def _note(desk: CarryDesk, position: Position, alerts: list[Alert], read: dict[str, Any]) -> None:
    """Raise what starts, close what is over. The alert is written before the fact that it stands, and closed before the fact
    that it is over: after a crash between the two the next tick does the rest.
    """
    store, subject = desk.store, position.position_id
    kept: dict[str, dict[str, Any]] = dict(position.facts.get(KEPT) or {})
    shown = {row.kind for row in alerts if row.subject == subject}
    if any(row.kind == WALLETS_APART for row in alerts):
        store.ack_alert(WALLETS_APART)  # money is at work again
    running = frozenset(
        one.name
        for one in OF_A_POSITION
        if one.name in shown or (kept.get(one.name) or {}).get("since_ms") is not None
    )
    before = {name: dict(row) for name, row in kept.items()}
    readings = WarningReadings(running=running, **read)
    for state in _judged(readings, limits_of(desk)):
        row = kept.get(state.name) or {}
        is_news = bool(state.mark) and state.mark != row.get("mark")
        since_ms = row.get("since_ms")
        if (state.stands and state.name not in running) or is_news:
            raise_warning(desk, state, subject, anew=is_news)
        if not state.stands and (state.name in running or is_news):
            store.ack_alert(state.name, subject=subject)
        now = {"since_ms": (since_ms or readings.now_ms) if state.stands else None}
        mark = state.mark or row.get("mark")
        if state.stands or row or mark:
            kept[state.name] = now | ({"mark": mark} if mark else {})
    kept = {name: row for name, row in kept.items() if any(row.values())}
    if kept != before:
        store.carry.set_facts(subject, {KEPT: kept})


def _judged(readings: WarningReadings, limits: CarryLimits) -> tuple[WarningState, ...]:
    return tuple(one.answer for one in judge_all(OF_A_POSITION, readings, limits))


def raise_warning(desk: CarryDesk, state: WarningState, subject: str, *, anew: bool = False) -> None:
    """Write the alert of a warning that starts, or of one that stands and has happened once more."""
    severity = Severity.CRITICAL if state.critical else Severity.WARNING
    text = f"{state.reason}: {state.advice}" if state.advice else state.reason
    desk.store.alert(state.name, severity, text, subject=subject, anew=anew)


def orders_of(desk: CarryDesk, position: Position) -> dict[str, Any]:
    """The last order of the long that was sent and died, and when one last did what it was for."""
    intents = [
        one
        for one in desk.store.intents_of(CARRY, position.position_id)
        if one.part == LegSide.LONG and one.attempts
    ]
    done = [one.updated_ms for one in intents if one.state is IntentState.CONFIRMED]
    tried_again = [one for one in intents if one.attempts > 1 or one.state is not IntentState.CONFIRMED]
    dead: list[tuple[Intent, Attempt]] = []
    for intent in reversed(tried_again):  # the latest first: an older one cannot have died later
        dead = [
            (intent, one)
            for one in desk.store.attempts_of(intent.intent_id)
            if one.outcome is AttemptOutcome.REJECTED and one.sent_ms is not None
        ]
        if dead:
            break
    last = max(dead, key=lambda one: one[1].n, default=None)
    return {
        "orders_read": True,
        "failed_order": None if last is None else _failed(*last),
        "last_done_ms": max(done, default=None),
    }


def _failed(intent: Intent, attempt: Attempt) -> FailedOrder:
    doing = DOING.get(IntentKind(intent.kind), intent.kind)
    return FailedOrder(
        at_ms=attempt.resolved_ms or attempt.signed_ms,
        what=f"{doing} the long",
        why=attempt.evidence or "its venue gave no reason",
    )
