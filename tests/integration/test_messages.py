"""From an alert in the ledger to the message in Slack: once, in order, whatever fails on the way."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from evenkeel.legs import PositionStatus
from state.carry.models import PositionSnapshot
from state.models import Fence
from state.outbox_models import DeliveryState, MessageKind
from state.store import Store
from state.watch_models import Severity
from tasks.carry.books.heads import standing
from tasks.channels import Letter, Outcome
from tasks.messages.sender import LEASE, Line
from tests.databases import database_fixtures
from tests.message_rig import CHANNEL, HOUR_S, Rig, slack_rig
from twins.faults import Fault

databases, url, store = database_fixtures()


async def test_an_alert_arrives_with_what_is_done_and_its_end_in_its_thread(store: Store) -> None:
    async with slack_rig(store) as rig:
        store.alert("fee_money", Severity.CRITICAL, "the wallet holds 0.004 SOL <!channel> & less", "p1")
        await rig.deliver()
        store.ack_alert("fee_money", "p1")
        await rig.deliver()
        shown = rig.twin.shown()
    opening, alert, over = shown
    assert opening["text"].startswith("OPENING (p1)")
    assert [row.get("thread_ts") for row in shown] == [None, opening["ts"], opening["ts"]]
    assert alert["subtype"] == "thread_broadcast" and "subtype" not in over
    text = "\n".join(block["text"]["text"] for block in alert["blocks"] if block["type"] == "section")
    assert "&lt;!channel&gt; &amp; less" in text and "<!channel>" not in text
    assert "send SOL to the wallet" in text and "cuts tips" in text
    assert "docs/runbook.md#what-an-exit-needs" in alert["blocks"][-1]["elements"][0]["text"]
    assert over["text"].startswith("over: fee money (p1)")


async def test_each_move_of_a_position_is_said_in_its_thread(store: Store) -> None:
    async with slack_rig(store) as rig:
        store.carry.move_position(
            "p1", PositionStatus.OPENING, PositionStatus.UNWINDING, note="long: no room"
        )
        rig.clock.ms += 5
        store.carry.move_position("p1", PositionStatus.UNWINDING, PositionStatus.FAILED)
        await rig.deliver()
        assert [text.split(" ")[0] for text in rig.texts] == ["OPENING", "UNWINDING", "FAILED"]
        assert "long: no room" in rig.twin.shown()[1]["text"]


async def test_the_message_of_a_move_that_is_undone_is_undone_with_it(store: Store) -> None:
    before = len(store.messages())
    with pytest.raises(Exception, match="no longer held"):
        store.carry.move_position(
            "p1", PositionStatus.OPENING, PositionStatus.UNWINDING, fence=Fence("nobody", 3)
        )
    assert len(store.messages()) == before


async def test_the_head_of_a_thread_says_how_the_position_stands_now(store: Store) -> None:
    async with slack_rig(store) as rig:
        rig.sender.standing = partial(standing, after_s=90)
        await rig.sender.restate(rig.line)
        assert not rig.twin.faults.calls, "there is no head yet"
        await rig.deliver()
        store.carry.record_snapshots(
            [
                PositionSnapshot(
                    position_id="p1",
                    at_ms=rig.clock.ms,
                    equity_usd=Decimal(20_000),
                    long_liquidation_distance=Decimal("0.3"),
                )
            ]
        )
        for _ in range(2):
            await rig.sender.restate(rig.line)
        [head] = rig.twin.shown()
        assert head["metadata"]["event_payload"]["key"].endswith("NEW-OPENING")
        assert (
            "OPENING · SOL 3x" in head["text"]
            and "long 30.0 %" in head["text"]
            and "20,000.00 USD" in head["text"]
        )
        assert sum(row["call"] == "chat.update" for row in rig.twin.faults.calls) == 1
        rig.clock.ms += 300_000
        await rig.sender.restate(rig.line)
        assert "nobody has looked for 5 min" in rig.twin.shown()[0]["text"]


# --- what a channel does wrong -------------------------------------------------------------------------------


def ten_alerts(store: Store) -> list[str]:
    """Alerts about the position and about other things, in the order of their threads; returns all keys."""
    for number in range(5):
        store.alert(f"rule {number}", Severity.WARNING, f"text {number}", "p1")
        store.alert(f"rule {number}", Severity.CRITICAL, f"text {number}", f"venue {number}")
    store.ack_alert("rule 0", "p1")
    store.ack_alert("rule 1", "venue 1")
    return [row.key for row in store.messages()]


def assert_once_and_in_order(rig: Rig, keys: list[str]) -> None:
    assert sorted(rig.keys) == sorted(keys), "every message once"
    threads = {row.key: row.thread for row in rig.store.messages()}
    for thread in set(threads.values()):
        assert [key for key in rig.keys if threads[key] == thread] == [
            key for key in keys if threads[key] == thread
        ]


FAULTS = {
    "down for an hour": [
        Fault("slack", "one_endpoint", call="chat.postMessage", times=-1, args={"how": "503"})
    ],
    "hangs up for an hour": [Fault("slack", "drop_request", call=".*", times=-1)],
    "429 with Retry-After": [
        Fault("slack", "http_429", call="chat.postMessage", times=7, args={"retry_after": 30})
    ],
    "429 after delivery": [
        Fault("slack", "http_429_after", call="chat.postMessage", times=6, args={"retry_after": 30})
    ],
    "429 after delivery, and one in reading": [
        Fault("slack", "http_429_after", call="chat.postMessage", times=6),
        Fault("slack", "http_429", call="conversations.*", times=4, args={"retry_after": 90}),
    ],
    "500 after delivery": [Fault("slack", "http_500_after", call="chat.postMessage", times=6)],
    "the answer is lost": [Fault("slack", "drop_answer", call="chat.postMessage", times=6)],
    "garbage after delivery": [Fault("slack", "garbage", call="chat.postMessage", times=3)],
    "the answer is lost and nothing can be read": [
        Fault("slack", "drop_answer", call="chat.postMessage", times=4),
        Fault("slack", "one_endpoint", call="conversations.*", times=9, args={"how": "500"}),
    ],
}


@pytest.mark.parametrize("kind", FAULTS)
async def test_every_message_arrives_once_and_in_order(store: Store, kind: str) -> None:
    async with slack_rig(store) as rig:
        for fault in FAULTS[kind]:
            rig.twin.faults.add(
                Fault(fault.venue, fault.kind, fault.call, 2, fault.times, args=dict(fault.args))
            )
        keys = ten_alerts(store)
        await rig.deliver(HOUR_S)
        if kind.endswith("hour"):
            assert len(rig.keys) < len(keys)
            rig.twin.faults.clear()
        await rig.deliver(HOUR_S)
        assert_once_and_in_order(rig, keys)
        assert {row.state for row in store.deliveries()} == {DeliveryState.SENT}


async def test_a_rate_limit_is_waited_for_and_not_asked_again_before(store: Store) -> None:
    async with slack_rig(store) as rig:
        rig.twin.faults.add(Fault("slack", "http_429", call="chat.postMessage", args={"retry_after": 30}))
        store.alert("one", Severity.CRITICAL, "t", "x")
        await rig.sender.step(rig.line)
        begun = rig.clock.ms
        while not rig.keys:
            rig.clock.ms += 500
            await rig.sender.step(rig.line)
        assert rig.clock.ms - begun >= 30_000
        posts = [row for row in rig.twin.faults.calls if row["call"] == "chat.postMessage"]
        assert [row["fault"] for row in posts] == ["http_429", ""]


async def test_a_message_is_asked_for_when_slack_allows_it_and_not_before(store: Store) -> None:
    async with slack_rig(store) as rig:
        rig.twin.faults.add(Fault("slack", "drop_answer", call="chat.postMessage"))
        rig.twin.faults.add(Fault("slack", "http_429", call="conversations.*", args={"retry_after": 90}))
        store.alert("one", Severity.CRITICAL, "t", "x")
        begun_ms = rig.clock.ms
        await rig.deliver()
        asked = [row for row in rig.twin.faults.calls if row["call"] == "conversations.history"]
        assert [row["fault"] for row in asked] == ["http_429", ""]
        assert_once_and_in_order(rig, [row.key for row in store.messages()])
        [found] = [row for row in store.deliveries() if row.note.startswith("found")]
        assert found.at_ms - begun_ms >= 90_000


async def test_a_text_that_slack_refuses_stops_nobody_elses(store: Store) -> None:
    """The form is given up before the text: what fits nowhere is said to be refused, and the next goes on."""
    async with slack_rig(store) as rig:
        store.write_message("k" * 20_000, MessageKind.TRIAL, "trial", "its key is too long for the metadata")
        store.alert("long", Severity.WARNING, "long " * 20_000, "x")
        store.alert("after", Severity.WARNING, "fine", "x")
        await rig.deliver()
        states = {row.message_id: row.state for row in store.deliveries()}
        by_about = {row.about: states[row.id or 0] for row in store.messages()}
    assert by_about == {
        "OPENING": DeliveryState.SENT,
        "trial": DeliveryState.REFUSED,
        "long": DeliveryState.SENT,
        "after": DeliveryState.SENT,
    }


@pytest.mark.parametrize("error", ["not_in_channel", "invalid_auth", "is_archived"])
async def test_a_channel_that_refuses_us_keeps_every_message_until_it_is_mended(
    store: Store, error: str
) -> None:
    async with slack_rig(store) as rig:
        there = rig.twin.channels[CHANNEL]
        there.member, there.archived = error != "not_in_channel", error == "is_archived"
        token, rig.twin.token = rig.twin.token, "other" if error == "invalid_auth" else rig.twin.token
        keys = ten_alerts(store)
        await rig.deliver(HOUR_S)
        assert not rig.keys and rig.line.fault == error
        there.member, there.archived, rig.twin.token = True, False, token
        await rig.deliver(HOUR_S)
        assert_once_and_in_order(rig, keys)


# --- a sender that dies --------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process ends here."""


