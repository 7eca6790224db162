"""Bring equity and USDC back to their targets between chain and broker: propose, let a person decide in a form, carry out."""

from __future__ import annotations

import getpass
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum

from prefect import flow
from pydantic import Field

from evenkeel.errors import LostRace, OperatorError
from evenkeel.settings.settings import Settings
from evenkeel.types import Frozen
from flows.forms import Form
from flows.hedging.failing import REBALANCE, said_if_it_fails
from flows.running import desk_for_run, run_name
from state.hedging.models import Rebalance, RebalanceState
from state.models import Fence
from tasks.artifacts import show_table
from tasks.desk import opened_ledger
from tasks.hedging.rebalancing.carrying import advance, decide, summary_of
from tasks.hedging.rebalancing.desk import RebalanceDesk, rebalance_desk
from tasks.hedging.rebalancing.proposing import AUTO, BY_ITSELF, propose, say_decided
from tasks.hedging.running.sole import locked, shared_with

EVERY = "all"
"""What is said of every scope at once."""
PACE_S = 10.0
"""Between two goes over what waits for a venue."""
GOES_S = 900
"""So long one run goes on with what waits for a venue; the next takes it up."""


class Decision(StrEnum):
    """What a person says of a proposal."""

    APPROVE = "approve"
    REFUSE = "refuse"


class RebalanceForm(Form):
    """What to do. Without a name what is out of its band is proposed, and what was approved is carried out."""

    name: str | None = Field(default=None, description="proposal that is decided on; empty: none")
    decision: Decision | None = Field(
        default=None, description="of the proposal that is named: approve or refuse; empty: propose only"
    )
    reason: str = Field(default="", description="why it is refused")


class RebalanceReport(Frozen):
    """What was proposed, why other scopes were not, and how each open rebalance stands."""

    proposed: tuple[str, ...] = ()
    holds: dict[str, str] = Field(default_factory=dict)
    rebalances: tuple[dict[str, str], ...] = ()


@asynccontextmanager
async def open_rebalancing(settings: Settings) -> AsyncIterator[RebalanceDesk]:
    """Open ledger, chain, broker and the vaults' key. Raises what `rebalance_desk` does, and OperatorError without a ledger."""
    async with opened_ledger(settings) as store, rebalance_desk(settings, store.clock, store) as rd:
        yield rd


@asynccontextmanager
async def sole(rd: RebalanceDesk) -> AsyncIterator[Fence]:
    """The right to move anything. Raises LostRace while another process moves something, OperatorError where one of another
    ledger orders in the account or moves something of it: what it knows of is not known here.
    """
    what = f"the rebalancing of {rd.at.account}, which goes on by itself,"
    async with rd.at.desk.exclusive(rd.lease, what) as fence:
        with locked(rd.at, "rebalances"):
            if why := await shared_with(rd.at, with_open=True):
                raise OperatorError(why)
            yield fence


def decide_on(rd: RebalanceDesk, name: str, by: str, *, approve: bool, why: str = "") -> Rebalance:
    """Approve a proposal or refuse it. Raises OperatorError."""
    row = decide(
        rd.at.desk.store,
        name,
        by,
        approve=approve,
        why=why,
        now_ms=rd.at.desk.clock.now_ms(),
        lapse_s=rd.settings.lapse_s,
    )
    say_decided(rd.at.desk.store, name)
    return row


async def carry_on(
    rd: RebalanceDesk, fence: Fence, name: str | None = None, goes_s: float = GOES_S
) -> list[Rebalance]:
    """Go on with what was approved, or with one of it, until it is over or waits for a person, or for so long. Return how each
    stands.
    """
    clock, hedging = rd.at.desk.clock, rd.at.desk.store.hedging
    until_ms = clock.now_ms() + int(goes_s * 1000)
    wanted = [one.name for one in reversed(hedging.rebalances(open_only=True)) if one.state.is_wanted]
    names = [name] if name is not None else wanted
    while True:
        found = [await advance(rd, one, fence) for one in names]
        if not any(is_under_way(one) for one in found) or clock.now_ms() >= until_ms:
            return found
        await clock.sleep(PACE_S)


def is_under_way(row: Rebalance) -> bool:
    """Whether another go may change how it stands: it is running, and waits for no person."""
    return row.state is RebalanceState.RUNNING and not row.done.get("for_person")


async def rebalance_once(
    rd: RebalanceDesk, form: RebalanceForm, by: str, goes_s: float = GOES_S
) -> RebalanceReport:
    """Decide, propose, carry out. Raises OperatorError for a decision that cannot be, LostRace while another process does."""
    if form.name is None and form.decision is not None:
        raise OperatorError(f"{form.decision} what? Give the proposal's name")
    if form.name is not None and form.decision is None:
        raise OperatorError(f"say what is decided on {form.name}: approve or refuse")
    if form.name is not None:
        decide_on(rd, form.name, by, approve=form.decision is Decision.APPROVE, why=form.reason)
    async with sole(rd) as fence:
        found = await propose(rd, fence)
        rows = await carry_on(rd, fence, goes_s=goes_s)
    waiting = [
        one
        for one in rd.at.desk.store.hedging.rebalances(open_only=True)
        if one.state is RebalanceState.PROPOSED
    ]
    shown = {one.name: one for one in (*waiting, *rows)}
    return RebalanceReport(
        proposed=tuple(one.name for one in found.rebalances),
        holds=found.holds,
        rebalances=tuple(
            {key: str(value) for key, value in summary_of(one).items()} for one in shown.values()
        ),
    )


async def rebalance_by_itself(rd: RebalanceDesk) -> RebalanceReport:
    """Propose and carry out what `auto` approves, and keep that it was done; nothing where `auto` is off. Where another process
    rebalances it is left to that one.
    """
    if not rd.settings.auto:
        return RebalanceReport(holds={EVERY: "rebalance.auto is false"})
    try:
        report = await rebalance_once(rd, RebalanceForm(), AUTO)
    except LostRace as lost:
        report = RebalanceReport(holds={EVERY: str(lost)})
    rd.at.desk.store.record_heartbeat(BY_ITSELF, {"proposed": list(report.proposed), "holds": report.holds})
    return report


@flow(name="hedging-rebalance", flow_run_name="hedging-rebalance")
async def hedging_rebalance(request: RebalanceForm) -> RebalanceReport:
    """Propose what is out of its band, decide on what is named, and carry out what was approved, with a table of it."""
    by = f"{getpass.getuser()}, {run_name()}"
    async with desk_for_run(open_rebalancing, trades=True) as rd:
        report = await rebalance_once(rd, request, by)
    await _show(report)
    return report


@flow(name="rebalance-by-itself", flow_run_name="rebalance-by-itself")
async def rebalance_scheduled() -> RebalanceReport:
    """What `rebalance.auto` does by its schedule, with the same table."""
    async with said_if_it_fails(REBALANCE), desk_for_run(open_rebalancing) as rd:
        report = await rebalance_by_itself(rd)
    await _show(report)
    return report


async def _show(report: RebalanceReport) -> None:
    rows = [dict(one) for one in report.rebalances] or [{"rebalances": "none is open"}]
    await show_table("hedging-rebalance", rows, "Rebalances between chain and broker")
