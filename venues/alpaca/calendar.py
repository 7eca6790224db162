"""The broker's calendar: days in New York's local time as sessions in ms UTC."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from evenkeel.errors import NotUnderstood
from venues.alpaca.models import WireDay
from venues.broker import Calendar, Session
from venues.reading import Oddity

NEW_YORK = ZoneInfo("America/New_York")
_TIME = re.compile(r"([01]?\d|2[0-3]):?([0-5]\d)")


def local_ms(day: date, text: str) -> int:
    """Return ms UTC of a local time such as 09:30 or 0930 of a day. Raises ValueError for another form."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no time")
    hour, minute = int(found[1]), int(found[2])
    return int(datetime(day.year, day.month, day.day, hour, minute, tzinfo=NEW_YORK).timestamp()) * 1000


def calendar_of(
    venue: str, source: str, rows: Iterable[WireDay | None], first: date, last: date
) -> tuple[Calendar, list[Oddity]]:
    """Return these days in order, and the rows that make no session. A day without a row is closed, unless there is a row of
    which nobody knows whose it is (None: it could not be read); rows after `last` are left alone. Raises NotUnderstood where
    the answer begins before `first`: it answers another question.
    """
    found: dict[date, Session] = {}
    odd: list[Oddity] = []
    unread: set[date] = set()
    is_whole = True
    for row in rows:
        if row is None:
            is_whole = False
            continue
        try:
            day = date.fromisoformat(row.date)
        except ValueError as why:
            odd.append(Oddity(source, f"day {row.date[:20]}", "", str(why), lost=True))
            is_whole = False
            continue
        if day < first:
            raise NotUnderstood(venue, f"{source} has {day}, asked was for days from {first}")
        if day > last:
            continue
        try:
            session = _session_of(day, row)
            if found.setdefault(day, session) != session:
                raise ValueError(f"{row.open} to {row.close}, and another time of the same day")
        except ValueError as why:
            odd.append(Oddity(source, f"day {day}", "", str(why), lost=True))
            unread.add(day)
    if not is_whole:
        days = (first + timedelta(days=n) for n in range((last - first).days + 1))
        unread |= {day for day in days if day not in found}
    known = tuple(found[day] for day in sorted(found) if day not in unread)
    return Calendar(sessions=known, unread=frozenset(unread)), odd


def _session_of(day: date, row: WireDay) -> Session:
    """Raises ValueError for a row that makes none."""
    session = Session(
        day=day,
        open_ms=local_ms(day, row.open or ""),
        close_ms=local_ms(day, row.close or ""),
        pre_open_ms=_maybe_ms(day, row.session_open),
        post_close_ms=_maybe_ms(day, row.session_close),
    )
    if session.open_ms >= session.close_ms:
        raise ValueError(f"{row.open} to {row.close}")
    return session


def _maybe_ms(day: date, text: str | None) -> int | None:
    try:
        return local_ms(day, text) if text else None
    except ValueError:
        return None
