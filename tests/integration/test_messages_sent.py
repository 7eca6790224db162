"""Who is sent what and when; what an acknowledgement silences; channels beside each other."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from evenkeel.settings.settings import Settings
from state.outbox_models import DeliveryState
from state.store import Store
from state.watch_models import Severity
from tasks.carry.books.heads import standing
from tasks.channels import Channel, Letter, NotNow, Outcome, Sent, Unsure
from tasks.messages.escalation import escalate
from tasks.messages.sender import LEASE, Line, Sender
from tests.databases import ManualClock, database_fixtures
from tests.message_rig import HOUR_S, Scripted, kinds, slack_rig
from twins.faults import Fault

databases, url, store = database_fixtures()


# --- who is sent what, and when ------------------------------------------------------------------------------


async def test_a_channel_gets_what_it_is_for_and_what_nobody_answers(store: Store) -> None:
    async with slack_rig(store, Severity.CRITICAL) as rig:
        store.alert("warned", Severity.WARNING, "t", "p1")
        store.alert("bad", Severity.CRITICAL, "t", "p1")
        await rig.deliver()
        assert [text.split(":")[0] for text in rig.texts] == ["CRITICAL"]
        assert {row.state for row in store.deliveries()} == {DeliveryState.SENT, DeliveryState.SKIPPED}


async def test_what_happened_before_a_channel_was_set_is_not_sent_by_it(store: Store) -> None:
    async with slack_rig(store) as rig:
        store.alert("old", Severity.CRITICAL, "t")
        joined = Line(rig.line.channel, rig.sender.joined(rig.line.channel))
        store.alert("new", Severity.CRITICAL, "t")
        rig.line = joined
        await rig.deliver()
        assert [text.split("\n")[0] for text in rig.texts] == ["CRITICAL: new"]
        assert rig.sender.joined(rig.line.channel) == joined.since_id


async def test_in_quiet_hours_only_what_is_critical_is_sent(store: Store) -> None:
    at_midnight = 1_757_203_200_000  # 2025-09-07 00:00 UTC, 02:00 in Zurich
    async with slack_rig(
        store,
        messages={"quiet_from": "22:00", "quiet_until": "07:00"},
        reports={"timezone": "Europe/Zurich"},
    ) as rig:
        assert rig.clock.ms == at_midnight
        store.alert("warned", Severity.WARNING, "t", "x")
        store.alert("bad", Severity.CRITICAL, "t", "y")
        await rig.deliver(5 * HOUR_S - 60, every_s=60)
        assert rig.texts == ["CRITICAL: bad (y)"]
        await rig.deliver(120)
        assert sorted(rig.texts) == ["CRITICAL: bad (y)", "OPENING (p1)", "WARNING: warned (x)"]


async def test_a_critical_alert_that_nobody_acknowledges_is_sent_again(store: Store) -> None:
    async with slack_rig(store) as rig:
        store.alert("bad", Severity.CRITICAL, "t", "p1")
        assert escalate(store, 300, 3600) == 0
        rig.clock.ms += 301_000
        assert [escalate(store, 300, 3600) for _ in range(3)] == [1, 0, 0]
        await rig.deliver()
        again = rig.twin.shown()[-1]
        assert (
            again["text"].startswith("still open: bad (p1)")
            and "<!channel>" in again["blocks"][0]["text"]["text"]
        )
        store.acknowledge("bad", "p1", "somebody: seen")
        rig.clock.ms += 7200_000
        assert escalate(store, 300, 3600) == 0


def test_what_is_acknowledged_is_silent_until_it_ends_or_gets_worse(store: Store) -> None:
    clock = store.clock
    assert isinstance(clock, ManualClock)
    store.alert("carry", Severity.WARNING, "t", "p1")
    store.acknowledge("carry", "p1", "somebody: seen")
    said = [("alert", "warning"), ("acknowledged", "warning")]
    for _ in range(3):
        clock.ms += 30_000
        row, new = store.alert("carry", Severity.WARNING, "t", "p1")
        assert not new and row.acked_ms is None and row.seen_ms is not None
    assert kinds(store) == said
    store.alert("carry", Severity.CRITICAL, "worse", "p1")
    said.append(("alert", "critical"))
    assert kinds(store) == said
    assert store.alerts(open_only=True)[0].seen_ms is None
    store.acknowledge("carry", "p1", "somebody: seen again")
    clock.ms += 30_000
    store.alert("carry", Severity.CRITICAL, "worse", "p1")
    assert store.ack_alert("carry", "p1")
    said += [("acknowledged", "critical"), ("over", "critical")]
    assert kinds(store) == said
    clock.ms += 30_000
    store.alert("carry", Severity.WARNING, "anew", "p1")
    assert kinds(store) == [*said, ("alert", "warning")], "it had ended: this is another one"


def test_what_ends_right_after_it_was_acknowledged_has_ended(store: Store) -> None:
    clock = store.clock
    assert isinstance(clock, ManualClock)
    store.alert("fee_money", Severity.CRITICAL, "t", "p1")
    store.acknowledge("fee_money", None, "somebody: sent SOL")
    assert store.ack_alert("fee_money", "p1")
    clock.ms += 40 * 60_000
    store.alert("fee_money", Severity.CRITICAL, "t", "p1")
    assert [kind for kind, _ in kinds(store)] == ["alert", "acknowledged", "over", "alert"]


def test_what_is_acknowledged_twice_is_closed(store: Store) -> None:
    store.alert("odd answer", Severity.WARNING, "t", "x")
    store.acknowledge("odd answer", None, "somebody: seen")
    assert [one.kind for one in store.alerts(open_only=True)] == ["odd answer"]
    store.acknowledge("odd answer", None, "somebody: it never ends")
    assert not store.alerts(open_only=True)
    assert [one.note for one in store.transitions("alert")] == ["somebody: seen", "somebody: it never ends"]


def test_an_alert_that_is_stated_exactly_may_get_better_in_silence(store: Store) -> None:
    clock = store.clock
    assert isinstance(clock, ManualClock)
    store.alert("agent_key", Severity.CRITICAL, "one day", "p1", exact=True)
    clock.ms += 120_000
    row, _ = store.alert("agent_key", Severity.WARNING, "six days", "p1", exact=True)
    assert row.severity is Severity.WARNING and len(kinds(store)) == 1
    row, _ = store.alert("agent_key", Severity.WARNING, "another phase", "p1", exact=True, anew=True)
    assert len(kinds(store)) == 2


def test_what_happens_again_is_said_again_at_most_once_a_minute(store: Store) -> None:
    clock = store.clock
    assert isinstance(clock, ManualClock)
    for _ in range(7):  # at 0, 30, 60, ... s: said at 0, 60, 120 and 180
        store.alert("wrong admin key", Severity.CRITICAL, "who", news=True, anew=True)
        clock.ms += 30_000
    assert [kind for kind, _ in kinds(store)] == ["alert"] * 4
    store.acknowledge("wrong admin key", None, "somebody: seen")
    assert not store.alerts(open_only=True), "news is closed by whoever has seen it"
    store.alert("wrong admin key", Severity.CRITICAL, "who", news=True, anew=True)
    assert [kind for kind, _ in kinds(store)] == ["alert"] * 4 + ["acknowledged", "alert"]


def test_a_text_with_a_character_that_a_database_refuses_is_kept(store: Store) -> None:
    store.alert("odd answer", Severity.WARNING, "it said \0 and no more", "x\0y")
    assert store.alerts()[0].text == "it said \ufffd and no more"
    assert store.ack_alert("odd answer", "x\0y"), "by the same words"
    store.alert("odd answer", Severity.WARNING, "half a pair \ud800", "z")
    store.pause("entries", "because \0")
    assert [row.note for row in store.transitions("pause")] == ["because \ufffd"]


def test_old_messages_go_and_what_is_under_way_stays(store: Store) -> None:
    clock = store.clock
    assert isinstance(clock, ManualClock)
    for name in ("done", "under way", "untried"):
        store.alert(name, Severity.WARNING, "t", name)
    rows = {row.about: row.id or 0 for row in store.messages()}
    store.settle_delivery(rows["done"], "slack", DeliveryState.SENT, clock.ms, ref="1")
    store.begin_delivery(rows["under way"], "slack", clock.ms)
    clock.ms += 1000
    store.alert("new", Severity.WARNING, "t", "new")
    assert store.forget_messages(clock.ms) == 2
    assert [row.about for row in store.messages()] == ["OPENING", "under way", "new"]
    assert [row.message_id for row in store.deliveries()] == [rows["under way"]]


async def test_a_warning_of_yesterday_that_gets_critical_is_not_escalated_at_once(store: Store) -> None:
    clock = store.clock
    assert isinstance(clock, ManualClock)
    store.alert("bad", Severity.WARNING, "t", "p1")
    clock.ms += 86_400_000
    store.alert("bad", Severity.CRITICAL, "t", "p1")
    assert escalate(store, 300, 3600) == 0
    clock.ms += 300_000
    assert escalate(store, 300, 3600) == 1


async def test_a_critical_message_behind_hundreds_is_found(store: Store) -> None:
    async with slack_rig(store, messages={"quiet_from": "22:00", "quiet_until": "07:00"}) as rig:
        for number in range(600):
            store.alert(f"rule {number}", Severity.WARNING, "t", "x")
        store.alert("bad", Severity.CRITICAL, "t", "y")
        assert await rig.sender.step(rig.line)
        assert rig.texts == ["CRITICAL: bad (y)"]
        assert not await rig.sender.step(rig.line)


async def test_the_head_of_a_thread_that_begins_with_an_alert_is_left_alone(store: Store) -> None:
    async with slack_rig(store, Severity.WARNING) as rig:
        rig.sender.standing = partial(standing, after_s=90)
        store.alert("bad", Severity.CRITICAL, "the very text", "p1")
        await rig.deliver()
        await rig.sender.restate(rig.line)
        [row] = rig.twin.shown()
        assert "the very text" in row["text"] and "edited" not in row


async def test_a_channel_that_cannot_be_read_still_gets_what_is_new(store: Store) -> None:
    async with slack_rig(store) as rig:
        await rig.deliver()
        rig.twin.faults.add(Fault("slack", "drop_answer", call="chat.postMessage"))
        rig.twin.faults.add(
            Fault("slack", "one_endpoint", call="conversations.*", times=-1, args={"how": "500"})
        )
        store.alert("first", Severity.WARNING, "t", "x")
        await rig.sender.step(rig.line)
        rig.clock.ms += 60_000
        store.alert("second", Severity.CRITICAL, "t", "y")
        for _ in range(4):
            await rig.sender.step(rig.line)
        assert "CRITICAL: second (y)" in rig.texts
        rig.twin.faults.clear()
        await rig.deliver()
        assert sorted(rig.texts) == ["CRITICAL: second (y)", "OPENING (p1)", "WARNING: first (x)"]


async def test_a_clock_that_was_set_back_holds_nothing_up(store: Store) -> None:
    async with slack_rig(store) as rig:
        rig.twin.faults.add(Fault("slack", "http_429", call="chat.postMessage", args={"retry_after": 60}))
        await rig.sender.step(rig.line)
        rig.clock.ms -= 30 * 86_400_000
        await rig.sender.step(rig.line)
        assert rig.texts == ["OPENING (p1)"]


# --- several channels ----------------------------------------------------------------------------------------


async def test_a_channel_that_hangs_holds_up_no_other(store: Store) -> None:
    hanging, well = Scripted("hanging"), Scripted("well")
    forever = asyncio.Event()

    async def hang(letter: Letter) -> Outcome:
        await forever.wait()
        return Sent()

    hanging.send = hang  # type: ignore[method-assign]
    fence = store.acquire(LEASE, "test", 10**9)
    assert fence is not None
    channels: list[Channel] = [hanging, well]
    sender = Sender(Settings(), store, channels, {}, fence)
    ended = asyncio.Event()
    running = asyncio.create_task(sender.run(ended))
    while store.checkpoint("channel well") is None:
        await asyncio.sleep(0)
    store.alert("bad", Severity.CRITICAL, "t")
    while not well.sent:
        await asyncio.sleep(0.01)
    ended.set()
    forever.set()
    await running
    assert [row.about for row in well.sent] == ["bad"]


async def test_a_text_at_which_a_working_channel_fails_is_given_up(store: Store) -> None:
    channel = Scripted("one", *[Unsure(reason="500")] * 99)
    fails = channel.send

    async def send(letter: Letter) -> Outcome:
        return await fails(letter) if "poison" in letter.text else Sent(ref="1")

    channel.send = send  # type: ignore[method-assign]
    fence = store.acquire(LEASE, "test", 10**9)
    assert fence is not None
    sender = Sender(Settings(), store, [channel], {}, fence, now_ms=store.clock.now_ms)
    line = Line(channel, store.newest_message_id())
    store.alert("a", Severity.CRITICAL, "poison", "p1")
    store.alert("b", Severity.CRITICAL, "fine", "p1")
    clock = store.clock
    assert isinstance(clock, ManualClock)
    for number in range(400):
        clock.ms += 10_000
        if number % 20 == 0:
            store.alert(f"other {number}", Severity.WARNING, "t", f"x {number}")
        await sender.step(line)
        await sender.step(line)
    states = {row.message_id: row.state for row in store.deliveries()}
    by_about = {row.about: states.get(row.id or 0) for row in store.messages()}
    assert by_about["a"] is DeliveryState.REFUSED and by_about["b"] is DeliveryState.SENT


async def test_a_message_that_meets_a_limit_while_others_pass_is_not_given_up(store: Store) -> None:
    channel, limits = Scripted("one"), iter([Unsure(reason="rate limited", all_of_it=True)] * 20)

    async def send(letter: Letter) -> Outcome:
        return next(limits, Sent(ref="1")) if letter.about == "limited" else Sent(ref="2")

    channel.send = send  # type: ignore[method-assign]
    fence = store.acquire(LEASE, "test", 10**9)
    assert fence is not None
    sender = Sender(Settings(), store, [channel], {}, fence, now_ms=store.clock.now_ms)
    line = Line(channel, store.newest_message_id())
    store.alert("limited", Severity.WARNING, "t", "x")
    clock = store.clock
    assert isinstance(clock, ManualClock)
    for number in range(25):
        store.alert(f"other {number}", Severity.CRITICAL, "t", f"y {number}")
        for _ in range(3):
            clock.ms += 400_000
            await sender.step(line)
    deliveries = store.deliveries()
    assert {row.state for row in deliveries} == {DeliveryState.SENT}
    assert max(row.tries for row in deliveries) == 21


async def test_a_channel_with_a_bug_is_held_and_ends_nothing(store: Store) -> None:
    channel = Scripted("one")

    async def send(letter: Letter) -> Outcome:
        raise UnicodeEncodeError("ascii", "ü", 0, 1, "no")

    channel.send = send  # type: ignore[method-assign]
    fence = store.acquire(LEASE, "test", 10**9)
    assert fence is not None
    sender = Sender(Settings(), store, [channel], {}, fence, now_ms=store.clock.now_ms)
    line = Line(channel, store.newest_message_id())
    store.alert("bad", Severity.CRITICAL, "t")
    assert await sender.step(line)
    [row] = store.deliveries()
    assert row.state is DeliveryState.SENDING and "UnicodeEncodeError" in row.note
    assert line.fault and not await sender.step(line)


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (NotNow(reason="busy"), DeliveryState.WAITING),
        (Unsure(reason="lost"), DeliveryState.SENDING),
    ],
)
async def test_what_is_not_delivered_is_noted_and_tried_again(
    store: Store, outcome: Outcome, state: DeliveryState
) -> None:
    channel = Scripted("one", outcome, outcome)
    fence = store.acquire(LEASE, "test", 10**9)
    assert fence is not None
    sender = Sender(Settings(), store, [channel], {}, fence, now_ms=store.clock.now_ms)
    line = Line(channel, store.newest_message_id())
    store.alert("bad", Severity.CRITICAL, "t")
    clock = store.clock
    assert isinstance(clock, ManualClock)
    await sender.step(line)
    [row] = store.deliveries()
    assert row.state is state and row.tries == 1 and row.again_ms > clock.ms
    for _ in range(60):
        clock.ms += 1000
        await sender.step(line)
    [row] = store.deliveries()
    assert row.state is DeliveryState.SENT and row.tries == 3
    assert [one.key for one in channel.sent] == [channel.sent[0].key] * 3
