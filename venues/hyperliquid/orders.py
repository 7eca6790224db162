"""An order from the request to the wire: limit price, checks, cloid, the stored key, and the fills it made."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from pydantic import Field

from evenkeel.errors import Bug, VenueRefused
from evenkeel.types import Decided, Fill, Frozen, Receipt, VenueName
from evenkeel.units import BPS
from venues.hyperliquid import models as m
from venues.hyperliquid.client import VENUE
from venues.hyperliquid.market import Book
from venues.hyperliquid.rounding import is_valid_price, round_price, round_size, slippage_limit, wire
from venues.perp import AssetSpec
from venues.timing import can_be

MIN_NOTIONAL_USD = Decimal(10)
NOTHING_TO_REDUCE = "Reduce only order would increase position"
"""How the venue refuses an order that can only reduce, where the account holds nothing on that side."""


class PerpOrder(Frozen):
    """A market order within a bound: IOC, at most `slippage_bps` away from the mid at the time of building.

    `size` is in coins and rounds down to the lot. `limit_px` is a further bound fixed by the strategy:
    never sell below, never buy above it. `though_unshown`: the account shows no position, and that is not believed; an
    order that only reduces is built all the same, for the venue cuts it down to what is held. `decided` is kept for the
    books alone.
    """

    coin: str
    is_buy: bool
    size: Decimal = Field(gt=0)
    reduce_only: bool = False
    slippage_bps: Decimal = Field(ge=0, lt=BPS)
    limit_px: Decimal | None = Field(default=None, gt=0)
    though_unshown: bool = False
    decided: Decided | None = None


class OrderKey(Frozen):
    """What is stored before sending: enough to send the same bytes again and to ask what became of them.

    `payload` is the exact request body as text. `szi_before` is the account's signed position at
    `position_time_ms` on the venue's clock, before the order was sent.
    """

    account: str
    coin: str
    cloid: str
    nonce: int
    expires_after: int
    payload: str
    signer: str
    built_at_ms: int
    is_buy: bool
    size: Decimal
    limit_px: Decimal
    reference_px: Decimal
    szi_before: Decimal
    position_time_ms: int
    oracle_px: Decimal | None = None
    """The oracle's price as read for the order; None where it was not read."""
    szi_read: bool = True
    """False where the account could not be read, or was not believed: `szi_before` is what the order assumes, and no proof."""


def limit_price(order: PerpOrder, book: Book, asset: AssetSpec) -> Decimal:
    """Return the IOC limit (USD): the tighter of the slippage bound around the mid and the strategy's own limit."""
    price = slippage_limit(
        book.mid_px, is_buy=order.is_buy, slippage_bps=order.slippage_bps, sz_decimals=asset.sz_decimals
    )
    if order.limit_px is None:
        return price
    own = round_price(order.limit_px, asset.sz_decimals, up=not order.is_buy)
    return min(price, own) if order.is_buy else max(price, own)


def checked_size(order: PerpOrder, price: Decimal, szi: Decimal, asset: AssetSpec) -> Decimal:
    """Return the size that may be sent, in coins. VenueRefused with the venue's reasons where it would say no."""
    size = round_size(order.size, asset.sz_decimals)
    if size <= 0:
        lot = Decimal(1).scaleb(-asset.sz_decimals)
        raise VenueRefused(VENUE, f"size {order.size} {order.coin} is below the lot of {lot}")
    if not is_valid_price(price, asset.sz_decimals):
        raise Bug(f"limit price {price} of {order.coin} is not on a tick")
    if order.reduce_only and (szi == 0 or (szi > 0) == order.is_buy):
        side = "buy" if order.is_buy else "sell"
        raise VenueRefused(
            VENUE, f"reduce-only {side} of {order.coin}, but the position is {szi}: nothing to reduce"
        )
    closes_all = order.reduce_only and size >= abs(szi)
    if size * price < MIN_NOTIONAL_USD and not closes_all:
        raise VenueRefused(
            VENUE,
            f"order of {size} {order.coin} at {price} is under the minimum value of {MIN_NOTIONAL_USD} USD",
        )
    return size


def order_action(
    asset: AssetSpec, order: PerpOrder, price: Decimal, size: Decimal, cloid: str
) -> dict[str, Any]:
    """Return the action to be signed. The order of the keys is part of what is hashed."""
    return {
        "type": "order",
        "orders": [
            {
                "a": asset.index,
                "b": order.is_buy,
                "p": wire(price),
                "s": wire(size),
                "r": order.reduce_only,
                "t": {"limit": {"tif": "Ioc"}},
                "c": cloid,
            }
        ],
        "grouping": "na",
    }


def leverage_action(asset: AssetSpec, leverage: int) -> dict[str, Any]:
    return {"type": "updateLeverage", "asset": asset.index, "isCross": True, "leverage": leverage}


def cloid_of(intent_id: str, nonce: int) -> str:
    """Return the client order id of one attempt: 128 bits in lower-case hex, the same whenever it is computed again."""
    return "0x" + hashlib.sha256(f"{intent_id}:{nonce}".encode()).hexdigest()[:32]


def to_fill(row: m.WireFill) -> Fill:
    """Return a wire fill as the books want it. A fee in another token than USDC counts as none here, as one that cannot be
    read does until it can; who reads the list names it.
    """
    return Fill(
        fill_id=row.fill_id,
        venue=VenueName.HYPERLIQUID,
        asset=row.coin,
        side="buy" if row.side == "B" else "sell",
        qty=row.sz,
        price_usd=row.px,
        fee_usd=row.fee if row.fee and row.fee_is_known else Decimal(0),
        closed_pnl_usd=row.closed_pnl,
        order_ref=row.cloid or str(row.oid),
        time_ms=row.time,
        whole=row.tid is not None and row.fee is not None,
        instead_id=row.instead_id,
    )


def is_whole(stored: Fill) -> bool:
    """Whether a fill was stored with its number and its fee. A few fills cost nothing by right: they count as not whole."""
    return stored.fee_usd != 0 and stored.fill_id.count(":") == 2


def _filled_ms(key: OrderKey, said_ms: int) -> int:
    """Return the time of a fill as it is said, where the order could be filled then; else when it was built."""
    return said_ms if can_be(said_ms, key.position_time_ms, key.expires_after) else key.built_at_ms


def receipt_of(key: OrderKey, rows: Sequence[m.WireFill]) -> Receipt:
    """Return what the order did, from its fills (at least one)."""
    done = sum((row.sz for row in rows), Decimal(0))
    average = sum((row.sz * row.px for row in rows), Decimal(0)) / done
    return Receipt(
        ref=str(rows[0].oid),
        done_qty=done,
        avg_price_usd=average,
        fills=[to_fill(row) for row in rows],
        settled_ms=_filled_ms(key, max(row.time for row in rows)),
        detail={
            "cloid": key.cloid,
            "oid": rows[0].oid,
            "asked_qty": str(key.size),
            "limit_px": str(key.limit_px),
            "reference_px": str(key.reference_px),
            "sent_ms": key.built_at_ms,
        }
        | ({} if key.oracle_px is None else {"oracle_px": str(key.oracle_px)}),
    )
