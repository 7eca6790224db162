"""Which message goes first, and which waits."""

from __future__ import annotations

from datetime import UTC, datetime, time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.outbox import Pending
from state.outbox_models import Delivery, DeliveryState, Message, MessageKind
from state.watch_models import Alert, Severity
from tasks.messages.choose import is_quiet, next_of, urgency, wait_s, wanted
from tasks.messages.escalation import due


def message(
    number: int,
    thread: str = "a",
    severity: Severity = Severity.INFO,
    kind: MessageKind = MessageKind.ALERT,
) -> Message:
    return Message(
        id=number,
        key=f"k{number}",
        thread=thread,
        kind=kind,
        about="x",
        severity=severity,
        text="t",
        at_ms=number,
    )


def waiting(one: Message, until_ms: int = 0) -> Pending:
    return Pending(
        one,
        Delivery(
            message_id=one.id or 0, channel="c", state=DeliveryState.WAITING, again_ms=until_ms, at_ms=0
        ),
    )


messages = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from(list(Severity)),
        st.sampled_from(list(MessageKind)),
        st.integers(0, 20),
    ),
    max_size=12,
).map(
    lambda rows: [
        waiting(message(number, thread, severity, kind), again)
        for number, (thread, severity, kind, again) in enumerate(rows, 1)
    ]
)


@given(messages, st.integers(0, 20), st.booleans())
def test_a_thread_keeps_its_order_and_the_worst_goes_first(
    pending: list[Pending], now: int, quiet: bool
) -> None:
    chosen = next_of(pending, now, quiet)
    firsts = {one.message.thread: one for one in reversed(pending)}
    worst = {
        name: max(urgency(one.message) for one in pending if one.message.thread == name) for name in firsts
    }
    ready = {
        name: one
        for name, one in firsts.items()
        if one.delivery is not None
        and one.delivery.again_ms <= now
        and (not quiet or worst[name] == urgency(message(0, severity=Severity.CRITICAL)))
    }
    if chosen is None:
        assert not ready
        return
    assert ready[chosen.message.thread] is chosen, "the oldest of its thread"
    best = max(worst[name] for name in ready)
    assert worst[chosen.message.thread] == best
    assert (chosen.message.id or 0) == min(
        one.message.id or 0 for name, one in ready.items() if worst[name] == best
    )


def test_what_is_over_hurries_nobody_and_goes_where_its_alert_went() -> None:
    over = message(1, severity=Severity.CRITICAL, kind=MessageKind.OVER)
    assert urgency(over) == urgency(message(2))
    assert wanted(over, Severity.CRITICAL)
    assert not wanted(message(2), Severity.WARNING)
    assert wanted(message(3, kind=MessageKind.ESCALATED), Severity.CRITICAL)


@pytest.mark.parametrize(
    ("hours", "at", "quiet"),
    [
        (None, "03:00", False),
        ((time(22), time(7)), "21:59", False),
        ((time(22), time(7)), "22:00", True),
        ((time(22), time(7)), "06:59", True),
        ((time(22), time(7)), "07:00", False),
        ((time(12), time(13)), "12:30", True),
        ((time(12), time(13)), "23:30", False),
    ],
)
def test_quiet_hours_may_pass_midnight(hours: tuple[time, time] | None, at: str, quiet: bool) -> None:
    moment = datetime.combine(datetime(2026, 3, 29, tzinfo=UTC), time.fromisoformat(at), tzinfo=UTC)
    assert is_quiet(hours, moment) is quiet


def test_waits_grow_and_end_at_five_minutes() -> None:
    assert [wait_s(tries) for tries in (0, 1, 2, 3, 8, 9, 10**6)] == [2, 2, 4, 8, 256, 300, 300]


def alert(severity: Severity, at_ms: int, seen_ms: int | None = None) -> Alert:
    return Alert(id=1, kind="k", severity=severity, text="t", at_ms=at_ms, last_ms=at_ms, seen_ms=seen_ms)


def test_a_critical_alert_that_nobody_answers_is_due_again_and_again() -> None:
    one = alert(Severity.CRITICAL, 1_000_000)
    due_at = {
        s: [row.number for row in due([(one, 2_000_000)], 2_000_000 + s * 1000, 300, 3600)]
        for s in (299, 300, 3899, 3900)
    }
    assert due_at == {299: [], 300: [1], 3899: [1], 3900: [2]}
    calm = [(alert(Severity.WARNING, 0), 1), (alert(Severity.CRITICAL, 0, seen_ms=5), 1)]
    assert not due(calm, 10**12, 300, 3600)


def test_a_wait_that_ends_further_ahead_than_anything_waits_is_over() -> None:
    assert next_of([waiting(message(1), until_ms=10)], 9, False) is None
    assert next_of([waiting(message(1), until_ms=10**12)], 9, False) is not None
