"""A closing that cannot go on: the hedge is kept, or opened again as far as it is missing, and both legs shrink by what the
lender releases.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from decimal import Decimal
from functools import partial

from evenkeel.errors import UNREAD, EvenkeelError, LostRace, OperatorError, Retryable
from evenkeel.legs import LegSide, WayOut
from evenkeel.types import Frozen
from state.carry.models import Position
from state.models import Fence
from state.watch_models import Severity
from strategy.carry.decisions import PartialClose
from strategy.carry.leaving import hedge_carried, hedge_missing, is_level, share_to_level, shares_to_ask
from strategy.carry.sizing import exposure_sol
from tasks.carry.closing.closing import CLOSING_FACTS, held_back_facts, still_unsettled
from tasks.carry.desk import CarryDesk
from tasks.carry.legs import resize_long, resize_short, until_stuck
from tasks.carry.orders import resize_long_order
from tasks.carry.watching.alerts import HELD_BACK
from tasks.intents import Done, Ending, NotDone, Unsettled
from tasks.step import step

log = logging.getLogger("evenkeel.closing")


class Sizes(Frozen):
    """Both legs by the books, in SOL, at one price."""

    long_sol: Decimal
    short_qty: Decimal
    price_usd: Decimal

    @property
    def level(self) -> bool:
        return is_level(self.long_sol, self.short_qty)

    def __str__(self) -> str:
        return f"long {self.long_sol:.4f} SOL, short {self.short_qty} SOL"


async def sizes_of(desk: CarryDesk, position: Position) -> Sizes:
    """Measure both legs at the present price and redemption rate, or the last ones known. Raises Retryable where there are
    none.
    """
    rate, price = await _rate(desk, position.asset), await _price(desk, position)
    held = {leg.side: leg.qty for leg in desk.store.carry.legs(position.position_id) if leg.is_open}
    return Sizes(
        long_sol=exposure_sol(held.get(LegSide.LONG, Decimal(0)), rate),
        short_qty=held.get(LegSide.SHORT, Decimal(0)),
        price_usd=price,
    )


async def token_price_usd(desk: CarryDesk, position: Position) -> Decimal:
    """USD of one token of the long, now or as last known. Raises Retryable where neither is to be had."""
    return await _price(desk, position) * await _rate(desk, position.asset)


async def _rate(desk: CarryDesk, asset: str) -> Decimal:
    rate: Decimal | None = None
    with suppress(*UNREAD, OperatorError):
        rate = await desk.long.redemption_rate(asset)
    stored = desk.store.last_price("solana", asset, "redemption") if rate is None else None
    known = rate or (stored.price_usd if stored else None)
    if known is None:
        raise Retryable(f"no redemption rate of {asset} is known")
    return known


async def _price(desk: CarryDesk, position: Position) -> Decimal:
    with suppress(*UNREAD, OperatorError):
        return await desk.short.market.fair_price(position.underlying)
    stored = desk.store.last_price("hyperliquid", position.underlying, "oracle")
    price = stored.price_usd if stored else position.ref_short_price_usd
    if price is None:
        raise Retryable(f"no price of {position.underlying} is known")
    return price


@step("hold the closing back", tags=("wire",))
async def hold_back(desk: CarryDesk, position: Position, doubts: dict[LegSide, WayOut], fence: Fence) -> bool:
    """Keep what hedges: level the legs, alert a person with both sizes, take what the lender releases. `doubts` says which
    leg cannot be closed, and why. Whether the legs are level afterwards; then nothing is urgent.
    """
    stuck = LegSide.LONG if LegSide.LONG in doubts else LegSide.SHORT
    name = position.position_id
    # Noted first: a process that dies while it opens the hedge again must not close it again.
    facts = held_back_facts(stuck, desk.clock.now_ms(), waits=False)
    desk.store.carry.set_facts(name, {CLOSING_FACTS: facts}, fence=fence)
    why = "; ".join(f"the {side} cannot be closed ({way.reason})" for side, way in doubts.items())
    problems = []
    for mend in (_level, _shrink_both) if stuck is LegSide.LONG and doubts[stuck].answered else (_level,):
        try:
            await mend(desk, position, fence)
        except LostRace:
            raise
        except EvenkeelError as error:
            problems.append(str(error))
    sizes = await sizes_of(desk, position)
    _alert(desk, position, "; ".join((why, *problems)), sizes)
    facts = held_back_facts(stuck, desk.clock.now_ms(), waits=sizes.level)
    desk.store.carry.set_facts(name, {CLOSING_FACTS: facts}, fence=fence)
    return sizes.level


def _alert(desk: CarryDesk, position: Position, why: str, sizes: Sizes) -> None:
    """Say once what holds the closing back; the alert ends with the position, or when the closing goes on."""
    text = f"{position.position_id} is not closed: {why}. Held now: {sizes}"
    if not sizes.level:
        text += "; the legs do not cancel each other"
    try:
        desk.store.alert(HELD_BACK, Severity.CRITICAL, text, subject=position.position_id)
    except Retryable as busy:  # a ledger that is busy keeps nobody from the way out
        log.critical("%s (not noted: %s)", text, busy)


async def _level(desk: CarryDesk, position: Position, fence: Fence) -> None:
    """The short back to the size of the long: opened again as far as the account carries it, or bought back. Where its
    venue refuses, the long is brought down to the short.
    """
    if await still_unsettled(desk, position, fence):
        return
    sizes = await sizes_of(desk, position)
    missing = hedge_missing(sizes.long_sol, sizes.short_qty, sizes.price_usd)
    if missing == 0 or sizes.level or sizes.long_sol == 0:
        return
    if missing > 0:
        free = (await desk.short.account()).free_margin_usd
        missing = hedge_carried(missing, free, position.leverage, sizes.price_usd)
    change = partial(resize_short, desk, position, missing, fence)
    if missing != 0 and _done(await until_stuck(desk, change)):
        sizes = await sizes_of(desk, position)
        if sizes.level:
            return
    percent = share_to_level(sizes.long_sol, sizes.short_qty)
    if percent is not None and sizes.short_qty > 0:
        await release(desk, position, percent, fence)


async def _shrink_both(desk: CarryDesk, position: Position, fence: Fence) -> None:
    """The largest share of the long that the lender releases is closed, and the short follows to the lot."""
    sizes = await sizes_of(desk, position)
    if not sizes.level or sizes.short_qty <= 0:
        return
    for percent in shares_to_ask(sizes.long_sol, sizes.price_usd):
        if await release(desk, position, percent, fence):
            await _level(desk, position, fence)
            return


async def release(desk: CarryDesk, position: Position, percent: int, fence: Fence) -> bool:
    """Close this share of the long where the lender takes it: proved before it is signed."""
    leg = desk.store.carry.leg(position.position_id, LegSide.LONG)
    if leg is None or not leg.is_open or not desk.long.can_resize(leg.protocol or 0):
        return False
    operation = PartialClose(close_percent=percent)
    if not (await desk.long.can_close(await resize_long_order(desk, leg, operation))).provable:
        return False
    return _done(await resize_long(desk, position, operation, fence))


def _done(ending: Ending) -> bool:
    if isinstance(ending, NotDone | Unsettled):
        log.warning("while a closing is held back: %s", ending.reason)
    return isinstance(ending, Done)
