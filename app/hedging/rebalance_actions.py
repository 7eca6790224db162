"""What `evenkeel hedging rebalance` does: each answers what it found or did, JSON-able, money as text."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from decimal import Decimal
from typing import Any

from app.hedging.actions import open_ledger
from evenkeel.errors import OperatorError
from evenkeel.settings.settings import Settings
from evenkeel.types import Confirmed
from flows.hedging.failing import REBALANCE, said_if_it_fails
from flows.hedging.rebalance import (
    RebalanceForm,
    carry_on,
    decide_on,
    open_rebalancing,
    rebalance_once,
    sole,
)
from state.hedging.models import Rebalance
from state.models import Fence
from tasks.hedging.choosing import refuse_no_reason
from tasks.hedging.rebalancing import carrying, choosing
from tasks.hedging.rebalancing.carrying import decide, summary_of
from tasks.hedging.rebalancing.desk import RebalanceDesk, refuse_other_brokers
from tasks.hedging.rebalancing.proposing import say_decided


def who() -> str:
    """Who decides, as the audit log names it."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def listed(settings: Settings, limit: int) -> dict[str, Any]:
    """The newest proposals, in order. Raises OperatorError where these settings rebalance nothing."""
    refuse_other_brokers(settings)
    with open_ledger(settings) as store:
        return _shown(reversed(store.hedging.rebalances(most=limit)))


def refuse(settings: Settings, name: str, why: str) -> dict[str, Any]:
    """Refuse a proposal. Asks no venue."""
    refuse_other_brokers(settings)
    refuse_no_reason(why, "--why")
    with open_ledger(settings) as store:
        lapse_s = settings.hedging.rebalance.lapse_s
        row = decide(store, name, who(), approve=False, why=why, now_ms=store.clock.now_ms(), lapse_s=lapse_s)
        say_decided(store, name)
        return _shown([row])


async def propose(settings: Settings) -> dict[str, Any]:
    """Propose what is out of its band, and carry out what was approved. With `auto` it may be a timer that asks: then a failure
    is an alert.
    """
    is_watched = not settings.hedging.rebalance.auto
    async with (
        nullcontext() if is_watched else said_if_it_fails(REBALANCE, settings),
        open_rebalancing(settings) as rd,
    ):
        return (await rebalance_once(rd, RebalanceForm(), who())).model_dump(mode="json")


async def approve(settings: Settings, name: str) -> dict[str, Any]:
    """Approve a proposal, and carry it out as far as it goes."""
    async with open_rebalancing(settings) as rd:
        decide_on(rd, name, who(), approve=True)
        async with sole(rd) as fence:
            return _shown(await carry_on(rd, fence, name))


async def run(settings: Settings, name: str) -> dict[str, Any]:
    """Go on with what was approved, or with one of it."""
    async with open_rebalancing(settings) as rd, sole(rd) as fence:
        return _shown(await carry_on(rd, fence, name or None))


async def _said(
    settings: Settings, name: str, act: Callable[[RebalanceDesk, Fence], Awaitable[Rebalance]]
) -> dict[str, Any]:
    """Take a person's word, and go on."""
    async with open_rebalancing(settings) as rd, sole(rd) as fence:
        row = await act(rd, fence)
        return _shown([row] if row.state.is_over else await carry_on(rd, fence, name))


async def allow(settings: Settings) -> dict[str, Any]:
    """Ask the broker to put our wallet on the list of those that it pays out to; of one that is there nothing is asked."""
    async with open_rebalancing(settings) as rd:
        for one in await rd.transfers.whitelist():
            if one.address.lower() == rd.wallet:
                return {"address": rd.wallet, "status": one.status}
        answer = await rd.transfers.allow(rd.wallet)
        if not isinstance(answer, Confirmed):
            raise OperatorError(f"the broker did not take {rd.wallet}: {answer.reason}")
        return {"address": rd.wallet, "status": answer.value.status}


def _shown(rows: Any) -> dict[str, Any]:
    return {"rebalances": [dict(summary_of(one)) for one in rows]}


async def bridged(settings: Settings, name: str, usdc: Decimal) -> dict[str, Any]:
    """Take a person's word that USDC came over the bridge, where a balance proves it, and go on."""
    return await _said(settings, name, lambda rd, fence: carrying.bridged(rd, name, usdc, who(), fence))


async def unsent(settings: Settings, name: str, why: str) -> dict[str, Any]:
    """Take a person's word that a move in doubt never left, and go on."""
    return await _said(settings, name, lambda rd, fence: carrying.unsent(rd, name, who(), why, fence))


async def rows(settings: Settings, name: str) -> dict[str, Any]:
    """The broker's rows that may be a move in doubt."""
    async with open_rebalancing(settings) as rd:
        return {"name": name, "rows": await choosing.rows_of(rd, name)}


async def choose(settings: Settings, name: str, row: str, why: str) -> dict[str, Any]:
    """Take a person's word which of them it is, or none, and go on."""
    return await _said(
        settings, name, lambda rd, fence: choosing.choose_row(rd, name, row, who(), why, fence)
    )


async def resume(settings: Settings, name: str) -> dict[str, Any]:
    """Go on with one that was stuck."""

    async def act(rd: RebalanceDesk, fence: Fence) -> Rebalance:
        return carrying.resume(rd, name, who(), fence)

    return await _said(settings, name, act)


async def end(settings: Settings, name: str, why: str) -> dict[str, Any]:
    """Take a person's word that the rest was done by hand."""

    async def act(rd: RebalanceDesk, fence: Fence) -> Rebalance:
        return carrying.end(rd, name, who(), why, fence)

    return await _said(settings, name, act)
