"""The buttons under messages in Slack, what their values hold, and the blocks of an answer to one person."""

from __future__ import annotations

import json
import re
from typing import Any

from evenkeel.errors import OperatorError
from state.outbox_models import CAUSE
from tasks.channels import Letter
from tasks.messages.requests.parsing import Command

ACK, PAUSE, EXIT, CONFIRM = "evenkeel_ack", "evenkeel_pause", "evenkeel_exit", "evenkeel_confirm"
VALUE_CHARACTERS = 2_000
SECTION_CHARACTERS = 2_900
CONFIRM_WITHIN = "Confirm within"
"""How the last sentence of an answer begins that is to be confirmed."""
CUT = " … (cut: it is too long for one message)"
LOUD_KINDS = ("alert", "escalated")


def buttons_of(letter: Letter) -> list[dict[str, Any]]:
    """The block of buttons under an alert: it is seen, entries are paused, and, where it is about what has a thread of its
    own, that is closed. Nothing under any other message.
    """
    if letter.kind not in LOUD_KINDS:
        return []
    found = [
        _button(ACK, "Acknowledge", json.dumps({"alert": letter.about, "of": _whose(letter)})),
        _button(PAUSE, "Pause entries", json.dumps({"scope": "entries"})),
    ]
    if letter.subject and letter.thread == letter.subject:
        found.append(_button(EXIT, "Exit …", json.dumps({"subject": letter.subject}), style="danger"))
    fitting = [one for one in found if len(one["value"]) <= VALUE_CHARACTERS]
    return [{"type": "actions", "elements": fitting}] if fitting else []


def _whose(letter: Letter) -> str:
    """What the alert is about: for one of many accounts the thread that stands for all of them."""
    return letter.thread if letter.thread.startswith(CAUSE) else letter.subject


def command_of(action_id: str, value: str) -> Command:
    """The command behind a button that is no confirmation. Raises OperatorError for a button of somebody else."""
    try:
        held = json.loads(value)
        if action_id == ACK:
            return Command(action="ack", subject=str(held["alert"]), of=str(held["of"]))
        if action_id == PAUSE:
            return Command(action="pause", scope=str(held["scope"]))
        if action_id == EXIT:
            return Command(action="exit", subject=str(held["subject"]))
    except (ValueError, KeyError, TypeError):
        pass
    raise OperatorError("this button is not known here: it is of another version or app; nothing was done")


def number_of(value: str) -> int:
    """The number of the request that a confirmation is of. Raises OperatorError where it has none."""
    if not value.isascii() or not value.isdigit() or len(value) > 18:
        raise OperatorError("this confirmation names no request; nothing was done")
    return int(value)


def answer_blocks(text: str, confirm: int | None) -> list[dict[str, Any]]:
    """An answer as Block Kit, with the button that confirms a request under it. What is too long for it says so."""
    section = {"type": "section", "text": {"type": "mrkdwn", "text": shortened(text, SECTION_CHARACTERS)}}
    if confirm is None:
        return [section]
    return [
        section,
        {"type": "actions", "elements": [_button(CONFIRM, "Confirm", str(confirm), style="danger")]},
    ]


def shortened(text: str, most: int) -> str:
    """Return a text of at most so many characters: whole lines, or where it is one line whole clauses, and how many are left
    out. How long a confirmation is good for, its last sentence, stays.
    """
    if len(text) <= most:
        return text
    last = re.search(rf"\. {CONFIRM_WITHIN} \d+ s$", text)
    end = last[0] if last else ""
    between = "\n" if "\n" in text else "; "
    pieces = text.removesuffix(end).split(between)
    room = most - len(end) - len(f"{between}and {len(pieces)} more")
    kept = 0
    while kept < len(pieces) and len(between.join(pieces[: kept + 1])) <= room:
        kept += 1
    if not kept:  # a single piece is longer than everything that may be shown
        return f"{text[: most - len(end) - len(CUT)]}{CUT}{end}"
    return f"{between.join([*pieces[:kept], f'and {len(pieces) - kept} more'])}{end}"


def _button(action_id: str, text: str, value: str, style: str = "") -> dict[str, Any]:
    made: dict[str, Any] = {
        "type": "button",
        "action_id": action_id,
        "text": {"type": "plain_text", "text": text},
        "value": value,
    }
    return made | ({"style": style} if style else {})