class Mortal:
    """Every write of a delivery and every call of the channel, one of which is the last: before it or after it."""

    def __init__(self, rig: Rig, nth: int) -> None:
        self.nth = nth
        self.channel = rig.line.channel
        self.name, self.least = rig.line.channel.name, rig.line.channel.least
        self.pictures = rig.line.channel.pictures
        self._store = rig.store
        self._begin, self._settle = rig.store.begin_delivery, rig.store.settle_delivery

    def __enter__(self) -> Mortal:
        self._store.begin_delivery = self._around(self._begin)  # type: ignore[method-assign]
        self._store.settle_delivery = self._around(self._settle)  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        self._store.begin_delivery = self._begin  # type: ignore[method-assign]
        self._store.settle_delivery = self._settle  # type: ignore[method-assign]

    def _step(self) -> None:
        self.nth -= 1
        if self.nth < 0:
            raise Killed

    def _around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def mortal(*args: Any, **named: Any) -> Any:
            self._step()
            done = call(*args, **named)
            self._step()
            return done

        return mortal

    async def send(self, letter: Letter) -> Outcome:
        self._step()
        outcome = await self.channel.send(letter)
        self._step()
        return outcome

    async def find(self, letter: Letter, since_ms: int) -> str | None:
        self._step()
        found = await self.channel.find(letter, since_ms)
        self._step()
        return found

    async def restate(self, ref: str, letter: Letter) -> Outcome | None:
        return None

    async def check(self) -> str:
        return await self.channel.check()

    async def close(self) -> None:
        await self.channel.close()


