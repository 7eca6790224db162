"""Watch an open position until it is closed: tick every 30 s, every 2 s while a danger runs, act at once, report after."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import FlowRun
from pydantic import Field

from evenkeel.clock import as_datetime
from evenkeel.errors import UNREAD, Bug, LedgerUnavailable, LostRace, OperatorError, Retryable
from evenkeel.legs import PositionStatus
from evenkeel.types import Frozen
from evenkeel.units import DAY_MS, HOUR_MS
from flows.carry.booked import book_changes, collect, contradicted, reconcile
from flows.carry.rebalance import Action, resize
from flows.carry.recover import recover_position
from flows.carry.requested import do_requested, is_asked
from flows.carry.watched import POSITIONS, line_of
from flows.forms import Form
from flows.handover import NextRun, go_on
from flows.running import desk_for_run
from strategy.carry.decisions import Decision, Exit, Resize
from strategy.decisions import Hold
from tasks.carry.books.recovery import interrupted_positions
from tasks.carry.closing import closing
from tasks.carry.closing.close_out import ENDED, close_out
from tasks.carry.closing.proving import waits_for_a_venue
from tasks.carry.closing.rebalancing import refusals_are_over
from tasks.carry.desk import CarryDesk, open_desk
from tasks.carry.exit_needs import keep_exit_needs
from tasks.carry.fleet.streaming import prices_streamed
from tasks.carry.mark import LIVE
from tasks.carry.positions import position_meant
from tasks.carry.watching import breakers
from tasks.carry.watching.absence import absence_is_over, beginning_of, size_is_shown
from tasks.carry.watching.early_warnings import FeeMarket
from tasks.carry.watching.needs import Needs, Subject
from tasks.carry.watching.probe import differs, probe_pace_s, until_next_s, wait_for_tick
from tasks.carry.watching.seen import Seen
from tasks.carry.watching.trial import TrialClose
from tasks.carry.watching.unledgered import CALM_S, Unledgered, is_emergency
from tasks.carry.watching.watcher import Watcher
from venues.ratebudget import Lane, in_lane, take_lane

log = logging.getLogger("evenkeel.monitor")
UNDONE = "not done yet"


class MonitorRequest(Form):
    """What to watch, and how closely."""

    position_id: str | None = Field(default=None, description="empty: the one that is open")
    interval_s: float | None = Field(
        default=None, gt=0, description="seconds between ticks; empty: strategy.poll_interval_s"
    )
    until_ms: int | None = Field(
        default=None,
        description="end of this watch, ms UTC; empty: a served run hands over to a fresh one each day, any other "
        "watches until the position has ended",
    )


class MonitorResult(Frozen):
    """How the watch ended: `status` is the position's, CLOSED or FAILED, or else another run or person goes on with it."""

    position_id: str
    status: PositionStatus
    ticks: int
    actions: tuple[str, ...]


def by_nobody(position_id: str, is_due: bool) -> bool:
    """Nobody goes on with a watch."""
    return False


async def watch_position(
    desk: CarryDesk, request: MonitorRequest, watched_by_next: Callable[[str, bool], bool] = by_nobody
) -> MonitorResult:
    """Look, decide, act; a tick is a plain coroutine, and nothing on this path waits for Prefect.

    Goes on until the position has ended, or `until_ms`, or until `watched_by_next` says yes, which hears whether
    the day is over.
    """
    position_id = position_meant(desk.store, request.position_id, LIVE).position_id
    calm_s = request.interval_s or float(desk.settings.strategy.poll_interval_s)
    danger_s = float(desk.settings.strategy.breach_poll_interval_s)
    ends_ms = request.until_ms or desk.clock.now_ms() + DAY_MS
    watch = _Watch(desk, position_id, calm_s, danger_s)

    def goes_on() -> bool:
        is_over = desk.clock.now_ms() >= ends_ms
        return not (is_over and request.until_ms) and not watched_by_next(position_id, is_over)

    try:
        while goes_on():
            try:
                watch.status = await watch.tick()
                if watch.status in ENDED:
                    break
            except UNREAD as error:  # the ledger's as well: a watch does not end over one
                log.warning("%s could not be looked at: %s", position_id, error)
                await desk.clock.sleep(danger_s)
    finally:  # the books go on where they stopped, at the next watch
        desk.danger.forget(position_id)
        for task in watch.under_way:
            task.cancel()
    try:
        status = desk.store.carry.position(position_id).status
    except LedgerUnavailable:  # as it was read last
        status = watch.status
    return MonitorResult(
        position_id=position_id, status=status, ticks=watch.ticks, actions=tuple(watch.actions)
    )


