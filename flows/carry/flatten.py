"""The kill switch: close everything with the fewest dependencies. It knows nothing of Prefect, and asks nobody for leave.

Not a Prefect flow on purpose: it has to work while that server is down, and importing it alone takes a second.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence

from evenkeel.errors import UNREAD, Bug, EvenkeelError, LedgerUnavailable, LostRace, OperatorError, words_of
from evenkeel.settings.settings import Settings
from evenkeel.types import Frozen
from state.store import Store
from strategy.decisions import Urgency
from tasks.carry.books.recovery import Comparison, compare_legs
from tasks.carry.closing.close_out import ENDED, close_out
from tasks.carry.closing.last_resort import PASS_S, REOPEN_S
from tasks.carry.desk import CarryDesk, open_desk_to_close
from tasks.carry.mark import LIVE
from tasks.desk import LedgerFault, make_clock
from tasks.oddities import naming_oddities

log = logging.getLogger("evenkeel.flatten")
REASON = "kill switch"
WITHIN_S = 600.0
YIELD_S = 5.0
"""What another worker that holds a position gets to let go of it; then it is taken over, and its fence stops it."""


HINT_S = 3.0
"""Wall seconds that the ledger may take before the way without it is named; a lock is waited for longer than that."""
WITHOUT_LEDGER = "`evenkeel flatten --all --without-ledger` asks the venues instead"
LEDGER_PASSES = 2
"""Passes in a row in which the ledger alone kept every position from being closed, before it is given up."""
READINGS = 3
"""At the venues, where they do not agree with the books at the end: one of their servers may lag."""


class Flattened(Frozen):
    """`flat`: our accounts hold nothing, by the ledger and by the venues. `left` says what they do, and why."""

    flat: bool
    positions: dict[str, str]
    left: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


async def flatten(
    settings: Settings, reason: str, within_s: float = WITHIN_S, *, one_leg: bool = False
) -> Flattened:
    """The whole kill switch. A key that cannot be opened is tried again and again; meanwhile both legs of its positions stand,
    or with `one_leg` its own alone. Of a fleet every account is closed, side by side.

    Raises LedgerFault where the ledger cannot be used at all; `tasks.carry.closing.last_resort` closes without one.
    """
    if settings.fleet and not (settings.account or settings.of_account):
        return await _flatten_fleet(settings, reason, within_s, one_leg=one_leg)
    return await _flatten_account(settings, reason, within_s, one_leg=one_leg)


async def _flatten_account(
    settings: Settings, reason: str, within_s: float, store: Store | None = None, *, one_leg: bool
) -> Flattened:
    """Close one account, with its keys opened anew until both could be. `store`: an open ledger, else it opens its own."""
    deadline_ms: int | None = None
    while True:
        hint = _hint()
        try:
            async with open_desk_to_close(settings, store) as desk:
                hint.cancel()
                deadline_ms = deadline_ms or desk.clock.now_ms() + int(within_s * 1000)
                left_s = max((deadline_ms - desk.clock.now_ms()) / 1000, 0.0)
                pass_s = min(left_s, PASS_S) if desk.without_key else left_s
                done = await flatten_everything(desk, reason, pass_s, one_leg=one_leg)
                if done.flat or not desk.without_key or desk.clock.now_ms() >= deadline_ms:
                    return done
                await desk.clock.sleep(REOPEN_S)
        finally:
            hint.cancel()


async def _flatten_fleet(settings: Settings, reason: str, within_s: float, *, one_leg: bool) -> Flattened:
    """Close every account side by side, on one connection to the ledger: no fault of one breaks off another."""
    each, clock, hint = settings.each_account(), make_clock(settings), _hint()
    try:
        store = Store.open(settings.database.url, clock)
    except EvenkeelError as fault:
        raise LedgerFault(str(fault)) from fault
    finally:
        hint.cancel()
    try:
        ends = await asyncio.gather(
            *(_flatten_account(one, reason, within_s, store, one_leg=one_leg) for one in each),
            return_exceptions=True,
        )
        faults = [end for end in ends if isinstance(end, BaseException)]
        if len(faults) == len(each) and (
            len(each) == 1 or all(isinstance(one, LedgerFault) for one in faults)
        ):
            raise faults[0]
        named = [
            (one.of_account, end if isinstance(end, Flattened) else _broken_off(one, end))
            for one, end in zip(each, ends, strict=True)
        ]
        return _together(named, _of_no_account(settings, store))
    finally:
        store.close()


def _broken_off(account: Settings, fault: BaseException) -> Flattened:
    """The answer of an account at which something failed that is of none of its positions."""
    log.error("%s is not closed: %s", account.of_account, words_of(fault))
    log.debug("a fault", exc_info=fault)
    why = f"the ledger cannot be used: {fault}; {WITHOUT_LEDGER}" if isinstance(fault, LedgerFault) else ""
    return Flattened(flat=False, positions={}, left=(why or words_of(fault),))


def _of_no_account(settings: Settings, store: Store) -> list[str]:
    """Live positions of the ledger that none of the fleet's keys can close."""
    try:
        live = store.carry.positions(LIVE)
    except EvenkeelError as fault:
        return [f"whether a position belongs to no account of the fleet could not be read: {fault}"]
    return [
        f"{one.position_id} belongs to account {one.short_account or '(not recorded)'}, which is none of the fleet's: "
        "name it under [[fleet]], or close it by hand"
        for one in live
        if not settings.account_of(one.short_account)
    ]


