"""Orders from Slack, from the keyboard of a person to the ledger and back: by Slack's own client, over the twin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.messages.orders import open_orders, status_text
from app.requests.asking import Answer
from evenkeel.errors import LedgerUnavailable
from evenkeel.legs import PositionStatus
from evenkeel.settings.settings import Settings
from flows.carry.monitor import MonitorRequest, watch_position
from state.requests.models import RequestAction, RequestState
from state.store import Store
from state.watch_models import Severity
from tasks.messages.orders.buttons import ACK, CONFIRM, EXIT
from tasks.messages.orders.connection import Connection
from tasks.messages.orders.handling import Given, Orders
from tests.carry.rig import story_rig
from tests.databases import ManualClock
from tests.message_rig import CHANNEL, Rig, slack_rig
from twins.faults import Fault
from twins.slack import SlackTwin
from twins.slack.socket_mode import Envelope

ANN, BOB, EVE = "U0000000ANN", "U0000000BOB", "U0000000EVE"
STEPS = 4_500


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    url = f"sqlite:///{tmp_path / 'orders.db'}"
    Store.upgrade(url)
    found = Store.open(url, ManualClock())
    found.carry.create_position("p1", asset="SOL", leverage=Decimal(3))
    yield found
    found.close()


async def come(condition: Callable[[], object]) -> None:
    for _ in range(STEPS):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come about")


@asynccontextmanager
async def taking(
    store: Store, twin: SlackTwin, base: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Connection]:
    """A connection that takes the orders of two people."""
    monkeypatch.setenv("EVENKEEL_SLACK_TOKEN", twin.token)
    monkeypatch.setenv("EVENKEEL_SLACK_APP_TOKEN", twin.socket.token)
    settings = Settings(slack={"channel": CHANNEL, "url": base, "operators": (ANN, BOB)})  # type: ignore[arg-type]
    connection = open_orders(settings, store)
    assert connection is not None
    ended = asyncio.Event()
    running = asyncio.create_task(connection.run(ended))
    try:
        await come(lambda: twin.socket.connections or running.done())
        yield connection
    finally:
        ended.set()
        await running


@pytest.fixture
async def rig(store: Store, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    async with slack_rig(store) as found:
        base = found.line.channel._client.base_url  # type: ignore[attr-defined]
        async with taking(store, found.twin, base, monkeypatch):
            await come(lambda: found.twin.socket.connections)
            yield found


async def next_answer(twin: SlackTwin, who: str, before: int, sent: Envelope) -> dict[str, Any]:
    await come(lambda: len(twin.socket.answers_to(who)) > before and sent.state == "acknowledged")
    return twin.socket.answers_to(who)[-1]


async def typed(twin: SlackTwin, text: str, who: str = ANN) -> dict[str, Any]:
    before = len(twin.socket.answers_to(who))
    return await next_answer(twin, who, before, twin.socket.command(who, text))


async def confirmed(twin: SlackTwin, answer: dict[str, Any], who: str = ANN) -> dict[str, Any]:
    """The answer after its button is pressed: what came of it stands in the place of the question."""
    asked = answer["text"]
    sent = twin.socket.press(who, answer, CONFIRM)
    await come(lambda: sent.state == "acknowledged" and answer["text"] != asked)
    return answer


async def test_status_pause_and_ack_are_done_at_once(rig: Rig) -> None:
    status = await typed(rig.twin, "status")
    assert "p1: OPENING · SOL 3x" in status["text"] and "no alert is open" in status["text"]
    assert status["response_type"] == "ephemeral" and status["via"] == "response_url"
    paused = await typed(rig.twin, "pause hyperliquid 2h an upgrade")
    assert paused["text"] == "paused (hyperliquid): an upgrade"
    [pause] = rig.store.active_pauses()
    assert (pause.scope, pause.reason) == ("hyperliquid", "an upgrade") and pause.until_ms is not None
    rig.store.alert("fee_money", Severity.CRITICAL, "0.004 SOL", "p1")
    assert "critical: fee_money (p1): 0.004 SOL" in (await typed(rig.twin, "status"))["text"]
    assert (await typed(rig.twin, "ack fee money"))["text"] == "acknowledged fee_money (p1)"
    [alert] = rig.store.alerts(open_only=True)
    assert alert.seen_ms is not None
    assert any(f"{ANN} via Slack" in str(row.note) for row in rig.store.transitions("alert"))
    assert "nothing was done" in (await typed(rig.twin, "sell everything"))["text"]


async def test_an_unlisted_person_does_nothing_and_reads_so(rig: Rig) -> None:
    for text in ("pause all", "status", "exit p1", "flatten", "ack"):
        answer = await typed(rig.twin, text, EVE)
        assert (
            answer["text"] == f"{EVE} is not among slack.operators, who alone may do this; nothing was done"
        )
    assert not rig.store.active_pauses() and not rig.store.requests.newest(9)


async def test_an_exit_waits_for_its_confirmation_by_the_same_person_once(rig: Rig) -> None:
    answer = await typed(rig.twin, "exit p1")
    assert "exit of p1: SOL 3x" in answer["text"] and "Confirm within 60 s" in answer["text"]
    assert not rig.store.requests.to_do(RequestAction.EXIT, "p1")
    assert "who alone may confirm it" in (await confirmed(rig.twin, answer, BOB))["text"]
    again = await typed(rig.twin, "exit p1")
    assert "its monitor begins" in (await confirmed(rig.twin, again))["text"]
    assert len(rig.store.requests.to_do(RequestAction.EXIT, "p1")) == 1


async def test_a_confirmation_that_comes_twice_or_late_does_nothing_and_says_so(rig: Rig) -> None:
    answer = await typed(rig.twin, "exit p1")
    question = {**answer, "blocks": list(answer["blocks"])}
    await confirmed(rig.twin, answer)
    before = len(rig.twin.socket.answers_to(ANN))
    rig.twin.socket.press(ANN, question, CONFIRM)  # on another device, where the question still stands
    await come(
        lambda: (
            any("is confirmed already" in one["text"] for one in rig.twin.socket.answers_to(ANN))
            or "is confirmed already" in question["text"]
        )
    )
    assert len(rig.twin.socket.answers_to(ANN)) in (before, before + 1)
    late = await typed(rig.twin, "exit p1")
    rig.clock.ms += 61_000
    assert "has lapsed" in (await confirmed(rig.twin, late))["text"]
    states = [row.state for row in rig.store.requests.newest(9)]
    assert states == [RequestState.CONFIRMED, RequestState.ASKED]


async def test_resume_and_flatten_wait_for_a_confirmation_that_names_what_they_do(rig: Rig) -> None:
    await typed(rig.twin, "pause all odd market")
    answer = await typed(rig.twin, "resume")
    assert answer["text"].startswith("resume: all (odd market). Confirm within") and rig.store.active_pauses()
    assert (await confirmed(rig.twin, answer))["text"] == "resumed (all): odd market"
    assert not rig.store.active_pauses()
    flat = await typed(rig.twin, "flatten")
    assert "everything is paused, then closed: exit of p1" in flat["text"] and not rig.store.active_pauses()
    assert (await confirmed(rig.twin, flat))["text"] == "everything is paused; exits asked for: p1"
    assert [one.scope for one in rig.store.active_pauses()] == ["all"]


async def test_the_buttons_under_an_alert_work(rig: Rig) -> None:
    rig.line.channel._buttons = True  # type: ignore[attr-defined]
    rig.store.alert("fee_money", Severity.CRITICAL, "0.004 SOL", "p1")
    await rig.deliver()
    [message] = [row for row in rig.twin.shown() if "fee money" in row["text"]]
    before = len(rig.twin.socket.answers_to(ANN))
    answer = await next_answer(rig.twin, ANN, before, rig.twin.socket.press(ANN, message, ACK))
    assert answer["text"] == "acknowledged fee_money (p1)" and len(rig.twin.shown()) == 2
    answer = await next_answer(rig.twin, ANN, before + 1, rig.twin.socket.press(ANN, message, EXIT))
    assert "exit of p1" in answer["text"]
    await confirmed(rig.twin, answer)
    assert len(rig.store.requests.to_do(RequestAction.EXIT, "p1")) == 1
    await come(lambda: rig.twin.shown()[1]["text"] == message["text"])


# --- what Slack does wrong -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["ack_lost", "envelope_twice", "other_id"])
async def test_an_order_that_comes_twice_is_done_and_answered_once(rig: Rig, fault: str) -> None:
    rig.twin.socket.ack_s = 0.2
    kind, args = ("envelope_twice", {"other_id": True}) if fault == "other_id" else (fault, {})
    rig.twin.faults.add(Fault("slack", kind, args=args))
    await typed(rig.twin, "pause all odd market")
    after = await typed(rig.twin, "status")
    assert "paused (all): odd market" in after["text"]
    assert [one["text"] for one in rig.twin.socket.answers_to(ANN)].count("paused (all): odd market") == 1
    assert len(rig.store.requests.newest(9)) == 1
    assert len([row for row in rig.store.transitions("pause")]) == 1


async def test_an_order_that_comes_again_to_the_next_process_is_done_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with slack_rig(store) as rig:
        rig.twin.socket.ack_s = 0.2
        base = rig.line.channel._client.base_url  # type: ignore[attr-defined]
        async with taking(store, rig.twin, base, monkeypatch):
            await typed(rig.twin, "pause all odd market")
        payload = rig.twin.socket.envelopes[0].payload
        async with taking(store, rig.twin, base, monkeypatch):
            before = len(rig.twin.socket.answers_to(ANN))
            answer = await next_answer(rig.twin, ANN, before, rig.twin.socket.push("slash_commands", payload))
        assert "was asked for before" in answer["text"] and "nothing was done" in answer["text"]
        assert len(store.requests.newest(9)) == 1


@pytest.mark.parametrize("reason", ["refresh_requested", "warning", ""])
async def test_a_connection_that_ends_is_opened_again(rig: Rig, reason: str) -> None:
    for _ in range(2):
        before = rig.twin.socket.opened
        if reason:
            rig.twin.socket.disconnect(reason)
        else:
            rig.twin.socket.drop()
        await come(lambda before=before: rig.twin.socket.opened > before)  # type: ignore[misc]
        await come(lambda: rig.twin.socket.connections == 1)
        assert "p1" in (await typed(rig.twin, "status"))["text"]


async def test_an_order_whose_first_envelope_is_lost_is_done_when_it_comes_again(rig: Rig) -> None:
    """What comes again is not thrown away: it may be the first that we see of it."""
    rig.twin.socket.ack_s = 0.2
    rig.twin.faults.add(Fault("slack", "envelope_lost"))
    assert (await typed(rig.twin, "pause all"))["text"].startswith("paused (all)")
    assert len(rig.twin.socket.envelopes[-1].tries) == 2


async def test_a_refusal_while_the_connection_is_exchanged_ends_nothing(rig: Rig) -> None:
    rig.twin.faults.add(Fault("slack", "http_500", call="apps.connections.open", times=2))
    rig.twin.socket.disconnect("refresh_requested")
    await come(lambda: rig.twin.socket.opened == 2 and rig.twin.socket.connections == 1)
    assert "p1" in (await typed(rig.twin, "status"))["text"]


class Pipe:
    """Passes bytes on to a server until it is frozen: then nothing comes through, and nobody hangs up."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._open: set[asyncio.StreamWriter] = set()
        self._frozen: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Pipe:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.base = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for one in self._open:
            one.close()

    def freeze(self) -> None:
        """What is open now stays so, and nothing comes through it any more; what is opened from now on works."""
        self._frozen = set(self._open)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to = await asyncio.open_connection("127.0.0.1", self.port)
        self._open |= {writer, to}
        with suppress(OSError):
            await asyncio.gather(self._pass(reader, to), self._pass(there, writer))
        for one in (writer, to):
            one.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if writer not in self._frozen:
                writer.write(data)
                await writer.drain()
        if writer not in self._frozen:
            writer.close()


