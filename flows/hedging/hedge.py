"""Hedge fills as long as it is wanted: pass after pass, one process for each broker's account, a fresh run each day."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import FlowRun
from pydantic import Field

from evenkeel.errors import UNREAD, EvenkeelError, LostRace, OperatorError, Retryable
from evenkeel.types import Frozen
from evenkeel.units import DAY_MS
from flows.forms import Form
from flows.handover import NextRun, go_on, own_run
from flows.hedging.opened import open_hedging
from flows.hedging.watched import ACCOUNTS, note_run
from flows.running import desk_for_run, settings_for_run
from state.models import Fence
from tasks.hedging.desk import HedgingDesk
from tasks.hedging.passing import PassReport, pass_once
from tasks.hedging.rebalancing.left import alarm_left
from tasks.hedging.running.silence import say_silence
from tasks.hedging.running.sole import sole
from tasks.hedging.running.waking import listening

log = logging.getLogger("evenkeel.hedging")
TAKE_OVER_S = 120.0
"""So many wall seconds a run that follows another one waits for its lease."""
LEASE_EVERY_S = 1.0
AGAIN_S = 30.0
"""Wall seconds after which hedging that could not begin is begun again."""


class HedgeRequest(Form):
    """Whose fills to hedge, and until when."""

    account: str | None = Field(
        default=None, description="broker of the settings; empty: the one that they name"
    )
    until_ms: int | None = Field(
        default=None,
        description="end, ms UTC; empty: a served run hands over to a fresh one each day, any other goes on",
    )


class HedgeResult(Frozen):
    """What the passes of a run came to."""

    account: str
    passes: int = 0
    failed: int = 0
    fills: int = 0
    orders: int = 0


def by_nobody(account: str, is_due: bool) -> bool:
    """Nobody goes on with the hedging."""
    return False


async def hedge_account(
    at: HedgingDesk,
    request: HedgeRequest,
    watched_by_next: Callable[[str, bool], bool] = by_nobody,
    *,
    once: bool = False,
    wait_s: float = 0.0,
    ended: asyncio.Event | None = None,
) -> HedgeResult:
    """Make passes, and nothing on this path waits for Prefect. A pass that fails is noted, and the next one comes at its time,
    or early where node or broker push something. Once `ended` is set the pass that runs is the last.

    Raises LostRace where another process hedges in this account and does not end within `wait_s`, OperatorError where one with
    another ledger does, or where the request names another account than the settings.
    """
    account = at.settings.broker
    if request.account not in (None, account):
        raise OperatorError(f"these settings hedge at {account}, and not at {request.account}")
    clock = at.desk.clock
    since_ms = clock.now_ms()
    ends_ms = request.until_ms or since_ms + DAY_MS
    passes = failed = fills = orders = 0
    async with _sole(at, wait_s) as fence, listening(at, ended, streams=not once) as waking:
        while True:
            waking.begins()
            await clock.refresh()
            began_ms, why = clock.now_ms(), ""
            try:
                report = await pass_once(at, fence)
                why = _fault_of(report)
                fills += report.progress.fills
                orders += len(report.orders)
            except UNREAD as error:  # the ledger's as well: the hedging does not end over one
                why = str(error)
            passes, failed = passes + 1, failed + bool(why)
            _note(at, account, why, since_ms)
            is_over = clock.now_ms() >= ends_ms
            is_last = once or waking.ended.is_set() or (is_over and request.until_ms is not None)
            if is_last or watched_by_next(account, is_over):
                return HedgeResult(account=account, passes=passes, failed=failed, fills=fills, orders=orders)
            spent_s = (clock.now_ms() - began_ms) / 1000
            await waking.rest(clock, max(at.settings.pass_interval_s - spent_s, 0.05))
            if waking.ended.is_set():
                return HedgeResult(account=account, passes=passes, failed=failed, fills=fills, orders=orders)


@asynccontextmanager
async def _sole(at: HedgingDesk, wait_s: float) -> AsyncIterator[Fence]:
    """The right to order in the account; of a run that hands over it is waited for."""
    left_s, what = wait_s, f"the hedging in {at.account} at {at.broker.name}"
    while True:
        lease = sole(at, what)
        try:
            fence = await lease.__aenter__()
        except LostRace:
            if left_s <= 0:
                raise
            left_s -= LEASE_EVERY_S
            await asyncio.sleep(LEASE_EVERY_S)  # a lease lives by wall time
            continue
        try:
            yield fence
        finally:
            await lease.__aexit__(None, None, None)
        return


def _fault_of(report: PassReport) -> str:
    if report.succeeded:
        return ""
    return report.chain_fault or "the broker's calendar is not known"


def _note(at: HedgingDesk, account: str, why: str, since_ms: int) -> None:
    """Keep that a pass was made, and alert where none has succeeded for too long. A busy ledger is written at the next."""
    try:
        if why:
            log.warning("this pass failed: %s", why)
            say_silence(at.desk.store, at.settings, why, since_ms)
        note_run(at.desk.store, account)
        alarm_left(at.desk.store, at.settings)
    except Retryable as error:
        log.warning("not noted: %s", error)


def hedge_meanwhile(answered: threading.Event) -> None:
    """Hedge in this process until Prefect answers, where it does not at the start. What fails is begun again."""
    while not answered.is_set():
        try:
            asyncio.run(_hedge_until(answered))
        except EvenkeelError as fault:
            log.warning("nobody hedges yet: %s", fault)
            answered.wait(AGAIN_S)


async def _hedge_until(answered: threading.Event) -> None:
    with settings_for_run() as settings:
        async with open_hedging(settings) as at:
            await hedge_account(at, HedgeRequest(), lambda account, is_due: answered.is_set())


async def _hedge_on(flow: Any, flow_run: FlowRun, state: Any) -> None:
    """Hook: a run that failed or crashed is followed by another one."""
    await go_on(ACCOUNTS, flow_run, state)


@flow(name="hedge", flow_run_name="hedge", on_failure=[_hedge_on], on_crashed=[_hedge_on])
async def hedge(request: HedgeRequest) -> HedgeResult:
    """One long run that hedges an account's fills; served, it hands over to a fresh run once a day."""
    asked = request.model_dump(mode="json")
    async with (
        desk_for_run(open_hedging) as at,
        NextRun(ACCOUNTS, at.desk.store, asked) as next_run,
    ):
        wait_s = TAKE_OVER_S if own_run() is not None else 0.0
        return await hedge_account(at, request, next_run.watches, wait_s=wait_s)
