"""The broker's calendar: days in New York's local time as sessions in ms UTC."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, datetime
from zoneinfo import ZoneInfo

from evenkeel.errors import NotUnderstood
from venues.alpaca.models import WireDay
from venues.broker import Session
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


def sessions_of(
    venue: str, source: str, rows: Iterable[WireDay], first: date, last: date
) -> tuple[list[Session], list[Oddity]]:
    """Return the sessions of these days in order, and the rows that make none. A day without a row is closed; rows after
    `last` are left alone. Raises NotUnderstood where the answer begins before `first`: it answers another question.
    """
    found: dict[date, Session] = {}
    odd: list[Oddity] = []
    for row in rows:
        try:
            day = date.fromisoformat(row.date)
            if day < first:
                raise NotUnderstood(venue, f"{source} has {day}, asked was for days from {first}")
            session = Session(
                day=day,
                open_ms=local_ms(day, row.open),
                close_ms=local_ms(day, row.close),
                pre_open_ms=_maybe_ms(day, row.session_open),
                post_close_ms=_maybe_ms(day, row.session_close),
            )
        except ValueError as why:
            odd.append(Oddity(source, f"day {row.date[:20]}", "", str(why), lost=True))
            continue
        if session.open_ms >= session.close_ms or found.get(day, session) != session:
            odd.append(Oddity(source, f"day {day}", "", f"{row.open} to {row.close}", lost=True))
            found.pop(day, None)
        elif day <= last:
            found[day] = session
    return [found[day] for day in sorted(found)], odd


def _maybe_ms(day: date, text: str | None) -> int | None:
    try:
        return local_ms(day, text) if text else None
    except ValueError:
        return None
