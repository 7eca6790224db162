"""Open a delta-neutral position: long SOL (or staked SOL) on margin, short SOL-PERP, or leave everything as it was.

Read `enter_position` for the trade. Each step is a task in `tasks/`; whatever a crash interrupts is taken up again by
`complete_entry`, which is the same code that ran the first time.
"""

from __future__ import annotations

import logging
from enum import StrEnum
from functools import partial

from prefect import flow
from pydantic import Field

from evenkeel.errors import NOT_NOW, UNREAD, LostRace
from evenkeel.legs import PositionStatus
from evenkeel.types import Frozen
from flows.carry.forms import AssetField, LeverageField, ProtocolField
from flows.carry.watched import POSITIONS
from flows.forms import Form, NumberField
from flows.handover import watch_from_here
from flows.running import desk_for_run
from state.carry.models import Position
from state.models import Fence
from strategy.carry.entry import Verdict
from strategy.decisions import Urgency
from tasks.artifacts import show_table
from tasks.carry.books.traded import show_traded
from tasks.carry.closing.close_out import close_out
from tasks.carry.closing.rebalancing import level_short
from tasks.carry.desk import CarryDesk, open_desk
from tasks.carry.entering import choose as choosing
from tasks.carry.entering import clearing, entry
from tasks.carry.entering.planned import PlannedEntry, planned_entry
from tasks.carry.entering.reference import left_reference
from tasks.carry.entering.shown import stands_hedged
from tasks.carry.watching import breakers
from tasks.keys import refuse_readable_keys
from tasks.oddities import naming_oddities

log = logging.getLogger("evenkeel.enter")
NEW_ENTRY = "a new entry"
"""One entry is decided at a time: two would each find both accounts free, and share one short between them."""


class EntryStatus(StrEnum):
    """How an entry stands: as its position does, or `refused` when nothing was sent."""

    REFUSED = "refused"
    DRY_RUN = "dry run"
    """Every check passed, and nothing was sent, as it was asked for."""
    OPENING = "OPENING"
    OPEN = "OPEN"
    CLOSING = "CLOSING"
    UNWINDING = "UNWINDING"
    CLOSED = "CLOSED"
    FAILED = "FAILED"


HALFWAY = (EntryStatus.OPENING, EntryStatus.UNWINDING)


class EnterRequest(Form):
    """What to enter. Everything left empty is the strategy's choice."""

    asset: AssetField | None = Field(default=None, description="what the long leg holds; empty: the best now")
    protocol: ProtocolField | None = Field(
        default=None, description="who lends to the long leg; empty: the best now"
    )
    leverage: LeverageField | None = Field(
        default=None, description="of both legs, a whole number; empty: strategy.leverage"
    )
    size_usd: NumberField | None = Field(
        default=None, description="notional of one leg in USD; empty: by strategy.deployment_pct"
    )
    dry_run: bool = Field(default=False, description="decide and check, but send nothing")
    account: str | None = Field(
        default=None,
        description="of a fleet, the account that enters; empty: the only one, or settings.account",
    )


class EnterResult(Frozen):
    """How the entry went; `reasons` say why."""

    status: EntryStatus
    position_id: str | None = None
    reasons: tuple[str, ...] = ()
    long_refused: bool = False
    """Nothing was opened, because the long was refused where it was asked for: another offer may be taken."""
    plan: PlannedEntry | None = None
    """Of a dry run: what would be entered."""


@naming_oddities
async def enter_position(desk: CarryDesk, request: EnterRequest) -> EnterResult:
    """The whole entry. Nothing is sent before every check has passed; nothing is left half-open at the end."""
    requested = requested_entry_of(request)
    choosing.check_requested_entry(desk, requested)
    refuse_readable_keys(desk.settings)

    tried: dict[tuple[str, int], EnterResult] = {}
    while True:
        decided = await _decide(desk, requested, frozenset(tried), dry_run=request.dry_run)
        if isinstance(decided, EnterResult):
            return decided if not tried else _nothing_left(tried, decided)
        result = await _see_through(desk, decided.position_id)
        if result.status is not EntryStatus.FAILED or not result.long_refused:
            return result
        tried[decided.asset, decided.protocol or 0] = result


