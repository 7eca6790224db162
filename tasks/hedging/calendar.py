"""The broker's calendar in the ledger, and what it says of now. Without one no order leaves, and a person is alerted once."""

from __future__ import annotations

from datetime import timedelta

from evenkeel.errors import NotUnderstood
from evenkeel.units import HOUR_MS
from state.hedging.models import SessionRow
from state.watch_models import Severity
from strategy.hedging.sessions import Day, Market, market_now, new_york_day
from tasks.hedging.desk import NO_ANSWER, HedgingDesk

NO_CALENDAR = "no calendar"
"""The alert of a broker whose calendar cannot be read: fills are counted, and no order leaves."""
AHEAD_DAYS = 7
FRESH_MS = 6 * HOUR_MS
"""A calendar is read again after so long: an early close may be announced late."""


async def market(at: HedgingDesk) -> Market:
    """Return what the broker's calendar says of now, reading it where it is missing or old. An old one serves while no new one
    can be read.
    """
    now = at.desk.clock.now_ms()
    today = new_york_day(now)
    first, last = today, today + timedelta(days=AHEAD_DAYS)
    known = at.desk.store.hedging.sessions(at.broker.name, first.isoformat(), last.isoformat())
    why = ""
    if not known or known[0].day != first.isoformat() or now - known[0].read_ms >= FRESH_MS:
        try:
            known = await _read(at, now)
        except NO_ANSWER as error:
            why = str(error)
    days = [
        Day.model_validate({"day": one.day, "open_ms": one.open_ms, "close_ms": one.close_ms})
        for one in known
    ]
    answer = market_now(
        days,
        now,
        margin_ms=at.settings.close_margin_s * 1000,
        flatten_ms=at.settings.flatten_before_close_s * 1000,
    )
    if answer is Market.UNKNOWN:
        at.desk.store.alert(
            NO_CALENDAR,
            Severity.CRITICAL,
            f"{at.broker.name}'s calendar of {today} is not known ({why or 'it does not name the day'}): fills are counted, "
            "and no hedge leaves until it is",
            subject=at.broker.name,
        )
    else:
        at.desk.store.ack_alert(NO_CALENDAR, at.broker.name)
    return answer


async def _read(at: HedgingDesk, now: int) -> list[SessionRow]:
    """Read these days and store them. What is unread stays as it was, known from before or not. Raises NO_ANSWER, also for a
    week without any session: that is an answer without its rows, no calendar.
    """
    first = new_york_day(now)
    last = first + timedelta(days=AHEAD_DAYS)
    said = await at.broker.calendar(first, last)
    named = {one.day: one for one in said.sessions}
    if not named:
        raise NotUnderstood(at.broker.name, f"its calendar has no session from {first} to {last}")
    rows = []
    for offset in range(AHEAD_DAYS + 1):
        day = first + timedelta(days=offset)
        if day in said.unread:
            continue
        one = named.get(day)
        rows.append(
            SessionRow(
                venue=at.broker.name,
                day=day.isoformat(),
                open_ms=one.open_ms if one else None,
                close_ms=one.close_ms if one else None,
                pre_open_ms=one.pre_open_ms if one else None,
                post_close_ms=one.post_close_ms if one else None,
                read_ms=now,
            )
        )
    at.desk.store.hedging.keep_sessions(at.broker.name, rows)
    return at.desk.store.hedging.sessions(at.broker.name, first.isoformat(), last.isoformat())