def _together(each: list[tuple[str, Flattened]], others: Sequence[str]) -> Flattened:
    """The answer of a fleet: flat where every account is, and the ledger has no live position of any other (`others`)."""
    return Flattened(
        flat=all(one.flat for _, one in each) and not others,
        positions={name: end for _, one in each for name, end in one.positions.items()},
        left=(*(f"{account}: {text}" for account, one in each for text in one.left), *others),
        notes=tuple(f"{account}: {text}" for account, one in each for text in one.notes),
    )


@naming_oddities
async def flatten_everything(
    desk: CarryDesk, reason: str, within_s: float = WITHIN_S, *, one_leg: bool = False
) -> Flattened:
    """Pause everything, then close every position, again and again until nothing is left. Where one leg of a position cannot
    be closed the other hedges it, unless `one_leg` is asked for.

    Raises LedgerFault where the ledger cannot be used at all.
    """
    await desk.clock.refresh()
    deadline_ms = desk.clock.now_ms() + int(within_s * 1000)
    hint = _hint()
    try:
        desk.store.pause("all", f"{REASON}: {reason}")
        found = [one.position_id for one in desk.store.carry.positions(LIVE)]
    except EvenkeelError as fault:
        raise LedgerFault(str(fault)) from fault
    finally:
        hint.cancel()
    ends: dict[str, str] = {}
    in_a_row = 0
    while True:
        waiting = [one for one in found if ends.get(one) not in ENDED]
        ended = await asyncio.gather(*(_close(desk, one, reason, one_leg=one_leg) for one in waiting))
        ends |= {
            one: end if isinstance(end, str) else f"not closed yet: {end}"
            for one, end in zip(waiting, ended, strict=True)
        }
        faults = [end for end in ended if isinstance(end, LedgerUnavailable)]
        if faults:
            log.error("the ledger cannot be used: %s; %s", faults[0], WITHOUT_LEDGER)
        in_a_row = in_a_row + 1 if faults and len(faults) == len(waiting) else 0
        if in_a_row == LEDGER_PASSES:
            raise LedgerFault(str(faults[0])) from faults[0]
        if all(ends.get(one) in ENDED for one in found) or desk.clock.now_ms() >= deadline_ms:
            break
        await desk.clock.sleep(2.0)
    left = [f"{one}: {ends[one]}" for one in found if ends[one] not in ENDED]
    left += [f"{venue} has no key: {why}" for venue, why in desk.without_key.items() if left]
    held, notes = await _held(desk)
    return Flattened(flat=not left and not held, positions=ends, left=(*left, *held), notes=notes)


async def _held(desk: CarryDesk) -> tuple[list[str], tuple[str, ...]]:
    """What the venues show on our accounts after all, or why they cannot be asked; and where only the books have more."""
    for reading in range(READINGS):
        try:
            compared: Comparison = await compare_legs(desk)
        except EvenkeelError as fault:
            return [f"books and venues could not be compared: {fault}"], ()
        if not compared.unowned:
            break
        if reading + 1 < READINGS:
            await desk.clock.sleep(2.0)
    held = [f"{venue} cannot be asked what it holds: {why}" for venue, why in compared.unreadable.items()]
    held += [
        f"{one.key}: the venue holds {one.venue}, our books {one.books or 'nothing'}: not touched, close it by hand"
        for one in compared.unowned
        if one.venue
    ]
    held += [
        f"asgard {pda}: {why}: not touched, close it by hand" for pda, why in desk.long.not_understood.items()
    ]
    notes = [
        f"{one.key}: the venue holds nothing, our books {one.books}"
        for one in compared.unowned
        if not one.venue
    ]
    return held, tuple(notes)


def _hint() -> threading.Timer:
    """Names the other way where the ledger keeps this one waiting: to be cancelled once it has answered."""
    timer = threading.Timer(
        HINT_S, log.error, ("the ledger has not answered for %.0f s; %s", HINT_S, WITHOUT_LEDGER)
    )
    timer.daemon = True
    timer.start()
    return timer


async def _close(desk: CarryDesk, position_id: str, reason: str, *, one_leg: bool) -> str | LedgerUnavailable:
    """One try at one position; its status, or why it could not be tried."""
    why = f"{REASON}: {reason}"
    try:
        await _let_go(desk, position_id)
        async with desk.sole_writer(position_id, from_living=True) as fence:
            done = await close_out(
                desk, position_id, why, Urgency.EMERGENCY, fence, prove=True, one_leg=one_leg
            )
        if done.status not in ENDED:
            return f"{done.status}: {'; '.join(done.reasons)}"
        return done.status
    except LedgerUnavailable as fault:
        return fault
    except (LostRace, *UNREAD, OperatorError) as error:
        log.warning("%s: %s", position_id, error)
        return f"not closed yet: {error}"
    except Exception as bug:
        # Of one position: the others are closed all the same, and so is it at the next try.
        log.warning("%s: a bug: %r", position_id, bug)
        return f"not closed yet, a bug: {bug if isinstance(bug, Bug) else type(bug).__name__}"


async def _let_go(desk: CarryDesk, position_id: str) -> None:
    """A moment for another worker to finish what it is writing."""
    until_ms = desk.clock.now_ms() + int(YIELD_S * 1000)
    while desk.written_elsewhere(position_id) and desk.clock.now_ms() < until_ms:
        await desk.clock.sleep(0.5)
