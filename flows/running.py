"""The desk that a flow run works at, or the ledger alone; and word of when its story begins."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from prefect.context import FlowRunContext
from prefect.runtime import flow_run

from evenkeel.errors import LostRace, OperatorError
from evenkeel.settings.settings import Settings, load_settings
from state.store import Store
from tasks.desk import make_clock

D = TypeVar("D")


class Beginning:
    """Between a command and the flow that it started. `begun` is set right before the story's first line; a story that was
    `withdrawn` before that never begins, because the command runs it by itself.
    """

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.withdrawn = False


beginning: ContextVar[Beginning | None] = ContextVar("beginning", default=None)
"""Of the command that started this run; None in a worker, where nobody waits for it."""


def refuse_late(scheduled: datetime | None, now: datetime, limit_s: int) -> None:
    """Raise OperatorError for a run that begins more than `limit_s` seconds after the time it was asked for.

    A worker that was away begins whatever waited for it, days later too; a trade was asked for in the market of its moment.
    """
    if scheduled is None or (late := (now - scheduled).total_seconds()) <= limit_s:
        return
    raise OperatorError(
        f"this run was asked for {int(late)} s ago ({scheduled:%Y-%m-%d %H:%M:%S} UTC) and may begin at most {limit_s} s late "
        "(prefect.late_run_s): nothing was done; start it again if it is still wanted"
    )


@asynccontextmanager
async def desk_for_run(
    open_desk: Callable[[Settings], AbstractAsyncContextManager[D]], *, trades: bool = False
) -> AsyncIterator[D]:
    """The desk that a business opens (`open_desk`) with this host's settings (`EVENKEEL_CONFIG`, else `evenkeel.toml`),
    closed at the end of the run.

    Raises LostRace where the command that started the run has given it up, and OperatorError where a run that `trades`
    because somebody asked for it begins too late.
    """
    settings = _settings(in_time=trades)
    async with open_desk(settings) as desk:
        _begin()
        yield desk


@contextmanager
def settings_for_run(*, in_time: bool = False) -> Iterator[Settings]:
    """This host's settings, for a story that needs neither ledger nor venue, or opens its own. Raises LostRace like
    `desk_for_run`, and OperatorError where a run that must begin `in_time` is late.
    """
    settings = _settings(in_time=in_time)
    _begin()
    yield settings


@contextmanager
def ledger_for_run(*, in_time: bool = False) -> Iterator[Store]:
    """The ledger of this host's settings alone: no venue, no key. Raises OperatorError where there is none, and where a run
    that must begin `in_time` is late.
    """
    settings = _settings(in_time=in_time)
    store = Store.open(settings.database.url, make_clock(settings))
    try:
        yield store
    finally:
        store.close()


def run_name() -> str:
    """The run that executes us, by name and number, as the audit log names it."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return "a run of Prefect"
    return f"Prefect run {context.flow_run.name} ({context.flow_run.id})"


def _begin() -> None:
    if (story := beginning.get()) is not None:
        if story.withdrawn:
            raise LostRace("the command that started this run runs its story without Prefect")
        story.begun.set()


def _settings(*, in_time: bool) -> Settings:
    """This host's settings. Raises OperatorError where the run must begin in time, and is late."""
    named = os.environ.get("EVENKEEL_CONFIG")
    settings = load_settings(Path(named) if named else None)
    if in_time:
        refuse_late(flow_run.scheduled_start_time, datetime.now(UTC), settings.prefect.late_run_s)
    return settings
