"""What people type and press in Slack, as a command or as one line that says what is meant by it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slack_sdk.socket_mode.request import SocketModeRequest

from evenkeel.errors import OperatorError
from state.watch_models import Severity
from tasks.channels import Letter
from tasks.messages.requests.buttons import (
    ACK,
    CONFIRM,
    EXIT,
    PAUSE,
    answer_blocks,
    buttons_of,
    command_of,
    number_of,
)
from tasks.messages.requests.connection import given_of
from tasks.messages.requests.parsing import Command, parse
from tasks.messages.slack import blocks_of
from twins.slack.content import wrong_content


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("", Command(action="help")),
        ("help", Command(action="help")),
        (" STATUS ", Command(action="status")),
        ("pause", Command(action="pause")),
        ("pause all", Command(action="pause", scope="all")),
        (
            "Pause Hyperliquid 2.5h an upgrade",
            Command(action="pause", scope="hyperliquid", hours=2.5, reason="an upgrade"),
        ),
        ("pause entries odd market", Command(action="pause", scope="entries", reason="odd market")),
        ("resume", Command(action="resume")),
        ("resume asgard", Command(action="resume", scope="asgard")),
        ("exit P-1", Command(action="exit", subject="P-1")),
        ("exit `P-1`", Command(action="exit", subject="P-1")),
        ("exit", Command(action="exit")),
        ("flatten", Command(action="flatten")),
        ("ack", Command(action="ack")),
        ("ack price gap", Command(action="ack", subject="price gap")),
        ("ack fee_money (p1)", Command(action="ack", subject="fee_money", of="p1")),
    ],
)
def test_a_command_is_understood(text: str, command: Command) -> None:
    assert parse(text) == command


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sell", "'sell' is no command; nothing was done. /evenkeel status"),
        ("pause hyperliqid", "scope 'hyperliqid' is unknown; allowed are entries"),
        ("pause all 9999h", "9999h must be above 0 and at most 8760h; nothing was paused"),
        ("pause all 0h", "0h must be above 0"),
        ("exit p1 p2", "exit takes one position, here 'p1 p2'; nothing was done"),
        ("flatten now", "flatten takes nothing more, here 'now'; nothing was done"),
        ("ack a (b) c", "names no alert"),
        ("x" * 501, "at most 500 characters"),
    ],
)
def test_what_is_no_command_is_refused_in_one_line(text: str, says: str) -> None:
    with pytest.raises(OperatorError) as refused:
        parse(text)
    assert says in str(refused.value) and "\n" not in str(refused.value)


@given(st.text(max_size=600))
def test_whatever_is_typed_is_a_command_or_refused_in_one_line(text: str) -> None:
    try:
        found = parse(text)
    except OperatorError as refused:
        assert "\n" not in str(refused)
    else:
        assert found.action in ("help", "status", "pause", "resume", "exit", "flatten", "ack")


def alert(**more: Any) -> Letter:
    given = {
        "key": "k",
        "severity": Severity.CRITICAL,
        "title": "CRITICAL: fee money (p1)",
        "text": "t",
        "at_ms": 1,
        "kind": "alert",
        "about": "fee_money",
        "subject": "p1",
        "thread": "p1",
    }
    return Letter(**(given | more))


def pressed(letter: Letter) -> dict[str, Command]:
    [block] = buttons_of(letter)
    return {one["action_id"]: command_of(one["action_id"], one["value"]) for one in block["elements"]}


def test_the_buttons_under_an_alert_say_what_they_are_of() -> None:
    assert pressed(alert()) == {
        ACK: Command(action="ack", subject="fee_money", of="p1"),
        PAUSE: Command(action="pause", scope="entries"),
        EXIT: Command(action="exit", subject="p1"),
    }
    assert set(pressed(alert(subject="asgard", thread="alert/3"))) == {ACK, PAUSE}
    assert not buttons_of(alert(kind="over")) and not buttons_of(alert(kind="subject"))


@given(st.text(max_size=3_000), st.text(max_size=3_000))
def test_slack_takes_the_buttons_of_every_alert(about: str, subject: str) -> None:
    letter = alert(about=about, subject=subject, thread=subject)
    assert not wrong_content({"text": "t", "blocks": blocks_of(letter, buttons=True)})
    assert not wrong_content({"text": "t", "blocks": answer_blocks("t" + about, 7)})


@pytest.mark.parametrize("value", ["", "-1", "x", "1.5", "٣", "9" * 30])
def test_a_confirmation_of_no_request_is_refused(value: str) -> None:
    with pytest.raises(OperatorError, match="names no request"):
        number_of(value)


@pytest.mark.parametrize(
    ("action_id", "value"), [("other", "{}"), (ACK, "no json"), (EXIT, json.dumps({"x": 1})), (PAUSE, "[]")]
)
def test_a_button_of_somebody_else_does_nothing(action_id: str, value: str) -> None:
    with pytest.raises(OperatorError, match="not known here"):
        command_of(action_id, value)


@pytest.mark.parametrize(
    "payload", [{}, {"user_id": 7}, {"type": "block_actions", "actions": []}, {"type": "view_submission"}]
)
@pytest.mark.parametrize("kind", ["slash_commands", "interactive", "events_api"])
def test_an_envelope_that_is_no_command_is_left_alone(kind: str, payload: dict[str, Any]) -> None:
    assert given_of(SocketModeRequest(type=kind, envelope_id="e", payload=payload)) is None


def test_a_confirmation_is_no_command_of_its_own() -> None:
    with pytest.raises(OperatorError):
        command_of(CONFIRM, "1")
