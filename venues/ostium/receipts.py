"""What an intent keeps of an order that a keeper has settled."""

from __future__ import annotations

from decimal import Decimal

from evenkeel.types import Fill, Receipt
from venues.evm.answers import Mined
from venues.evm.sender import note_of
from venues.ostium.orders import CloseOrder, OpenOrder
from venues.ostium.settlement import Settlement, settled_of

NAME = "ostium"


def receipt_of(
    order: OpenOrder | CloseOrder, done: Settlement, mined: Mined, pulled: Decimal, at_ms: int
) -> Receipt:
    """Return the receipt of an order that its keeper has settled. `pulled` dollars left the wallet with it."""
    detail = note_of(mined) | {
        "order_id": str(done.order_id),
        "trade_id": str(done.trade_id),
        "settlement": settled_of(done, pulled, at_ms),
    }
    if isinstance(order, OpenOrder):
        assert done.trade is not None and done.asset_qty is not None and done.price is not None
        qty = done.asset_qty
        fee_usd = pulled - done.trade.collateral
    else:
        assert done.share is not None and done.price is not None
        qty, fee_usd = order.asset_qty * done.share, Decimal(0)
    fill = Fill(
        fill_id=str(done.order_id),
        venue=NAME,
        asset=str(order.pair),
        side="buy" if order.is_long == isinstance(order, OpenOrder) else "sell",
        qty=qty,
        price_usd=done.price,
        fee_usd=fee_usd,
        order_ref=mined.hash,
        time_ms=at_ms,
    )
    return Receipt(
        ref=str(done.order_id),
        done_qty=qty,
        avg_price_usd=done.price,
        fills=[fill],
        settled_ms=at_ms,
        detail=detail,
    )
