"""The market at the moment of a booking, and the leg that a receipt leaves behind."""

from __future__ import annotations

from decimal import Decimal

from evenkeel.errors import Bug, Retryable, VenueRefused
from evenkeel.types import IntentKind, LegSide, Receipt, VenueName
from state.carry.models import Leg, LegStatus
from state.models import Intent
from tasks.carry.mark import COIN, Mark
from tasks.desk import Desk

LATE_MS = 60_000
"""What settled longer ago has no price of its moment any more; one of this age stands beside it as well as any."""


async def read_mark(desk: Desk, asset: str) -> Mark:
    """Oracle price of SOL, price of the asset as Asgard shows it, and its redemption rate, now. Raises Retryable."""
    context = await desk.short.market.context(COIN)
    prices = await desk.long.token_prices()
    rate = await desk.long.redemption_rate(asset)
    if asset not in prices or rate is None:
        raise Retryable(f"no price or redemption rate of {asset} at this moment")
    return Mark(
        at_ms=desk.clock.now_ms(),
        sol_price_usd=context.oracle_px,
        token_price_usd=prices[asset],
        redemption_rate=rate,
    )


async def marked(desk: Desk, intent: Intent, receipt: Receipt) -> tuple[Receipt, Decimal | None]:
    """The receipt with the market beside it, and the SOL price that values its gas.

    A booking must not wait for a price: where none can be had, the last one seen stands in, and the receipt says so.
    """
    asset = desk.assets.get(intent.position_id)
    if asset is None:
        asset = desk.assets[intent.position_id] = desk.store.position(intent.position_id).asset
    try:
        mark = await _mark_for(desk, asset, receipt)
    except (Retryable, VenueRefused):
        mark = _last_seen(desk, asset, receipt)
    detail = {**receipt.detail, "mark": mark.model_dump(mode="json")}
    if receipt.lending is None:
        return receipt.model_copy(update={"detail": detail}), mark.sol_price_usd
    # The ledger keys a lending change by its transaction, and books the protocol's fee from the change alone.
    signature = receipt.fills[0].fill_id if receipt.fills else receipt.detail["signatures"][-1]
    fills = [fill.model_copy(update={"fee_usd": Decimal(0)}) for fill in receipt.fills]
    detail["position_pda"] = receipt.ref
    booked = receipt.model_copy(update={"ref": signature, "fills": fills, "detail": detail})
    return booked, mark.sol_price_usd


async def _mark_for(desk: Desk, asset: str, receipt: Receipt) -> Mark:
    """The market now; what settled longer ago is booked beside one that may be as old as `LATE_MS`, because none that can
    be had is of its moment, and a recovery may have a thousand of them to book.
    """
    now_ms = desk.clock.now_ms()
    known = desk.marks_seen.get(asset)
    if known is not None and now_ms - receipt.settled_ms > LATE_MS and now_ms - known.at_ms < LATE_MS:
        return known
    desk.marks_seen[asset] = await read_mark(desk, asset)
    return desk.marks_seen[asset]


def _last_seen(desk: Desk, asset: str, receipt: Receipt) -> Mark:
    sol = desk.store.prices(kind="oracle")
    rates = [row for row in desk.store.prices(kind="redemption") if row.asset == asset]
    rate = rates[-1].price_usd if rates else Decimal(1)
    if sol:
        price = sol[-1].price_usd
    elif receipt.avg_price_usd is not None:
        price = receipt.avg_price_usd if intent_is_perp(receipt) else receipt.avg_price_usd / rate
    else:
        raise Bug("a booking needs a price of SOL, and none was ever stored")
    return Mark(
        at_ms=receipt.settled_ms, sol_price_usd=price, token_price_usd=price * rate, redemption_rate=rate
    )


def intent_is_perp(receipt: Receipt) -> bool:
    """Whether a receipt is of the perpetual leg."""
    return receipt.lending is None


def leg_after(intent: Intent, receipt: Receipt, before: Leg | None) -> Leg:
    """The leg row once the receipt has happened."""
    if intent.leg is LegSide.LONG:
        return _long_after(intent, receipt, before)
    if before is None or not before.is_open:
        before = Leg(
            position_id=intent.position_id,
            side=LegSide.SHORT,
            venue=VenueName.HYPERLIQUID,
            ref=COIN,
            asset=COIN,
            qty=Decimal(0),
            opened_ms=receipt.settled_ms,
        )
    grows = not bool(intent.order["is_buy"])
    if grows:
        return before.grown(receipt.done_qty, receipt.avg_price_usd)
    return before.shrunk(receipt.done_qty, receipt.settled_ms)


def _long_after(intent: Intent, receipt: Receipt, before: Leg | None) -> Leg:
    change = receipt.lending
    if change is None:
        raise Bug(f"receipt of {intent.intent_id} says nothing of the lending position")
    if intent.kind is IntentKind.OPEN:
        return Leg(
            position_id=intent.position_id,
            side=LegSide.LONG,
            venue=VenueName.ASGARD,
            ref=receipt.detail["position_pda"],
            asset=intent.order["asset"],
            protocol=int(intent.order["protocol"]),
            qty=change.tokens_after,
            entry_price_usd=receipt.avg_price_usd,
            opened_ms=receipt.settled_ms,
        )
    if before is None:
        raise Bug(f"{intent.intent_id} changed a long leg that the books do not have")
    if intent.kind is IntentKind.CLOSE:
        gone = {"qty": Decimal(0), "status": LegStatus.CLOSED, "closed_ms": receipt.settled_ms}
        return before.model_copy(update=gone)
    return before.model_copy(update={"qty": change.tokens_after})