async def _decide(
    desk: CarryDesk, requested: choosing.RequestedEntry, without: frozenset[tuple[str, int]], *, dry_run: bool
) -> Position | EnterResult:
    """The plan that passed every check, written down; or the refusal. `without`: offers whose long was refused just now."""
    ready = await clearing.get_ready(desk)
    if isinstance(ready, choosing.Declined):
        return _refused(*ready.reasons)
    try:
        async with desk.exclusive("entry", NEW_ENTRY) as only_one:
            cleared = await clearing.clear(desk, ready, requested, without)
            if isinstance(cleared, choosing.Declined):
                return _refused(*cleared.reasons)
            if dry_run:
                return _planned(desk, cleared)
            return await entry.write_down(desk, cleared, only_one)
    except LostRace as busy:
        return _refused(f"another entry is being decided right now: {busy}")


def _planned(desk: CarryDesk, cleared: clearing.Cleared) -> EnterResult:
    """The answer to a dry run: the plan, and what each of its checks said."""
    would = f"dry run: would enter {cleared.plan.where}, {cleared.plan.size.position_usd} USD a leg"
    checks = (f"{one.name}: {one.reason}" for one in cleared.checks)
    plan = planned_entry(cleared.plan, desk.settings.strategy.costs)
    return EnterResult(status=EntryStatus.DRY_RUN, reasons=(would, *checks), plan=plan)


def _nothing_left(tried: dict[tuple[str, int], EnterResult], refusal: EnterResult) -> EnterResult:
    """How an entry ended whose longs were all refused: as the last of them, with why each was, and why no other was tried."""
    last = list(tried.values())[-1]
    reasons = tuple(reason for one in tried.values() for reason in one.reasons)
    return last.model_copy(update={"reasons": (*reasons, *refusal.reasons)})


async def _see_through(desk: CarryDesk, position_id: str) -> EnterResult:
    """The entry taken up again and again while a venue or the ledger does not know: no naked leg is left to somebody else
    before its time is long up. An alert is open meanwhile, and whoever recovers goes on after us.
    """
    budget = entry.budget_of(desk)
    deadline_ms = desk.clock.now_ms() + budget.whole_s * 1000
    result = EnterResult(status=EntryStatus.OPENING, position_id=position_id)
    resumed = False
    while True:
        try:
            result = await _take_up(desk, position_id, resumed=resumed)
        except LostRace as busy:
            return result.model_copy(update={"reasons": (*result.reasons, str(busy))})
        except NOT_NOW as error:
            log.warning("%s is not finished: %s", position_id, error)
            result = result.model_copy(update={"reasons": (str(error),)})
        if result.status not in HALFWAY or desk.clock.now_ms() >= deadline_ms:
            return result
        resumed = True
        await desk.clock.sleep(budget.resume_interval_s)


async def _take_up(desk: CarryDesk, position_id: str, *, resumed: bool) -> EnterResult:
    """Go on from where the position stands: an entry, or an unwinding that a leg resisted."""
    position = desk.store.carry.position(position_id)
    if position.status is PositionStatus.OPENING:
        return await complete_entry(desk, position_id, resumed=resumed)
    if position.status is not PositionStatus.UNWINDING:
        return EnterResult(
            status=EntryStatus(position.status.value),
            position_id=position_id,
            reasons=(position.close_reason or "",),
        )
    async with desk.sole_writer(position_id) as fence:
        return await _unwind(desk, position_id, position.close_reason or "interrupted", fence)


