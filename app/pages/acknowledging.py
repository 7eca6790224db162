"""A person has seen an alert, and says so from a page: what `evenkeel ack` does."""

from __future__ import annotations

from app.pages.action import Action, Field, Given
from app.pages.reader import Ledger
from tasks import admin


def _says(ledger: Ledger, given: Given) -> list[str]:
    open_now = [
        one
        for one in ledger.store.alerts(open_only=True)
        if (one.kind, one.subject) == (given["kind"], given["subject"])
    ]
    if not open_now:
        return [
            f"No alert {given['kind']!r} of {given['subject'] or 'nobody in particular'!r} is open any more."
        ]
    lines = []
    for one in open_now:
        lines.append(
            f"{one.severity.value}: {one.kind}{f' ({one.subject})' if one.subject else ''}: {one.text}"
        )
        closes = one.news or one.seen_ms is not None
        lines.append(
            "It is closed by this."
            if closes
            else "It stays open while it goes on, and is silent until it gets worse or has ended. Nothing else changes."
        )
    return lines


def _do(ledger: Ledger, given: Given, who: str) -> str:
    admin.acknowledge(ledger.store, given["kind"], given["subject"], given["reason"], who)
    return "/alerts"


ACKNOWLEDGE = Action(
    name="acknowledge",
    title="Acknowledge an alert",
    button="I have seen it",
    back="/alerts",
    says=_says,
    do=_do,
    fixed=("kind", "subject"),
    asks=(Field("reason", "Note for the audit log"),),
)
