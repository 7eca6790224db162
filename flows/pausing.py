"""Pause and resume from the Prefect UI, for whoever may start a run there: the run is the authority, and is audited by name.

No admin key is a parameter of a run: Prefect would store it. Who may start runs is settled in front of the server.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from prefect import flow
from pydantic import AfterValidator, Field, WithJsonSchema

from evenkeel.clock import as_datetime
from evenkeel.errors import OperatorError
from evenkeel.types import Frozen
from flows.forms import Form
from flows.running import ledger_for_run, run_name
from state.watch_models import Pause
from tasks.admin import ENTRIES, SCOPES, end_pauses, halt

RESUME = "RESUME"


def _scope(value: str) -> str:
    if value not in SCOPES:
        raise ValueError(f"scope {value!r} is unknown; allowed are {', '.join(SCOPES)}")
    return value


ScopeField = Annotated[
    str, AfterValidator(_scope), WithJsonSchema({"type": "string", "enum": [str(one) for one in SCOPES]})
]


class PauseRequest(Form):
    """What to halt. Closing is never halted."""

    scope: ScopeField = Field(
        default=ENTRIES,
        description="entries: no new position; a venue: not used to enter; all: also nothing is made larger",
    )
    reason: str = Field(default="", description="why; whoever finds the pause must know")
    hours: float | None = Field(default=None, description="ends by itself after so long; empty: when resumed")


class ResumeRequest(Form):
    """Which pauses to end, those of circuit breakers too; one whose condition still holds trips again."""

    scope: ScopeField | None = Field(default=None, description="empty: every pause")
    reason: str = Field(default="", description="kept in the audit log")
    confirm: str = Field(default="", description=f"type {RESUME}: trading goes on at once")


class Paused(Frozen):
    """A pause as it stands."""

    scope: str
    reason: str
    since: datetime
    until: datetime | None
    """None: until it is resumed."""


def paused(one: Pause) -> Paused:
    """Return a pause with times instead of milliseconds."""
    until = None if one.until_ms is None else as_datetime(one.until_ms)
    return Paused(scope=one.scope, reason=one.reason, since=as_datetime(one.since_ms), until=until)


def require_word(field: str, typed: str, word: str, what: str) -> None:
    """Raise OperatorError unless this word was typed into the field."""
    if typed.strip() != word:
        said = f"says {typed.strip()!r}" if typed.strip() else "is empty"
        raise OperatorError(f"{field} {said}: type {word} to {what}; nothing was done")


@flow(name="pause", flow_run_name="pause-{request.scope}")
async def pause(request: PauseRequest) -> Paused:
    """Halt entries, a venue, or everything that grows. However late it begins: a pause is always safe."""
    with ledger_for_run() as store:
        return paused(halt(store, run_name(), request.scope, request.reason, request.hours))


@flow(name="resume", flow_run_name="resume")
async def resume(request: ResumeRequest) -> list[dict[str, Any]]:
    """End pauses, once the word was typed. The answer: those that were ended."""
    require_word("confirm", request.confirm, RESUME, "let trading go on")
    with ledger_for_run(in_time=True) as store:
        ended = end_pauses(store, run_name(), request.scope, request.reason)
        return [paused(one).model_dump(mode="json") for one in ended]
