"""Alerts of one cause over many accounts: one message that grows, and ends when the last of them has ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from app.messages.sending import causes_of
from app.requests.asking import Asking
from state.fleet.member import MemberStore
from state.outbox_models import CAUSE, DeliveryState, Message, MessageKind
from state.requests.models import RequestAction
from state.store import Store
from state.watch_models import Severity
from tasks.carry.watching.meanings import MEANINGS, OF_ALL_ACCOUNTS
from tasks.channels import Sent, Unsure
from tasks.messages.causes import JOIN_MS, MOST_LINES
from tasks.messages.compose import load_meanings
from tasks.messages.escalation import escalate
from tasks.messages.requests.buttons import command_of
from tasks.messages.sender import Line
from tests.databases import ManualClock, database_fixtures
from tests.integration.test_messages import FAULTS, Killed, Mortal
from tests.message_rig import HOUR_S, Rig, Scripted, slack_rig
from twins.faults import Fault

databases, url, store = database_fixtures()
MANY = 40
DOWN = "hyperliquid did not answer three times"


def address(number: int) -> str:
    return f"0x{number + 1:040x}"


def fleet(accounts: int) -> list[dict[str, Any]]:
    return [
        {
            "name": f"a{number}",
            "hyperliquid_account": address(number),
            "hyperliquid": {"keystore_file": f"{number}.evm"},
            "solana": {"keystore_file": f"{number}.sol"},
        }
        for number in range(accounts)
    ]


class Fleet(Rig):
    """A rig whose ledger has a position of each account."""

    def of(self, number: int) -> MemberStore:
        return MemberStore(self.store, f"a{number}", [address(number)])

    def raises(
        self, numbers: range, text: str = DOWN, severity: Severity = Severity.CRITICAL, kind: str = "outage"
    ) -> None:
        for number in numbers:
            self.of(number).alert(kind, severity, text, f"P{number}")

    def ends(self, numbers: range, kind: str = "outage") -> None:
        for number in numbers:
            assert self.of(number).ack_alert(kind, f"P{number}")

    @property
    def letters(self) -> list[dict[str, Any]]:
        """What the channel itself shows, outside of every thread."""
        return [one for one in self.twin.shown() if one.get("thread_ts") is None and "outage" in one["text"]]

    @property
    def said(self) -> list[Message]:
        return [row for row in self.store.messages() if row.thread.startswith(CAUSE)]


@asynccontextmanager
async def fleet_of(store: Store, accounts: int = MANY, **settings: Any) -> AsyncIterator[Fleet]:
    for number in range(accounts):
        store.carry.create_position(
            f"P{number}", asset="SOL", leverage=Decimal(3), short_account=address(number)
        )
    async with slack_rig(store, fleet=fleet(accounts), **settings) as rig:
        await rig.deliver()
        yield Fleet(rig.store, rig.twin, rig.sender, rig.line)


def of_ledger(store: Store) -> list[tuple[str, str, str]]:
    """The messages of single alerts: kind, about what and whose."""
    return [
        (row.kind, row.about, row.subject)
        for row in store.messages()
        if row.facts.get("alert") and not row.thread.startswith(CAUSE)
    ]


async def test_a_venue_that_is_out_for_forty_accounts_is_one_message(store: Store) -> None:
    async with fleet_of(store) as rig:
        rig.raises(range(MANY))
        await rig.deliver()
        [letter] = rig.letters
        assert letter["text"].startswith("CRITICAL: outage (40 accounts)\n")
        names = letter["text"].split("\n")[1].removesuffix(f": {DOWN}").split(", ")
        assert names == [f"a{number}" for number in range(MANY)]
        assert "keeps both legs" in str(letter["blocks"]), "what the system does is said once"
        assert len(store.alerts(open_only=True)) == MANY
        assert of_ledger(store) == [("alert", "outage", f"P{number}") for number in range(MANY)]

        rig.ends(range(MANY - 1))
        await rig.deliver()
        await rig.sender.restate(rig.line)
        assert [row.kind for row in rig.said] == ["alert"], "it goes on for one of them"
        [letter] = rig.letters
        assert f"a39: {DOWN}\nover by now: a0, a1, " in letter["text"]

        rig.ends(range(MANY - 1, MANY))
        await rig.deliver()
        await rig.sender.restate(rig.line)
        [letter] = rig.letters
        assert letter["text"].startswith("over: outage (40 accounts)\n")
        thread = rig.twin.shown(thread=letter["ts"])
        assert [one["text"].split("\n")[0] for one in thread[1:]] == ["over: outage (40 accounts)"]
        assert not store.pending("slack")


async def test_it_grows_with_accounts_that_come_to_it_and_stays_one(store: Store) -> None:
    async with fleet_of(store) as rig:
        rig.raises(range(1))
        await rig.deliver()
        [letter] = rig.letters
        assert letter["text"].startswith("CRITICAL: outage (a0)\n")
        for begin in range(1, MANY, 13):
            rig.raises(range(begin, min(begin + 13, MANY)))
            rig.clock.ms += 2000
            await rig.deliver(4, every_s=1)
        await rig.deliver()
        await rig.sender.restate(rig.line)
        [letter] = rig.letters
        assert letter["text"].startswith("CRITICAL: outage (40 accounts)\n") and ", a39: " in letter["text"]
        grew = [row for row in rig.said if row.kind is MessageKind.GREW]
        assert len(grew) == 1 and grew[0].text == f"{', '.join(f'a{n}' for n in range(1, MANY))}: {DOWN}"
        answer = rig.twin.shown(thread=letter["ts"])[1]
        assert answer["text"].startswith("grows: outage (40 accounts)") and "subtype" not in answer
        rig.ends(range(MANY))
        await rig.deliver()
        assert [row.kind for row in rig.said] == ["alert", "grew", "over"]


async def test_other_channels_get_it_once_as_well_and_one_that_was_away_is_not_sent_the_single_ones(
    store: Store,
) -> None:
    async with fleet_of(store) as rig:
        mail, late = Scripted("mail"), Scripted("webhook")
        rig.sender.channels = [rig.line.channel, mail]
        rig.sender.causes = causes_of(rig.sender.settings, store, rig.sender.channels, rig.sender.fence)
        first, second = (Line(one, store.newest_message_id()) for one in (mail, late))
        rig.raises(range(MANY))
        for line in (rig.line, first):
            rig.line = line
            await rig.deliver(60)
            while await rig.sender.step(first):
                pass
        rig.ends(range(MANY))
        while await rig.sender.step(first):
            pass
        assert [one.title for one in mail.sent] == [
            "CRITICAL: outage (40 accounts)",
            "over: outage (40 accounts)",
        ]
        both = [rig.line.channel, mail, late]
        rig.sender.causes = causes_of(rig.sender.settings, store, both, rig.sender.fence)
        while await rig.sender.step(second):
            pass
        assert [one.title for one in late.sent] == [one.title for one in mail.sent]
        assert len(rig.said) == 2


async def test_what_gets_worse_is_said_aloud_once(store: Store) -> None:
    async with fleet_of(store, 5) as rig:
        rig.raises(range(5), severity=Severity.WARNING)
        await rig.deliver()
        rig.raises(range(5), "worse", Severity.CRITICAL)
        await rig.deliver()
        assert [(row.kind, row.severity) for row in rig.said] == [
            ("alert", "warning"),
            ("alert", "critical"),
        ]
        shown = [one for one in rig.twin.shown() if "outage" in one["text"]]
        assert shown[1]["thread_ts"] == shown[0]["ts"] and shown[1]["subtype"] == "thread_broadcast"


async def test_nobody_answers_and_one_button_acknowledges_all(store: Store) -> None:
    async with fleet_of(store) as rig:
        rig.line.channel._buttons = True  # type: ignore[attr-defined]
        rig.raises(range(MANY))
        await rig.deliver()
        await rig.sender.restate(rig.line)
        rig.clock.ms += 301_000
        assert escalate(store, 300, 3600) == MANY
        await rig.deliver()
        rig.clock.ms += 3_601_000
        escalate(store, 300, 3600)
        await rig.deliver()
        assert [row.kind for row in rig.said] == ["alert", "escalated", "escalated"]
        rig.of(3).alert("outage", Severity.CRITICAL, "another one", "P3-b")
        [letter] = rig.letters
        button = next(block for block in letter["blocks"] if block["type"] == "actions")["elements"][0]
        command = command_of(button["action_id"], button["value"])
        answer = Asking(rig.sender.settings, store).ask(
            RequestAction.ACK, command.subject, who="ann", via="Slack", key="k", of=command.of
        )
        assert answer.text.count("acknowledged outage") == MANY
        await rig.deliver()
        last = [row for row in rig.said if row.kind is MessageKind.ACKNOWLEDGED]
        assert len(last) == 1 and "ann via Slack" in last[0].text
        assert [row.subject for row in store.alerts(open_only=True) if row.seen_ms is None] == ["P3-b@a3"]


async def test_what_comes_much_later_or_after_the_end_is_a_message_of_its_own(store: Store) -> None:
    async with fleet_of(store, 6) as rig:
        rig.raises(range(2))
        await rig.deliver()
        rig.clock.ms += JOIN_MS + 10_000
        rig.raises(range(2, 4))
        await rig.deliver()
        rig.ends(range(2))
        rig.ends(range(2, 4))
        rig.raises(range(4, 6))
        await rig.deliver()
        threads = dict.fromkeys(row.thread for row in rig.said)
        assert len(threads) == 3 and len(rig.letters) == 3
        ended = [row.thread for row in rig.said if row.kind is MessageKind.OVER]
        assert ended == list(threads)[:2]


async def test_what_is_an_accounts_own_goes_to_its_own_thread(store: Store) -> None:
    async with fleet_of(store, 3) as rig:
        rig.raises(range(3), "the wallet is empty", kind="fee_money")
        await rig.deliver()
        assert not rig.said
        assert [row["text"].split("\n")[0] for row in rig.twin.shown()][-3:] == [
            f"CRITICAL: fee money (P{number})" for number in range(3)
        ]


async def test_breakers_of_accounts_are_one_message_for_each_breaker(store: Store) -> None:
    async with fleet_of(store, 3) as rig:
        for number in range(3):
            for name in ("outage", "api_errors"):
                rig.of(number).alert("breaker tripped", Severity.WARNING, f"{name} of a{number}", name)
        await rig.deliver()
        titles = [row["text"].split("\n")[0] for row in rig.twin.shown()][-2:]
        assert sorted(titles) == [
            "WARNING: breaker tripped api_errors (3 accounts)",
            "WARNING: breaker tripped outage (3 accounts)",
        ]


async def test_a_single_account_has_every_alert_by_itself(store: Store) -> None:
    async with slack_rig(store) as rig:
        store.alert("outage", Severity.CRITICAL, DOWN, "p1")
        await rig.deliver()
        assert rig.texts == ["OPENING (p1)", "CRITICAL: outage (p1)"]


async def test_texts_of_their_own_stand_in_lines_of_their_own_up_to_a_limit(store: Store) -> None:
    async with fleet_of(store) as rig:
        for number in range(MANY):
            rig.raises(range(number, number + 1), f"room {number} %")
        await rig.deliver()
        lines = rig.letters[0]["text"].split("\n")[1:]
        assert lines[:2] == ["a0: room 0 %", "a1: room 1 %"] and len(lines) == MOST_LINES + 1
        assert lines[-1].startswith(f"and a{MOST_LINES}, ") and lines[-1].endswith(", a39")


@pytest.mark.parametrize("kind", FAULTS)
async def test_it_arrives_once_whatever_slack_does_wrong(store: Store, kind: str) -> None:
    async with fleet_of(store, 7) as rig:
        before = len(rig.keys)
        for fault in FAULTS[kind]:
            rig.twin.faults.add(
                Fault(fault.venue, fault.kind, fault.call, 0, fault.times, args=dict(fault.args))
            )
        rig.raises(range(7))
        await rig.deliver(HOUR_S)
        rig.twin.faults.clear()
        rig.ends(range(7))
        await rig.deliver(HOUR_S)
        assert rig.keys[before:] == [row.key for row in rig.said] and len(rig.said) == 2
        assert not store.pending("slack")


@pytest.mark.parametrize("lost", [False, True], ids=["answers arrive", "answers are lost"])
async def test_a_sender_that_is_killed_at_each_step_says_it_once(store: Store, lost: bool) -> None:
    async with fleet_of(store, 7) as rig:
        before = len(rig.keys)
        if lost:
            rig.twin.faults.add(Fault("slack", "drop_answer", call="chat.postMessage", times=4))
        channel, deaths, steps = rig.line.channel, 0, count()
        rig.raises(range(7))
        for what in (lambda: rig.ends(range(7)), lambda: None):
            for nth in steps:
                rig.line = Line(channel, 0)
                with Mortal(rig, nth % 11) as mortal:
                    try:
                        rig.line = Line(mortal, 0)
                        await rig.deliver(HOUR_S)
                        break
                    except Killed:
                        deaths += 1
                rig.clock.ms += 1000
            what()
        rig.line = Line(channel, 0)
        await rig.deliver(HOUR_S)
        assert deaths > 5
        assert rig.keys[before:] == [row.key for row in rig.said] and len(rig.said) == 2


async def test_nothing_is_written_twice_where_the_process_ends_before_it_is_noted(store: Store) -> None:
    """One transaction holds the message and what it stands for; what is over before it is said is said, and over."""
    async with fleet_of(store, 3) as rig:
        real: Callable[..., None] = store.skip_messages

        def ends(*args: Any, **named: Any) -> None:
            real(*args, **named)
            raise Killed

        rig.raises(range(3))
        rig.ends(range(3))
        rig.clock.ms += 6000
        store.skip_messages = ends  # type: ignore[method-assign]
        with pytest.raises(Killed):
            await rig.sender.step(rig.line)
        store.skip_messages = real  # type: ignore[method-assign]
        await rig.deliver()
        assert [row.kind for row in rig.said] == ["alert", "over"] and len(rig.letters) == 1
        assert not store.pending("slack")


EVENTS = st.lists(
    st.tuples(st.sampled_from(["raise", "end", "wait", "send"]), st.integers(0, 4), st.integers(0, 1)),
    max_size=60,
)


@pytest.mark.parametrize("databases", ["sqlite"], indirect=True)
@given(events=EVENTS)
@hypothesis_settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_comes_and_goes_each_alert_is_said_by_one_cause_which_ends(
    databases: Any, events: list[tuple[str, int, int]]
) -> None:
    async def play(store: Store) -> None:
        channel = Scripted("mail", Unsure(reason="lost"), Sent(ref="x"))
        async with fleet_of(store, 5) as rig:
            rig.sender.causes = causes_of(rig.sender.settings, store, [channel], rig.sender.fence)
            rig.line = Line(channel, store.newest_message_id())
            is_open: set[tuple[int, int]] = set()
            for what, number, severity in [*events, *(("end", n, s) for n in range(5) for s in (0, 1))]:
                kind = ("outage", "carry")[severity]
                if what == "raise":
                    rig.raises(range(number, number + 1), severity=list(Severity)[1 + severity], kind=kind)
                    is_open.add((number, severity))
                elif what == "end" and (number, severity) in is_open:
                    rig.ends(range(number, number + 1), kind=kind)
                    is_open.discard((number, severity))
                elif what == "wait":
                    rig.clock.ms += 4000 * (1 + 20 * number)
                else:
                    await rig.sender.step(rig.line)
            while store.pending("mail", rig.line.since_id):
                rig.clock.ms += 0 if await rig.sender.step(rig.line) else 10_000
            single = {row.id for row in store.messages() if row.facts.get("alert")}
            stands_for = [one for row in rig.said for one in row.facts["stands_for"]]
            assert len(stands_for) == len(set(stands_for)) and set(stands_for) <= single
            raised = {row.id for row in store.messages() if row.id in single and row.kind == "alert"}
            assert raised <= set(stands_for), "each alert is said"
            by_thread: dict[str, list[str]] = {}
            for row in rig.said:
                by_thread.setdefault(row.thread, []).append(row.kind)
            assert all(kinds[0] == "alert" and kinds[-1] == "over" for kinds in by_thread.values())
            states = {row.message_id: row.state for row in store.deliveries() if row.channel == "mail"}
            assert {states[number] for number in single if number} <= {DeliveryState.SKIPPED}
            assert {states[row.id or 0] for row in rig.said} <= {DeliveryState.SENT}

    with databases.fresh() as url:
        store = Store.open(url, ManualClock())
        try:
            asyncio.run(play(store))
        finally:
            store.close()


def test_what_accounts_may_share_is_in_the_runbook() -> None:
    assert load_meanings(MEANINGS).keys() >= OF_ALL_ACCOUNTS