@pytest.mark.parametrize("kind", ["", "drop_answer", "http_429_after", "http_500_after"])
async def test_a_sender_that_is_killed_at_each_step_sends_each_message_once(store: Store, kind: str) -> None:
    async with slack_rig(store) as rig:
        keys = ten_alerts(store)
        if kind:
            fault = Fault("slack", kind, "chat.postMessage", 1, 4, args={"retry_after": 5})
            rig.twin.faults.add(fault)
        channel, deaths = rig.line.channel, 0
        for nth in range(200):
            rig.line = Line(channel, 0)
            with Mortal(rig, nth % 9) as mortal:
                try:
                    rig.line = Line(mortal, 0)
                    await rig.deliver(HOUR_S)
                    break
                except Killed:
                    deaths += 1
            rig.clock.ms += 1000
        rig.line = Line(channel, 0)
        await rig.deliver(HOUR_S)
        assert deaths > 9
        assert_once_and_in_order(rig, keys)


async def test_a_second_sender_cannot_write(store: Store) -> None:
    async with slack_rig(store) as rig:
        store.alert("one", Severity.CRITICAL, "t")
        stolen = store.take_over(LEASE, "other", 10**9, rig.sender.fence)
        assert stolen is not None
        with pytest.raises(Exception, match="no longer held"):
            await rig.sender.step(rig.line)
        assert not rig.keys
