"""From what a person types behind `/evenkeel` to a command, or one line that says what is meant by it."""

from __future__ import annotations

import re

from evenkeel.errors import OperatorError
from evenkeel.types import Frozen
from tasks.admin import SCOPES

HELP = (
    "/evenkeel status | pause [SCOPE [2h] [why]] | resume [SCOPE] | exit POSITION | flatten | ack [ALERT [(SUBJECT)]]. "
    f"SCOPE is one of {', '.join(SCOPES)}; without one a pause is of entries, and a resume ends every pause."
)
MOST_CHARACTERS = 500
MOST_HOURS = 24 * 365
_HOURS = re.compile(r"(\d{1,4}(?:\.\d{1,3})?)h")
_ALERT = re.compile(r"(?P<kind>[^()]+?)(?:\s*\((?P<subject>[^()]*)\))?")


class Command(Frozen):
    """What is to be done. `subject`: the position of an exit, the alert of an acknowledgement, and `of` what that is about."""

    action: str
    subject: str = ""
    of: str | None = None
    scope: str | None = None
    hours: float | None = None
    reason: str = ""


def parse(text: str) -> Command:
    """Return the command that a text says. Raises OperatorError, in one line, for one that says none."""
    if len(text) > MOST_CHARACTERS:
        raise OperatorError(
            f"a command has at most {MOST_CHARACTERS} characters, this one {len(text)}; nothing was done"
        )
    action, _, rest = " ".join(text.split()).partition(" ")
    action, rest = action.lower(), rest.strip("`\"'“”‘’ ")
    if action in ("", "help", "?"):
        return Command(action="help")
    if action in ("status", "flatten"):
        if rest:
            raise OperatorError(f"{action} takes nothing more, here {rest!r}; nothing was done")
        return Command(action=action)
    if action == "exit":
        if len(rest.split()) > 1:
            raise OperatorError(f"exit takes one position, here {rest!r}; nothing was done")
        return Command(action=action, subject=rest)
    if action == "pause":
        return _pause(rest)
    if action == "resume":
        return Command(action=action, scope=_scope(rest) if rest else None)
    if action == "ack":
        return _ack(rest)
    raise OperatorError(f"{action!r} is no command; nothing was done. {HELP}")


def _pause(rest: str) -> Command:
    first, _, why = rest.partition(" ")
    hours = None
    if (found := _HOURS.fullmatch(why.partition(" ")[0])) is not None:
        hours, why = float(found[1]), why.partition(" ")[2]
        if not 0 < hours <= MOST_HOURS:
            raise OperatorError(f"{found[0]} must be above 0 and at most {MOST_HOURS}h; nothing was paused")
    return Command(action="pause", scope=_scope(first) if first else None, hours=hours, reason=why.strip())


def _scope(text: str) -> str:
    if (
        text.lower().partition("@")[0] not in SCOPES
    ):  # whose account it is, is checked where the fleet is known
        raise OperatorError(f"scope {text!r} is unknown; allowed are {', '.join(SCOPES)}; nothing was done")
    return text.lower()


def _ack(rest: str) -> Command:
    if not rest:
        return Command(action="ack")
    found = _ALERT.fullmatch(rest)
    if found is None:
        raise OperatorError(f"{rest!r} names no alert: write it as the message does, e.g. ack price gap (p1)")
    return Command(action="ack", subject=found["kind"].strip(), of=found["subject"] or None)
