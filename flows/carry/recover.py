"""Take up whatever a dead process, a lost answer or an outage left unfinished. Safe to run at any time, twice, anywhere."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

from prefect import flow
from pydantic import Field

from evenkeel.errors import UNREAD, EvenkeelError, LedgerUnavailable, LostRace, Retryable
from evenkeel.legs import CARRY, LegSide, PositionStatus
from evenkeel.types import Frozen
from evenkeel.units import DAY_MS
from flows.carry.enter import complete_entry
from flows.carry.rebalance import finish_growth
from flows.carry.reconcile import reconcile_and_act
from flows.carry.watched import POSITIONS
from flows.handover import watch_from_here
from flows.running import desk_for_run
from state.carry.models import Position
from state.models import Fence
from strategy.carry.reconcile import Finding
from strategy.decisions import Urgency
from tasks.carry.books.recovery import Comparison, compare_legs, interrupted_positions, joined
from tasks.carry.closing.close_out import close_out
from tasks.carry.closing.rebalancing import level_short
from tasks.carry.desk import CarryDesk, noted_in, of_each, open_desks
from tasks.carry.last_ticks import alarm_overdue, overdue_after_s
from tasks.carry.legs import finish_started
from tasks.carry.mark import GROWING
from tasks.carry.watching import breakers
from tasks.intents import Done

log = logging.getLogger("evenkeel.recover")


class RecoverResult(Frozen):
    """What was taken up, and whether the books and the venues now show the same legs."""

    positions: dict[str, str]
    unfinished_intents: int
    comparison: Comparison
    still_interrupted: tuple[str, ...] = ()
    """Positions that are neither open nor ended: one leg may be naked until they are taken up again."""

    findings: tuple[Finding, ...] = ()
    """What books and venues did not agree on."""
    not_watched: tuple[str, ...] = ()
    """Live positions that nobody has looked at for longer than `evenkeel watchdog` allows."""
    actions: dict[str, str] = Field(default_factory=dict)
    """What was done about positions of which a venue had taken something."""

    @property
    def clean(self) -> bool:
        """No intent is open, no position is half-way, and every leg is owned."""
        open_ends = self.unfinished_intents or self.still_interrupted
        return not open_ends and not self.comparison.unowned and not self.comparison.unreadable


async def recover_everything(desk: CarryDesk) -> RecoverResult:
    """Resume every interrupted position by the very steps that were interrupted, then compare with the venues. Raises
    OperatorError where the ledger is damaged: nothing is done by what it says.
    """
    desk.store.require_whole()
    positions: dict[str, str] = {}
    for position in interrupted_positions(desk):
        try:
            positions[position.position_id] = await recover_position(desk, position.position_id)
        except LostRace as busy:
            positions[position.position_id] = f"left alone: {busy}"
        except EvenkeelError as error:  # even a bug: the others are taken up all the same
            positions[position.position_id] = f"not finished: {error}"
    reconciled = await reconcile_and_act(desk)
    comparison = await compare_legs(desk)
    return RecoverResult(
        positions=positions,
        unfinished_intents=len(desk.store.unfinished_intents(CARRY)),
        comparison=comparison,
        still_interrupted=tuple(position.position_id for position in interrupted_positions(desk)),
        findings=reconciled.found.open,
        actions=reconciled.actions,
    )


async def recover_accounts(desks: Sequence[CarryDesk], faults: dict[str, str] | None = None) -> RecoverResult:
    """Recover each account in turn, and judge who watches; the answer is of all of them. `faults`: accounts of the fleet that
    are left out, and why; one that cannot be recovered is added. Raises what fails at a single account.
    """
    faults = {} if faults is None else faults

    async def recovered(desk: CarryDesk) -> RecoverResult:
        return judge_watch(desk, await recover_everything(desk))

    each = await of_each(desks, recovered, faults)
    if len(each) == 1 and not faults:
        return each[0][1]
    return RecoverResult(
        positions={name: status for _, one in each for name, status in one.positions.items()},
        unfinished_intents=sum(one.unfinished_intents for _, one in each),
        comparison=joined([(desk.store.member, one.comparison) for desk, one in each], faults),
        still_interrupted=tuple(name for _, one in each for name in one.still_interrupted),
        findings=tuple(finding for _, one in each for finding in one.findings),
        not_watched=tuple(name for _, one in each for name in one.not_watched),
        actions={name: did for _, one in each for name, did in one.actions.items()},
    )


def judge_watch(desk: CarryDesk, result: RecoverResult) -> RecoverResult:
    """Alert a person to what nobody watches, by the rule of `evenkeel watchdog`. A ledger that is busy now keeps nothing else
    of the answer.
    """
    try:
        overdue = alarm_overdue(desk.store, overdue_after_s(desk.settings))
    except Retryable as busy:
        log.warning("who is watched was not judged: %s", busy)
        return result
    return result.model_copy(update={"not_watched": tuple(one.position_id for one in overdue)})


async def recover_position(
    desk: CarryDesk, position_id: str, *, wait_s: float = 90.0, level: bool = True
) -> PositionStatus:
    """An entry goes on or is unwound, a closing goes on, a resize is finished; the answer is the status afterwards.

    `wait_s` bounds how long the venue of a resize is asked, leg by leg. Without `level` what an interrupted resize left to be
    levelled is left to the rules: a watch must look at its legs first.
    """
    position = desk.store.carry.position(position_id)
    if position.status is PositionStatus.OPENING:
        return PositionStatus((await complete_entry(desk, position_id, resumed=True)).status)
    async with desk.sole_writer(position_id) as fence:
        position = desk.store.carry.position(
            position_id
        )  # it may have moved on before we became its only writer
        if position.status is PositionStatus.OPEN:
            await finish_started(desk, position_id, LegSide.SHORT, fence, wait_s=wait_s)
            ended = await finish_started(desk, position_id, LegSide.LONG, fence, wait_s=wait_s)
            if position.facts.get(GROWING):
                await finish_growth(desk, position_id, fence, None if level else wait_s)
            elif level and any(isinstance(one, Done) for one in ended):  # the short follows, as it would have
                await _follow_the_long(desk, position, fence)
            return desk.store.carry.position(position_id).status
        why = position.close_reason or "closing was interrupted"
        return (await close_out(desk, position_id, why, _urgency(desk, position_id), fence)).status


async def _follow_the_long(desk: CarryDesk, position: Position, fence: Fence) -> None:
    why, grows = "a resize was interrupted after its long", breakers.refuse_growth(desk) is None
    try:
        await level_short(desk, position, why, fence, may_grow=grows)
    except LedgerUnavailable:
        raise
    except UNREAD as error:  # the drift rule has it
        log.warning("%s is not levelled now: %s", position.position_id, error)
    desk.store.ack_alert("rebalance", subject=position.position_id)


def _urgency(desk: CarryDesk, position_id: str) -> Urgency:
    """One leg alone is an emergency; two that hedge each other can be left with care."""
    both = {leg.side for leg in desk.store.carry.legs(position_id) if leg.is_open} == {*LegSide}
    return Urgency.NORMAL if both else Urgency.EMERGENCY


@flow(name="recover", flow_run_name="recover")
async def recover() -> RecoverResult:
    """Resume whatever is unfinished, then compare our legs with the venues'."""
    faults: dict[str, str] = {}
    async with desk_for_run(partial(open_desks, without=noted_in(faults))) as desks:
        result = await recover_accounts(desks, faults)
        whole, finished = (
            desks[0].store.whole,
            [name for name, status in result.positions.items() if status == PositionStatus.OPEN],
        )
        day = desks[0].clock.now_ms() // DAY_MS
        await watch_from_here(POSITIONS, whole, finished, f"recovered-{day}")
        # One run a day at most: while nobody hosts monitors, runs that wait would come all at once later.
        await watch_from_here(POSITIONS, whole, result.not_watched, f"unwatched-{day}")
        return result
