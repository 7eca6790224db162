"""The steps of a closing: begin it, close one leg, settle what is flat."""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from decimal import Decimal
from typing import Any

from evenkeel.errors import Bug, EvenkeelError, LostRace, OperatorError, Retryable, VenueRefused
from evenkeel.legs import CARRY, LegSide, PositionStatus
from evenkeel.types import Frozen
from state.carry.models import Position
from state.models import Fence
from state.watch_models import Severity
from strategy.decisions import Urgency
from tasks.carry.books.collect import collect_everything
from tasks.carry.books.external_long import book_long_changes
from tasks.carry.closing.leftovers import alert_wallet, reopen_what_is_left, wallet_tokens
from tasks.carry.desk import CarryDesk
from tasks.carry.hosts import ASGARD, HYPERLIQUID, SOLANA
from tasks.carry.legs import close_long, close_short, finish_started
from tasks.carry.watching.alerts import RESISTS, end_watch
from tasks.carry.watching.early_warnings import note_orders
from tasks.carry.watching.wallets import note_money
from tasks.intents import Ending, NotDone, Unsettled
from tasks.step import step

log = logging.getLogger("evenkeel.closing")
ROUNDS = 4
"""Passes over both legs in one run; a position that is not flat by then stays CLOSING and is taken up again."""

CLOSING_LONG_S = 20.0
"""What building, landing and confirming the close of a lending position takes on an ordinary day."""


CLOSING_FACTS = "closing"
"""Where a position keeps how its closing stands: which leg was found unable to be closed, and since when it may wait."""


def held_back_facts(stuck: LegSide, at_ms: int, *, waits: bool) -> dict[str, Any]:
    """What is kept of a closing that was held back. `waits`: the legs are level, so that the next try may come later."""
    return {"stuck": stuck, "held_ms": at_ms if waits else None}


def stuck_leg(position: Position) -> LegSide | None:
    """The leg that the last try of the closing found unable to be closed."""
    known = position.facts.get(CLOSING_FACTS, {}).get("stuck")
    return None if known is None else LegSide(known)


def waits(desk: CarryDesk, position: Position) -> bool:
    """Whether a closing that is held back has been tried less than a calm tick ago, and nothing is on the wire."""
    held_ms = position.facts.get(CLOSING_FACTS, {}).get("held_ms")
    if held_ms is None or unfinished(desk, position.position_id):
        return False
    return desk.clock.now_ms() - int(held_ms) < desk.settings.strategy.poll_interval_s * 1000


UNSETTLED_S = 20.0
"""For which an order of unknown outcome is asked about before both legs are left as they are."""


class LegClosing(Frozen):
    """Whether nothing of the leg is left, and if not, why. `refused`: its venue answers, and takes no order for it.
    `unsettled`: an order of it may still take effect.
    """

    flat: bool
    reason: str = ""
    refused: bool = False
    unsettled: bool = False


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
    """Up to five tries within 60 s (docs/rules.md, "Closing")."""
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


async def close_leg(
    desk: CarryDesk, position: Position, side: LegSide, urgency: Urgency, fence: Fence
) -> LegClosing:
    """Close one leg, or say why not."""
    close = close_short_leg if side is LegSide.SHORT else close_long_leg
    return await close(desk, position, urgency, fence)


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
        return NotDone(str(error), isinstance(error, VenueRefused | OperatorError))


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
    refused, unsettled = isinstance(ending, NotDone) and ending.refused, isinstance(ending, Unsettled)
    return LegClosing(flat=False, reason=reason, refused=refused, unsettled=unsettled)


async def still_unsettled(desk: CarryDesk, position: Position, fence: Fence) -> bool:
    """Follow every order that has left; whether one may still take effect, so that nothing may be counted on."""
    endings: list[Ending] = []
    for side in LegSide:
        endings += await finish_started(desk, position.position_id, side, fence, wait_s=UNSETTLED_S)
    return any(isinstance(one, Unsettled) for one in endings)


def out_of_reach(desk: CarryDesk, side: LegSide) -> bool:
    """Whether calls to the venue of a leg, or to its chain, have failed as an outage does."""
    limits = desk.settings.limits
    failed = desk.health.in_a_row(limits.outage_window_s)
    hosts = (HYPERLIQUID,) if side is LegSide.SHORT else (ASGARD, SOLANA)
    return any(failed.get(host, 0) >= limits.outage_failures for host in hosts)


async def collect_last(desk: CarryDesk, position: Position) -> None:
    """The venues' rows up to now, before the position ends. Rows that contradict the books are for a person to judge;
    they must not keep a position that is flat from ending. Raises Retryable, VenueRefused.
    """
    try:
        await collect_everything(desk, with_market=False)
    except Bug as contradiction:
        text = f"collected rows contradict the books: {contradiction}"
        desk.store.alert(
            "books contradicted", Severity.CRITICAL, text, subject=position.position_id, news=True
        )


def unfinished(desk: CarryDesk, position_id: str) -> bool:
    """Whether an order of this position may still take effect."""
    return bool(desk.store.unfinished_intents(CARRY, position_id))


@step("settle", tags=("ledger",), retries=3)
async def settle(desk: CarryDesk, position: Position, token_price_usd: Decimal, fence: Fence) -> Position:
    """Both legs are flat by the books: where the lender shows nothing either, note what both venues hold now, and end the
    position. What the lender still shows is a leg again, and the position goes on.

    A position that never held anything ends FAILED; one that did ends CLOSED. Margin stays on its venue
    (docs/deviations.md, row 21).
    """
    name = position.position_id
    if await reopen_what_is_left(desk, position, token_price_usd, fence):
        return desk.store.carry.position(name)
    await _alert_unless_the_short_is_gone(desk, position)
    await book_long_changes(
        desk, position, fence
    )  # a seizure that came between our last tick and the landing of the close
    wallet, account = await desk.long.wallet_balances(), await desk.short.account()
    tokens = await wallet_tokens(desk, position.asset)
    after = {
        "hyperliquid_usd": account.account_value_usd,
        "wallet_usdc": wallet.usdc,
        "wallet_lamports": wallet.sol_lamports,
        "wallet_tokens": tokens,
        "at_ms": desk.clock.now_ms(),
    }
    desk.store.carry.set_facts(name, {"after": after}, fence=fence)
    alert_wallet(desk, position, wallet, tokens, token_price_usd)
    held = desk.store.carry.legs(name)
    to = PositionStatus.CLOSED if held else PositionStatus.FAILED
    note_orders(desk, position)
    end_watch(desk, name, fence)
    if held:
        note_money(desk, wallet.usdc, account.free_margin_usd, but=name)
    return desk.store.carry.move_position(
        name, position.status, to, note=position.close_reason or "", fence=fence
    )


async def _alert_unless_the_short_is_gone(desk: CarryDesk, position: Position) -> None:
    """An alert is raised at once where the short's venue still holds what our books call closed; the position ends all the
    same, because its books are complete and what is left belongs to nobody's order.
    """
    held = [view.ref for view in [await desk.short.leg(position.underlying)] if view is not None]
    if held:
        text = f"{position.position_id} is closed in our books, yet the venues still hold {', '.join(held)}"
        desk.store.alert("unowned leg", Severity.CRITICAL, text, subject=position.position_id, news=True)
