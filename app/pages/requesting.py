"""Pause, resume, exit and flatten from a page: asked for through the ledger, as from a chat. The pages hold no venue's key."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

from app.pages.action import Action, Field, Given
from app.pages.reader import Ledger
from app.requests.asking import Asking
from evenkeel.errors import OperatorError
from state.requests.models import RequestAction, RequestState

VIA = "desk"
MOST_DIGITS = 18
"""Of the number of a request: what a ledger can hold."""


def _asking(ledger: Ledger) -> Asking:
    return Asking(ledger.settings, ledger.store)


def _says(action: RequestAction) -> Callable[[Ledger, Given], list[str]]:
    def says(ledger: Ledger, given: Given) -> list[str]:
        try:
            text = _asking(ledger).says(action, given.get("position", ""), given.get("scope") or None)
        except OperatorError as refused:
            return [f"{refused}."]
        return [f"{text}."]

    return says


def _do(action: RequestAction, shown_at: str) -> Callable[[Ledger, Given, str], str]:
    def do(ledger: Ledger, given: Given, who: str) -> str:
        answer = _asking(ledger).ask(
            action,
            given.get("position", ""),
            who=who,
            via=VIA,
            key=f"{VIA}/{uuid4()}",
            reason=given["reason"],
            scope=given.get("scope") or None,
        )
        if answer.state is RequestState.ASKED:
            return f"/do/confirm?request={answer.request_id}"
        return shown_at

    return do


def _number(given: Given) -> int:
    number = given["request"]
    if not (number.isascii() and number.isdigit() and len(number) <= MOST_DIGITS):
        raise OperatorError(f"{number!r} is no request's number; ask again")
    return int(number)


def _says_confirm(ledger: Ledger, given: Given) -> list[str]:
    try:
        row = ledger.store.requests.request(_number(given))
    except OperatorError as refused:
        return [f"{refused}."]
    if row is None:
        return ["There is no such request."]
    if row.state is not RequestState.ASKED:
        return [f"{row.text}.", f"It is {row.state}{f': {row.outcome}' if row.outcome else ''}."]
    left_s = max(0, (row.until_ms - ledger.clock.now_ms()) // 1000)
    return [f"{row.text}.", f"Nothing is done yet: confirm within {left_s} s, or it lapses."]


def _confirm(ledger: Ledger, given: Given, who: str) -> str:
    answer = _asking(ledger).confirm(_number(given), who=who)
    if answer.action is RequestAction.EXIT:
        row = ledger.store.requests.request(answer.request_id)
        return f"/positions/{row.subject}" if row is not None else "/"
    return "/alerts"


REASON = Field("reason", "Why, for the audit log")
SCOPE = Field("scope", "What: entries, a venue or all; empty: entries")
PAUSE = Action(
    name="pause",
    title="Pause",
    button="Pause",
    back="/alerts",
    says=_says(RequestAction.PAUSE),
    do=_do(RequestAction.PAUSE, "/alerts"),
    asks=(SCOPE, REASON),
)
RESUME = Action(
    name="resume",
    title="Resume",
    button="Ask for it",
    back="/alerts",
    says=_says(RequestAction.RESUME),
    do=_do(RequestAction.RESUME, "/alerts"),
    asks=(Field("scope", "Which pauses: a scope; empty: all"), REASON),
)
EXIT = Action(
    name="exit",
    title="Close a position",
    button="Ask for it",
    back="/",
    says=_says(RequestAction.EXIT),
    do=_do(RequestAction.EXIT, "/"),
    fixed=("position",),
    asks=(REASON,),
)
FLATTEN = Action(
    name="flatten",
    title="Close every position",
    button="Ask for it",
    back="/alerts",
    says=_says(RequestAction.FLATTEN),
    do=_do(RequestAction.FLATTEN, "/alerts"),
    asks=(REASON,),
)
CONFIRM = Action(
    name="confirm",
    title="Confirm",
    button="Confirm",
    back="/alerts",
    says=_says_confirm,
    do=_confirm,
    fixed=("request",),
)
