"""Close a position, whatever is left of it: the short first, then the long, again and again until both are flat."""

from __future__ import annotations

import logging
from collections.abc import Awaitable

from evenkeel.errors import Bug, EvenkeelError, LostRace, Retryable
from evenkeel.legs import CARRY, LegSide, PositionStatus
from evenkeel.types import Frozen
from state.carry.models import Position
from state.models import Fence
from state.watch_models import Severity
from strategy.decisions import Urgency
from tasks.carry.books.collect import collect_everything
from tasks.carry.books.external_long import book_long_changes
from tasks.carry.desk import CarryDesk
from tasks.carry.legs import close_long, close_short
from tasks.carry.watching.alerts import RESISTS, end_watch
from tasks.intents import Ending, NotDone, Unsettled
from tasks.step import step

log = logging.getLogger("evenkeel.closing")
ROUNDS = 4
"""Passes over both legs in one run; a position that is not flat by then stays CLOSING and is taken up again."""

CLOSING_LONG_S = 20.0
"""What building, landing and confirming the close of a lending position takes on an ordinary day."""


class LegClosing(Frozen):
    """Whether nothing of the leg is left, and if not, why."""

    flat: bool
    reason: str = ""


@step("start closing", tags=("ledger",))
async def start_closing(desk: CarryDesk, position_id: str, why: str, fence: Fence) -> Position:
    """OPEN → CLOSING, or OPENING → UNWINDING; a closing that was started already goes on with its first reason."""
    position = desk.store.carry.position(position_id)
    towards = {
        PositionStatus.OPEN: PositionStatus.CLOSING,
        PositionStatus.OPENING: PositionStatus.UNWINDING,
    }.get(position.status)
    if towards is None:
        return position
    return desk.store.carry.move_position(
        position_id, position.status, towards, note=why, fence=fence, close_reason=why
    )


@step("close the short leg", tags=("wire",))
async def close_short_leg(desk: CarryDesk, position: Position, urgency: Urgency, fence: Fence) -> LegClosing:
    """Up to five tries within 60 s; after that the long is closed anyway, and this is tried again (docs/rules.md,
    "Closing").
    """
    window_s = _short_window_s(desk, position)
    ending = await _ended(close_short(desk, position, fence, urgency, within_s=window_s))
    return _judge(desk, position, LegSide.SHORT, ending)


def _short_window_s(desk: CarryDesk, position: Position) -> float:
    """A minute; less where the long was never hedged, so that it is closed before its naked time is up."""
    window_s = float(desk.settings.strategy.exit_short_window_s)
    if position.status is not PositionStatus.UNWINDING:
        return window_s
    long_leg = desk.store.carry.leg(position.position_id, LegSide.LONG)
    if long_leg is None or not long_leg.is_open:
        return window_s
    naked_s = (desk.clock.now_ms() - long_leg.opened_ms) / 1000
    left_s = desk.settings.limits.max_naked_s - CLOSING_LONG_S - naked_s
    return min(window_s, max(left_s, 1.0))


@step("close the long leg", tags=("wire",))
async def close_long_leg(desk: CarryDesk, position: Position, urgency: Urgency, fence: Fence) -> LegClosing:
    """Close the lending position in full; one that resists is retried with the higher tip and alarmed."""
    return _judge(desk, position, LegSide.LONG, await _ended(close_long(desk, position, fence, urgency)))


async def _ended(closing: Awaitable[Ending]) -> Ending:
    """Whatever holds up one leg must not hold up the other; only another worker's right to write stops both."""
    try:
        return await closing
    except LostRace:
        raise
    except EvenkeelError as error:
        return NotDone(str(error))


def _judge(desk: CarryDesk, position: Position, side: LegSide, ending: object) -> LegClosing:
    leg = desk.store.carry.leg(position.position_id, side)
    if (leg is None or not leg.is_open) and not isinstance(ending, Unsettled):
        return LegClosing(flat=True)
    reason = ending.reason if isinstance(ending, NotDone | Unsettled) else "only part of it is closed"
    try:
        desk.store.alert(f"{side} {RESISTS}", Severity.CRITICAL, reason, subject=position.position_id)
    except Retryable as error:  # an alert must not keep the other leg from being closed
        log.warning(
            "%s: the %s leg resists closing (%s), not noted: %s", position.position_id, side, reason, error
        )
    return LegClosing(flat=False, reason=reason)


async def collect_last(desk: CarryDesk, position: Position) -> None:
    """The venues' rows up to now, before the position ends. Rows that contradict the books are for a person to judge;
    they must not keep a position that is flat from ending. Raises Retryable, VenueRefused.
    """
    try:
        await collect_everything(desk, with_market=False)
    except Bug as contradiction:
        text = f"collected rows contradict the books: {contradiction}"
        desk.store.alert("books contradicted", Severity.CRITICAL, text, subject=position.position_id)


def unfinished(desk: CarryDesk, position_id: str) -> bool:
    """Whether an order of this position may still take effect."""
    return bool(desk.store.unfinished_intents(CARRY, position_id))


@step("settle", tags=("ledger",), retries=3)
async def settle(desk: CarryDesk, position: Position, fence: Fence) -> Position:
    """Both legs are flat by the books, and both venues say so too: note what they hold now, and end the position.

    A position that never held anything ends FAILED; one that did ends CLOSED. Margin stays on its venue
    (docs/deviations.md, row 21).
    """
    await _alert_unless_venues_are_flat(desk, position)
    await book_long_changes(
        desk, position, fence
    )  # a seizure that came between our last tick and the landing of the close
    wallet, account = await desk.long.wallet_balances(), await desk.short.account()
    after = {
        "hyperliquid_usd": account.account_value_usd,
        "wallet_usdc": wallet.usdc,
        "wallet_lamports": wallet.sol_lamports,
        "at_ms": desk.clock.now_ms(),
    }
    desk.store.carry.set_facts(position.position_id, {"after": after}, fence=fence)
    held = desk.store.carry.legs(position.position_id)
    to = PositionStatus.CLOSED if held else PositionStatus.FAILED
    end_watch(desk, position.position_id, fence)
    return desk.store.carry.move_position(
        position.position_id, position.status, to, note=position.close_reason or "", fence=fence
    )


async def _alert_unless_venues_are_flat(desk: CarryDesk, position: Position) -> None:
    """An alert is raised at once where a venue still holds what our books call closed; the position ends all the same,
    because its books are complete and what is left belongs to nobody's order.
    """
    pdas = {
        (int(leg.protocol or 0), leg.ref)
        for leg in desk.store.carry.legs(position.position_id)
        if leg.side is LegSide.LONG
    }
    held = [view.ref for view in await desk.long.legs(known_pdas=pdas) if (view.protocol, view.ref) in pdas]
    held += [view.ref for view in [await desk.short.leg(position.underlying)] if view is not None]
    if held:
        text = f"{position.position_id} is closed in our books, yet the venues still hold {', '.join(held)}"
        desk.store.alert("unowned leg", Severity.CRITICAL, text, subject=position.position_id)