async def complete_entry(desk: CarryDesk, position_id: str, *, resumed: bool = False) -> EnterResult:
    """From the written plan to an open position: the long first, then a short that matches what the long really got.

    Safe to call again after any crash (`resumed`, which opens no long that was not sent yet). Ends OPEN, or unwound, or
    with nothing ever held; OPENING only while a venue does not know, and then recovery takes it up.
    """
    async with desk.sole_writer(position_id) as fence:
        position = desk.store.carry.position(position_id)
        if position.status is not PositionStatus.OPENING:
            raise LostRace(
                f"{position_id} is {position.status}: its entry is already being finished elsewhere"
            )

        if not resumed and (moved := await _moved(desk, position)) is not None:
            await entry.abandon(desk, position, moved, fence)
            return EnterResult(status=EntryStatus.FAILED, position_id=position_id, reasons=(moved,))
        if (unready := await entry.set_short_leverage(desk, position)) is not None:
            await entry.abandon(desk, position, unready, fence)
            return EnterResult(status=EntryStatus.FAILED, position_id=position_id, reasons=(unready,))

        if not resumed and (paused := breakers.halted(desk)):  # since the entry was decided
            await entry.abandon(desk, position, paused[0], fence)
            return EnterResult(status=EntryStatus.FAILED, position_id=position_id, reasons=paused)
        long = await entry.open_long(desk, position, fence, resumed=resumed)
        if long.unknown:
            return _left_open(desk, position_id, long.reason)
        if not long.held:
            await entry.abandon(desk, position, long.reason, fence)
            return EnterResult(
                status=EntryStatus.FAILED,
                position_id=position_id,
                reasons=(long.reason,),
                long_refused=long.refused,
            )

        hedge = await _hedged(desk, position, fence)
        if hedge.unsettled and await stands_hedged(desk, position):
            return _left_open(desk, position_id, hedge.reason)
        if not hedge.complete:
            return await _unwind(desk, position_id, hedge.reason, fence)

        try:
            validation = await entry.validate(desk, position)
            if validation.verdict is Verdict.UNRESOLVED:
                return _left_open(desk, position_id, validation.reason)
            if validation.verdict is Verdict.REBALANCE:
                levelled = await level_short(desk, position, validation.reason, fence)
                if levelled.refused is not None:
                    return await _unwind(desk, position_id, levelled.reason, fence)
            elif validation.verdict is Verdict.UNWIND:
                return await _unwind(desk, position_id, validation.reason, fence)
            await entry.remember_entry_distances(desk, position, fence)
        except NOT_NOW as error:  # both legs are held: nothing is lost by finishing later
            return _left_open(desk, position_id, str(error))
        await entry.mark_open(desk, position, validation.reason, fence)
        return EnterResult(status=EntryStatus.OPEN, position_id=position_id, reasons=(validation.reason,))


async def _moved(desk: CarryDesk, position: Position) -> str | None:
    """Why the plan's prices hold no longer, before the first setting is sent. What cannot be read now is asked again when
    the long is signed, and not signed without an answer.
    """
    try:
        return await left_reference(desk, position)
    except UNREAD:
        return None


async def _hedged(desk: CarryDesk, position: Position, fence: Fence) -> entry.Hedge:
    """The short, tried on through errors of the ledger; when its time is up the answer is to unwind, never an error that
    would leave the long alone.
    """
    budget = entry.budget_of(desk)
    deadline_ms = desk.clock.now_ms() + budget.hedge_within_s * 1000
    while True:
        try:
            return await entry.hedge(desk, position, fence)
        except NOT_NOW as error:
            if desk.clock.now_ms() >= deadline_ms:
                return entry.Hedge(complete=False, reason=str(error))
            log.warning("%s is not hedged yet: %s", position.position_id, error)
        await desk.clock.sleep(budget.ledger_interval_s)


def _left_open(desk: CarryDesk, position_id: str, why: str) -> EnterResult:
    """The entry waits for a venue, and an alert is raised: recovery and the monitor go on with it."""
    entry.alarm_unresolved(desk, position_id, why)
    return EnterResult(status=EntryStatus.OPENING, position_id=position_id, reasons=(why,))


async def _unwind(desk: CarryDesk, position_id: str, why: str, fence: Fence) -> EnterResult:
    """Close whatever was opened, at once."""
    reason = why if why.startswith("unwound: ") else f"unwound: {why}"
    result = await close_out(desk, position_id, reason, Urgency.EMERGENCY, fence)
    return EnterResult(
        status=EntryStatus(result.status), position_id=position_id, reasons=(why, *result.reasons)
    )


def requested_entry_of(request: EnterRequest) -> choosing.RequestedEntry:
    """Return what was asked for, as the strategy takes it."""
    return choosing.RequestedEntry(
        asset=request.asset,
        protocol=None if request.protocol is None else request.protocol.number,
        leverage=request.leverage,
        size_usd=request.size_usd,
    )


def _refused(*reasons: str) -> EnterResult:
    return EnterResult(status=EntryStatus.REFUSED, reasons=reasons)


@flow(name="enter", flow_run_name="enter-{request.asset}-{request.size_usd}")
async def enter(request: EnterRequest) -> EnterResult:
    """Open one position. Refusals are answers, not failures: nothing was sent."""
    async with desk_for_run(partial(open_desk, account=request.account), trades=True) as desk:
        began_ms = desk.clock.now_ms()
        result = await enter_position(desk, request)
        await watch_from_here(POSITIONS, desk.store, [result.position_id or ""], "entered")
        if result.plan is not None:
            await show_table(
                "dry-run", [result.plan.model_dump(mode="json")], "what would be entered; nothing was sent"
            )
        if result.position_id is not None:
            await show_traded(desk.store, "enter", result.position_id, began_ms, result.reasons)
        return result
