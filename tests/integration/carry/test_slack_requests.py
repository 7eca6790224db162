"""Requests from Slack, from the keyboard of a person to the ledger and back: by Slack's own client, over the twin."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.doctor.messages import requests
from app.messages.requests import status_text
from app.requests.asking import Answer
from evenkeel.errors import LedgerUnavailable
from evenkeel.legs import PositionStatus
from evenkeel.settings.settings import Settings
from flows.carry.monitor import MonitorRequest, watch_position
from state.requests.models import RequestAction, RequestState
from state.store import Store
from state.watch_models import Severity
from tasks.messages.requests.buttons import ACK, CONFIRM, EXIT, SECTION_CHARACTERS, answer_blocks
from tasks.messages.requests.handling import Given, Handler
from tasks.messages.sender import HEARTBEAT
from tests.carry.rig import story_rig
from tests.databases import ManualClock
from tests.message_rig import CHANNEL, Rig, slack_rig
from tests.slack_requests_rig import ANN, BOB, EVE, come, confirmed, next_answer, rig, store, taking, typed
from twins.faults import Fault

__all__ = ["rig", "store"]


async def test_status_pause_and_ack_are_done_at_once(rig: Rig) -> None:
    status = await typed(rig.twin, "status")
    assert "p1: OPENING · SOL 3x" in status["text"] and "no alert is open" in status["text"]
    assert status["response_type"] == "ephemeral" and status["via"] == "response_url"
    paused = await typed(rig.twin, "pause hyperliquid 2h an upgrade")
    assert paused["text"] == "paused (hyperliquid): an upgrade (request 1)"
    [pause] = rig.store.active_pauses()
    assert (pause.scope, pause.reason) == (
        "hyperliquid",
        "an upgrade (request 1)",
    ) and pause.until_ms is not None
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
    assert (
        answer["text"].startswith("resume: all (odd market (request 1)). Confirm within")
        and rig.store.active_pauses()
    )
    assert (await confirmed(rig.twin, answer))["text"] == "resumed (all): odd market (request 1)"
    assert not rig.store.active_pauses()
    flat = await typed(rig.twin, "flatten")
    assert (
        "everything is paused, then 1 position is closed: exit of p1" in flat["text"]
        and not rig.store.active_pauses()
    )
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


class Busy:
    """Takes no request: its ledger is locked."""

    def ask(self, *_: Any, **__: Any) -> Answer:
        raise LedgerUnavailable("locked")

    def confirm(self, *_: Any, **__: Any) -> Answer:
        raise LedgerUnavailable("locked")


def test_a_busy_ledger_is_said_and_one_may_ask_again(store: Store) -> None:
    handler = Handler(Busy(), store, (ANN,), partial(status_text, after_s=90))
    given = Given(who=ANN, channel=CHANNEL, key="k", text="pause all")
    assert "ask again" in handler.reply(given).text
    assert "ask again" in handler.reply(given.model_copy(update={"action_id": CONFIRM, "value": "1"})).text


def test_the_status_is_of_the_ledger_alone(store: Store) -> None:
    assert isinstance(store.clock, ManualClock)
    for number in range(12):
        store.alert(f"rule {number}", Severity.WARNING, "t", "x")
    store.alert("leg vanished", Severity.CRITICAL, "the short is gone", "p1")
    store.pause("entries", "nobody is here")
    lines = status_text(store, 90).splitlines()
    assert lines[0] == "critical: leg vanished (p1): the short is gone"
    assert lines[10:12] == ["and 3 alerts more", "paused (entries): nobody is here"]
    assert lines[12].startswith("p1: OPENING") and lines[12].endswith("; watched")
    store.clock.ms += 120_000
    assert "; nobody has looked for 2 min" in status_text(store, 90)
    assert "; watched" in status_text(store, 600), "by the limit of the settings"


def test_what_is_too_long_for_slack_says_how_much_of_it_is_left_out() -> None:
    lines = [f"p{number}: OPEN, 2,000 USD" for number in range(400)]
    [section] = answer_blocks("\n".join(lines), None)
    shown = section["text"]["text"].splitlines()
    assert len(section["text"]["text"]) <= SECTION_CHARACTERS
    assert shown[:-1] == lines[: len(shown) - 1] and shown[-1] == f"and {400 - len(shown) + 1} more"
    each = "; ".join(f"exit of p{number}: SOL 3x, 2,000 USD a leg" for number in range(400))
    text = f"flatten: everything is paused, then closed: {each}. Confirm within 60 s"
    found = answer_blocks(text, 7)[0]["text"]["text"]
    assert len(found) <= SECTION_CHARACTERS and found.startswith("flatten: everything is paused")
    assert re.search(r"; and \d+ more\. Confirm within 60 s$", found)
    for last in ("", ". Confirm within 60 s"):
        single = answer_blocks("x" * 5_000 + last, None)[0]["text"]["text"]
        assert len(single) == SECTION_CHARACTERS and single.endswith(
            f"(cut: it is too long for one message){last}"
        )
    assert answer_blocks("short", None)[0]["text"]["text"] == "short"


async def test_doctor_asks_slack_and_the_sender(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with slack_rig(store) as rig:
        base = rig.line.channel._client.base_url  # type: ignore[attr-defined]
        monkeypatch.setenv("EVENKEEL_SLACK_TOKEN", rig.twin.token)
        settings = Settings(slack={"channel": CHANNEL, "url": base, "operators": (ANN,)})  # type: ignore[arg-type]

        async def verdict() -> tuple[str, str]:
            found = await requests(SimpleNamespace(settings=settings, store=store))  # type: ignore[arg-type]
            return found.health.value, found.detail

        assert (await verdict())[1].startswith("no app token is set")
        monkeypatch.setenv("EVENKEEL_SLACK_APP_TOKEN", "xapp-1-another")
        health, detail = await verdict()
        assert health == "fail" and "connections:write" in detail and "xapp-1-another" not in detail
        monkeypatch.setenv("EVENKEEL_SLACK_APP_TOKEN", rig.twin.socket.token)
        assert (await verdict())[0] == "ok"
        store.record_heartbeat(HEARTBEAT, {"faults": {"requests": "no connection to Slack"}})
        assert await verdict() == ("warn", "the sender takes no requests: no connection to Slack")
        rig.twin.faults.add(Fault("slack", "http_500", call="apps.connections.open"))
        assert (await verdict())[0] == "warn"


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
