"""Which message a channel delivers next: the worst first, in order within a thread. Pure rules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, time

from state.outbox import Pending
from state.outbox_models import Message, MessageKind
from state.watch_models import Severity

AHEAD_MS = 86_400_000
CALM = frozenset({MessageKind.OVER, MessageKind.ACKNOWLEDGED})
"""What only says that something is over: it goes where its alert went, and hurries nobody."""


def rank(severity: Severity) -> int:
    """The order of severities, the worst last."""
    return list(Severity).index(severity)


def urgency(message: Message) -> int:
    """How much a message hurries."""
    return rank(Severity.INFO) if message.kind in CALM else rank(message.severity)


def wanted(message: Message, least: Severity) -> bool:
    """Whether a channel for `least` and worse delivers it. What nobody has answered, and a trial, go everywhere."""
    return message.kind in (MessageKind.ESCALATED, MessageKind.TRIAL) or rank(message.severity) >= rank(least)


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
        # What lies further ahead than anything waits was written before a clock was set back.
        if first.delivery is not None and 0 < first.delivery.again_ms - now_ms <= AHEAD_MS:
            continue
        if quiet and most < rank(Severity.CRITICAL):
            continue
        ready.append((-most, first.message.id or 0, first))
    return min(ready, key=lambda one: one[:2])[2] if ready else None


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
