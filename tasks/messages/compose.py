"""From a message of the outbox to the letter that a person reads."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from evenkeel.types import Frozen
from state.outbox_models import Message, MessageKind
from state.watch_models import Severity
from tasks.channels import Letter, Picture

RUNBOOK = "docs/runbook.md"
PNG = "png"
"""The fact of a message that holds its picture, in base64."""

WHAT, WHOSE = "what", "whose"
"""The facts of a message for many accounts: what of the alert's kind it is about, and whose it is in a few words."""


class Meaning(Frozen):
    """What an alert is about, what the system does about it and what a person does: its row in the runbook.

    `heading` is the section of the runbook that it stands in.
    """

    means: str
    does: str
    do: str
    heading: str


def load_meanings(path: Path) -> dict[str, Meaning]:
    """Read the meanings of a business's alerts, by kind."""
    return {kind: Meaning(**row) for kind, row in json.loads(path.read_text()).items()}


def compose(
    message: Message,
    meanings: Mapping[str, Meaning],
    *,
    runbook_url: str = "",
    thread_ref: str = "",
) -> Letter:
    """The letter of a message. An alert of an unknown kind has its own text alone."""
    row = meanings.get(message.about) if message.kind in _OF_ALERTS else None
    speaks = row is not None and message.kind in (MessageKind.ALERT, MessageKind.ESCALATED)
    links = {}
    if message.kind in _OF_ALERTS and row is not None:
        links["runbook"] = f"{runbook_url or RUNBOOK}#{anchor(row.heading)}"
    return Letter(
        key=message.key,
        severity=message.severity,
        title=_title(message),
        text=message.text,
        at_ms=message.at_ms,
        kind=message.kind.value,
        about=message.about,
        subject=message.subject,
        did=row.does if speaks and row is not None else "",
        do=row.do if speaks and row is not None else "",
        links=links,
        thread=message.thread,
        thread_ref=thread_ref,
        loud=_is_loud(message),
        urgent=message.kind is MessageKind.ESCALATED,
        picture=picture_of(message),
    )


def picture_of(message: Message) -> Picture | None:
    """The picture that a message carries. Its file is named by the message's key, so that it is known again."""
    encoded = message.facts.get(PNG)
    if not encoded:
        return None
    mark = hashlib.sha256(message.key.encode()).hexdigest()[:16]
    return Picture(name=f"{anchor(message.about)}-{mark}.png", data=base64.b64decode(encoded))


def anchor(heading: str) -> str:
    """The fragment by which GitHub links to a heading."""
    kept = "".join(one for one in heading.lower() if one.isalnum() or one in " -_")
    return kept.strip().replace(" ", "-")


_OF_ALERTS = frozenset(
    {
        MessageKind.ALERT,
        MessageKind.GREW,
        MessageKind.OVER,
        MessageKind.ACKNOWLEDGED,
        MessageKind.ESCALATED,
    }
)
_SAYS = {
    MessageKind.GREW: "grows",
    MessageKind.OVER: "over",
    MessageKind.ACKNOWLEDGED: "acknowledged",
    MessageKind.ESCALATED: "still open",
}


def _title(message: Message) -> str:
    about = message.about.replace("_", " ")
    if message.facts.get(WHAT):  # of one cause over many accounts
        about += f" {message.facts[WHAT]}"
    subject = message.subject or message.facts.get(WHOSE)
    of = f" ({subject})" if subject else ""
    if message.kind is MessageKind.ALERT:
        return f"{message.severity.upper()}: {about}{of}"
    if message.kind in _SAYS:
        return f"{_SAYS[message.kind]}: {about}{of}"
    if message.kind is MessageKind.REQUEST:
        return f"request: {about}{of}"
    if message.kind is MessageKind.SUBJECT:
        return f"{message.about}{of}"
    return about


def _is_loud(message: Message) -> bool:
    if message.kind in (MessageKind.ALERT, MessageKind.ESCALATED):
        return message.severity is not Severity.INFO
    return message.kind in (MessageKind.REPORT, MessageKind.TRIAL)