@dataclass
class _Watch:
    """What one watch remembers from tick to tick. `calm_s` and `danger_s`: seconds between ticks."""

    desk: CarryDesk
    position_id: str
    calm_s: float
    danger_s: float
    status: PositionStatus = PositionStatus.OPEN
    ticks: int = 0
    actions: list[str] = field(default_factory=list)
    collected_hour: int = -1
    reconciled: bool = False
    absent: bool = True
    """A leg was out of sight at an earlier tick, perhaps of an earlier run."""
    under_way: set[asyncio.Task[None]] = field(default_factory=set)
    """What is read into the books meanwhile."""
    in_danger: bool = False
    """The last tick found a danger: what the next one asks goes before what is calm."""
    put_off: bool = False
    """What a person has asked for could not be begun at this tick."""

    def __post_init__(self) -> None:
        self.watcher = Watcher(self.desk, self.position_id, is_monitor=True)
        self.unledgered = Unledgered(self.desk, self.watcher)
        position = self.desk.store.carry.position(self.position_id)
        self.needs = Needs(self.desk, Subject(position.asset, position.protocol or 0), self.desk.beside)
        self.trial = TrialClose(self.desk)
        self.fees = FeeMarket(self.desk, self.position_id)

    async def tick(self) -> PositionStatus:
        """One tick, by the ledger where it can be used."""
        take_lane(Lane.URGENT if self.in_danger else Lane.CALM)
        await self.desk.clock.refresh()
        try:
            status = await self._tick()
        except LedgerUnavailable as fault:
            closely = await self.unledgered.tick(fault)
            await self.desk.clock.sleep(self.danger_s if closely else min(self.calm_s, CALM_S))
            return PositionStatus.OPEN
        self.unledgered.is_over()
        return status

    async def _tick(self) -> PositionStatus:
        """Take up what is unfinished, look, decide, act, then write down and wait for the next tick. Raises LedgerUnavailable
        where nothing of it can be written down.
        """
        desk, position_id = self.desk, self.position_id
        began_ms = desk.clock.now_ms()
        await _finish_interrupted(desk, self.danger_s)
        for done in await do_requested(desk, position_id):
            self._did(done)
        self.put_off = is_asked(desk, position_id)
        position = desk.store.carry.position(position_id)
        status, held_back = position.status, closing.waits(desk, position)
        if status is not PositionStatus.OPEN and not held_back:
            if status not in ENDED:  # a leg resists, or another worker is at it: it is not over yet
                await desk.clock.sleep(self.danger_s)
            return status

        judged = await self.watcher.decide()
        seen, found, closely = judged.seen, judged.combined, judged.closely
        decision: Decision = found.decision
        self.ticks += 1
        self.in_danger = closely or isinstance(found.decision, Exit)
        if held_back and not is_emergency(decision):
            decision = Hold(rule="exit", reason="its closing is held back, and is tried again")
        if isinstance(decision, Exit):  # an emergency acts first and reports while it acts
            await self._act(decision)
            _late(judged.remember)
        else:
            async with desk.writing_turn:
                if desk.beside > 1:  # between two that write at length the loop hears what is streamed
                    await asyncio.sleep(0)
                judged.remember()
            if isinstance(decision, Resize):
                closely = (await self._act(decision)).startswith(UNDONE) or closely
            else:
                _late(partial(refusals_are_over, desk, position))
                if differs(desk, position_id, seen):  # too little to act on, but the books follow
                    closely = not await book_changes(desk, position_id) or closely
                elif seen.short is not None and not closely:
                    _late(partial(size_is_shown, desk, position_id))
        _late(partial(breakers.note_tick, desk, seen))

        # Nothing is read yet: all of it at once would hold up the next tick.
        first_in_danger = closely and self.ticks == 1
        if not isinstance(decision, Exit) and not first_in_danger:
            await self._aside("needs", partial(self._watch_needs, seen, calm=not closely))
        if self.absent and not seen.misses_a_leg:
            _late(partial(absence_is_over, desk, position_id))
        self.absent = seen.misses_a_leg
        if self._is_asked():  # a person waits: the books may
            return status
        if not self.reconciled and not closely:  # once, at the start; a danger comes first
            await self._books(reconcile)
            self.reconciled = True
        hour = seen.at_ms // HOUR_MS
        if hour != self.collected_hour and not first_in_danger and not self._is_asked():
            self.collected_hour = hour
            await self._books(collect)
            log.info("%s", line_of(position_id, seen, found.reasons))
        if closely or isinstance(decision, Exit):  # what was done meanwhile does not put off the next tick
            alone_s = max(self.danger_s - (desk.clock.now_ms() - began_ms) / 1000, 1.0)
            await (
                desk.clock.sleep(alone_s)
                if desk.beside == 1
                else desk.danger.turn(position_id, self._is_asked)
            )
        else:
            pace_s = until_next_s(desk, self.danger_s if self.put_off else self.calm_s)
            await wait_for_tick(desk, position_id, pace_s, probe_pace_s(desk, self.danger_s), self._is_wanted)
            if self.in_danger and desk.beside > 1:
                await desk.danger.turn(position_id, self._is_asked)
        return status

    async def _watch_needs(self, seen: Seen, *, calm: bool) -> None:
        """What the exit will need, once the tick has acted: it raises alerts, and nothing is closed for it."""
        desk = self.desk
        position = desk.store.carry.position(self.position_id)
        if position.status is not PositionStatus.OPEN:
            return
        if calm and await self.trial.answer_if_due(position) is not None:
            position = desk.store.carry.position(self.position_id)
        self.needs.follow(position, seen.long.qty if seen.long else None)
        await self.needs.read(frozenset(seen.failed), seen.context, all_at_once=False)
        await keep_exit_needs(desk, position)

        def write() -> None:
            self.needs.keep_facts(desk.store)
            self.needs.note(desk.store, self.needs.judge())

        _late(write)
        await self.fees.note_if_due()

    async def _act(self, decision: Exit | Resize) -> str:
        """Do what was decided, in this process, at once; the answer says what came of it."""
        done = await _acted(self.desk, self.watcher, decision)
        self._did(done)
        return done

    async def _books(self, work: Callable[[CarryDesk], Awaitable[None]]) -> None:
        """Read the venues' ledgers into ours. Of several accounts it is done in their turn, one account after the other, for it
        takes many times what a tick takes of the venue's request budget.
        """

        async def in_turn() -> None:
            async with self.desk.books_turn:
                with in_lane(Lane.BOOKS):
                    await work(self.desk)

        await self._aside(work.__name__, partial(work, self.desk) if self.desk.beside == 1 else in_turn)

    async def _aside(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do what is no part of a tick. Beside other accounts no tick waits for it; it begins when the last time is over."""
        if self.desk.beside == 1:
            await work()
            return

        async def aside() -> None:
            take_lane(Lane.CALM)
            try:
                await work()
            except Exception:  # the watch goes on, and the next time goes on from here
                log.exception("%s of %s could not be read", name, self.position_id)

        if name not in {one.get_name() for one in self.under_way}:
            task = asyncio.create_task(aside(), name=name)
            self.under_way.add(task)
            task.add_done_callback(self.under_way.discard)

    def _is_asked(self) -> bool:
        """Whether a person has asked for something since this tick began."""
        return not self.put_off and is_asked(self.desk, self.position_id)

    def _is_wanted(self) -> bool:
        """Whether the next tick is wanted now: a person has asked, or the streamed price has brought a leg near its exit."""
        self.in_danger = self.desk.danger.comes_near(self.position_id)
        return self.in_danger or self._is_asked()

    def _did(self, done: str) -> None:
        self.actions.append(done)
        log.warning("%s %s: %s", as_datetime(self.desk.clock.now_ms()).isoformat(), self.position_id, done)


async def _acted(desk: CarryDesk, watcher: Watcher, decision: Exit | Resize) -> str:
    position_id = watcher.position_id
    try:
        async with desk.sole_writer(position_id) as fence:
            if isinstance(decision, Exit):
                if (waits := waits_for_a_venue(desk, decision.urgency)) is not None:
                    return f"{UNDONE}: {waits}"
                begins = await beginning_of(desk, position_id, decision, fence)
                if begins.why is not None:
                    return f"{UNDONE}: {begins.why}"
                why = f"{decision.rule}: {decision.reason}"
                done = await close_out(desk, position_id, why, decision.urgency, fence, begins.first)
                return f"exit ({decision.rule}): {done.status}"
            resized = await resize(desk, position_id, decision, fence)
            if resized.action is Action.RESIZED:
                watcher.forget_drift()
            said = f"rebalance ({decision.rule}): {resized.action}"
            return said if resized.action is Action.RESIZED else f"{said}: {resized.reason}"
    except LostRace as busy:
        return f"left alone: {busy}"
    except LedgerUnavailable:
        raise
    except UNREAD as error:
        return f"{UNDONE}: {error}"
    except Bug as contradiction:
        contradicted(desk, contradiction)
        return f"{UNDONE}: {contradiction}"


async def _finish_interrupted(desk: CarryDesk, wait_s: float) -> None:
    """Before anything else: whatever an earlier tick, run or process left in the middle. A resize whose venue does not
    know its outcome is asked about for `wait_s` only: its position must be looked at meanwhile.
    """
    for position in interrupted_positions(desk):
        if closing.waits(desk, position):  # both legs stand: it is tried again at the pace of a calm watch
            continue
        try:
            await recover_position(desk, position.position_id, wait_s=wait_s, level=False)
        except LedgerUnavailable:
            raise
        except (LostRace, *UNREAD, OperatorError) as busy:
            log.warning("%s stays interrupted: %s", position.position_id, busy)
        except Bug as contradiction:
            contradicted(desk, contradiction)


def _late(write: Callable[[], None]) -> None:
    """What is written down once the acting is over; a busy ledger is written at the next tick."""
    try:
        write()
    except Retryable as error:
        log.warning("not noted: %s", error)


async def _watch_on(flow: Any, flow_run: FlowRun, state: Any) -> None:
    """Hook: a monitor that failed or crashed is followed by another one."""
    await go_on(POSITIONS, flow_run, state)


@flow(
    name="monitor",
    flow_run_name="monitor-{request.position_id}",
    on_failure=[_watch_on],
    on_crashed=[_watch_on],
)
async def monitor(request: MonitorRequest) -> MonitorResult:
    """One long run that watches a position; served, it hands over to a fresh run once a day."""
    asked = request.model_dump(mode="json")
    async with (
        desk_for_run(partial(open_desk, position_id=request.position_id)) as desk,
        prices_streamed(desk),
        NextRun(POSITIONS, desk.store, asked) as next_run,
    ):
        return await watch_position(desk, request, next_run.watches)
