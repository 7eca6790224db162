"""Which message a channel delivers next: the worst first, in order within a thread. Pure rules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, time
from time import time as wall_s
from zoneinfo import ZoneInfo

from evenkeel.clock import as_datetime, ms_of_date
from evenkeel.settings.settings import Settings
from evenkeel.units import DAY_MS
from state.outbox import Pending
from state.outbox_models import Message, MessageKind
from state.watch_models import Severity

LONGEST_WAIT_MS = DAY_MS
"""Nothing waits longer: what seems to was written before a clock was set back."""
CALM = frozenset({MessageKind.OVER, MessageKind.ACKNOWLEDGED})
"""What only says that something is over: it goes where its alert went, and hurries nobody."""


def urgency(message: Message) -> int:
    """How much a message hurries."""
    return Severity.INFO.rank if message.kind in CALM else message.severity.rank


def wanted(message: Message, least: Severity, pictures: bool = True) -> bool:
    """Whether a channel for `least` and worse delivers it. What nobody has answered, and a trial, go everywhere; a chart to
    what shows `pictures`.
    """
    if message.kind is MessageKind.CHART and not pictures:
        return False
    return message.kind in (MessageKind.ESCALATED, MessageKind.TRIAL) or message.severity.rank >= least.rank


def next_of(pending: Iterable[Pending], now_ms: int, quiet: bool) -> Pending | None:
    """The message to deliver now, or None. Its thread is the one with the most urgent message in it, the oldest of such; of a
    thread only the first counts. Where it is `quiet`, a thread without anything critical waits.
    """
    threads: defaultdict[str, list[Pending]] = defaultdict(list)
    for one in pending:
        threads[one.message.thread].append(one)
    ready = []
    for waiting in threads.values():
        first = waiting[0]
        most = max(urgency(one.message) for one in waiting)
        if first.delivery is not None and still_waits(first.delivery.again_ms, now_ms):
            continue
        if quiet and most < Severity.CRITICAL.rank:
            continue
        ready.append((-most, first.message.id or 0, first))
    return min(ready, key=lambda one: one[:2])[2] if ready else None


def still_waits(until_ms: int, now_ms: int) -> bool:
    """Whether it is too early, by a clock that may have been set back since `until_ms` was written."""
    return 0 < until_ms - now_ms <= LONGEST_WAIT_MS


def quiet_at(settings: Settings, at_ms: int) -> bool:
    """Whether people are to be left alone then (ms UTC), in the time zone of the reports."""
    zone = ZoneInfo(settings.reports.timezone)
    return is_quiet(settings.messages.quiet, as_datetime(at_ms).astimezone(zone))


def is_quiet(hours: tuple[time, time] | None, at: datetime) -> bool:
    """Whether `at`, in the time zone of the hours, lies in them. They may pass midnight."""
    if hours is None:
        return False
    begin, end = hours
    now = at.timetz().replace(tzinfo=None)
    return begin <= now < end if begin < end else now >= begin or now < end


def wait_s(tries: int) -> float:
    """How long to wait after so many tries that came to nothing: 2 s, doubled, at most 5 minutes."""
    return float(min(2 ** min(max(tries, 1), 9), 300))


def seconds_of(text: object) -> float | None:
    """The seconds of a `Retry-After`, given as a number or a date, from one second to a day; None where it gives none."""
    try:
        value = float(str(text))
    except ValueError:
        if (until_ms := ms_of_date(str(text))) is None:
            return None
        value = until_ms / 1000 - wall_s()
    return min(max(value, 1.0), 86_400.0) if value == value else None