async def test_a_connection_that_is_open_and_silent_is_replaced(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A router that forgot us: no end is seen, and no answer to a ping comes any more."""
    async with slack_rig(store) as rig:
        port = int(rig.line.channel._client.base_url.split(":")[2].split("/")[0])  # type: ignore[attr-defined]
        async with Pipe(port) as pipe, taking(store, rig.twin, f"{pipe.base}/api", monkeypatch):
            assert "p1" in (await typed(rig.twin, "status"))["text"]
            pipe.freeze()
            await come(lambda: rig.twin.socket.opened == 2)
            rig.twin.socket.forget_first()
            assert "p1" in (await typed(rig.twin, "status"))["text"]


async def test_an_address_that_takes_nothing_any_more_is_answered_in_the_channel(rig: Rig) -> None:
    rig.twin.faults.add(Fault("slack", "one_endpoint", call="/response/.*", args={"how": "404"}))
    answer = await typed(rig.twin, "pause all")
    assert answer["via"] == "chat.postEphemeral" and answer["text"].startswith("paused (all)")
    rig.twin.faults.add(Fault("slack", "one_endpoint", call="/response/.*|chat.postEphemeral", times=2))
    lost = rig.twin.socket.command(ANN, "status")
    await come(lambda: lost.state == "acknowledged")
    assert "paused (all)" in (await typed(rig.twin, "status"))["text"], "one answer that is lost ends nothing"


async def test_what_slack_refuses_at_the_start_is_said_and_tried_again(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with slack_rig(store) as rig:
        base = rig.line.channel._client.base_url  # type: ignore[attr-defined]
        token = rig.twin.socket.token
        rig.twin.faults.add(Fault("slack", "http_500", call="apps.connections.open", times=1))
        async with taking(store, rig.twin, base, monkeypatch) as connection:
            await come(lambda: not connection.fault)
            rig.twin.socket.token = "xapp-1-another"
            rig.twin.socket.drop()
            await come(lambda: connection.fault)
            rig.twin.socket.token = token
            await come(lambda: not connection.fault)
            assert "p1" in (await typed(rig.twin, "status"))["text"]
    assert "no orders are taken" in caplog.text and "orders are taken from Slack" in caplog.text
    assert token not in caplog.text and rig.twin.token not in caplog.text


class Busy:
    """Takes no request: its ledger is locked."""

    def ask(self, *_: Any, **__: Any) -> Answer:
        raise LedgerUnavailable("locked")

    def confirm(self, *_: Any, **__: Any) -> Answer:
        raise LedgerUnavailable("locked")


def test_a_busy_ledger_is_said_and_the_order_may_be_given_again(store: Store) -> None:
    orders = Orders(Busy(), store, (ANN,), status_text)
    given = Given(who=ANN, channel=CHANNEL, key="k", text="pause all")
    assert "give the order again" in orders.reply(given).text
    assert (
        "give the order again"
        in orders.reply(given.model_copy(update={"action_id": CONFIRM, "value": "1"})).text
    )


# --- to the venue --------------------------------------------------------------------------------------------


async def test_an_exit_by_button_closes_both_legs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way: the alert with its buttons, the question, the confirmation, and the monitor that has the keys."""
    async with story_rig(tmp_path) as venue:
        position_id = await venue.entered(asset="SOL", size_usd="2000")
        store = venue.desk.store
        async with slack_rig(store) as rig:
            base = rig.line.channel._client.base_url  # type: ignore[attr-defined]
            async with taking(store, rig.twin, base, monkeypatch):
                answer = await typed(rig.twin, f"exit {position_id}")
                assert f"exit of {position_id}: SOL" in answer["text"]
                assert "USD a leg; closing is expected to cost " in answer["text"]
                await confirmed(rig.twin, answer)
                await watch_position(venue.desk, MonitorRequest(position_id=position_id))
                status = (await typed(rig.twin, "status"))["text"]
        assert venue.status(position_id) is PositionStatus.CLOSED and venue.flat
        assert f"{position_id}: CLOSED" in status


def test_the_status_is_of_the_ledger_alone(store: Store) -> None:
    assert isinstance(store.clock, ManualClock)
    for number in range(12):
        store.alert(f"rule {number}", Severity.WARNING, "t", "x")
    text = status_text(store)
    assert "and 2 alerts more" in text and text.splitlines()[0].startswith("p1: OPENING")
