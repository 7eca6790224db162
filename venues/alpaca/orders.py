"""From an order as Alpaca shows it to an outcome: which states are final, and what was filled."""

from __future__ import annotations

from decimal import Decimal

from evenkeel.types import Confirmed, Outcome, Receipt, Rejected, Working
from venues.alpaca.models import WireOrder, ms_of
from venues.broker_rules import text_of

WORKING = frozenset(
    {
        "new", "accepted", "pending_new", "accepted_for_bidding", "stopped", "partially_filled", "pending_cancel",
        "pending_replace", "held", "pending_review",
    }
)  # fmt: skip
"""Accepted, and may still be filled."""
NOT_DEAD = frozenset({"suspended", "calculated"})
"""Not traded now, or sums to come: neither is an end."""
ENDED = frozenset({"canceled", "expired", "rejected"})
FILLED, REPLACED, DONE_FOR_DAY = "filled", "replaced", "done_for_day"
KNOWN = WORKING | NOT_DEAD | ENDED | {FILLED, REPLACED, DONE_FOR_DAY}

SOON_S, LATER_S, SELDOM_S = 1.0, 15.0, 60.0
YOUNG_MS, OLD_MS = 10_000, 300_000
"""A market order in an open market is filled within moments; one that is older is asked about less and less often."""


def ask_after_s(order: WireOrder, now_ms: int) -> float:
    """Return the seconds after which an order that is not final is asked about again."""
    if order.status not in WORKING:
        return SELDOM_S
    age_ms = now_ms - (ms_of(order.submitted_at) or now_ms)
    return SOON_S if age_ms < YOUNG_MS else LATER_S if age_ms < OLD_MS else SELDOM_S


def oddity_of(order: WireOrder) -> str | None:
    """Return what of an order does not fit; None where all of it does."""
    if order.status not in KNOWN:
        return f"its status is {order.status[:40]!r}, which is not known"
    if order.status in ENDED and order.filled_qty is None:
        return f"it is {order.status}, and how much was filled cannot be read"
    if order.status in ENDED | {DONE_FOR_DAY} and order.filled_qty and not order.filled_avg_price:
        return (
            f"it is {order.status} with {order.filled_qty} shares filled, and at which price cannot be read"
        )
    if order.status == FILLED and not (order.filled_qty and order.filled_avg_price):
        return "it is filled, and how much at which price cannot be read"
    if order.filled_qty is not None and order.filled_qty < 0:
        return f"{order.filled_qty} shares are filled"
    if order.filled_avg_price is not None and order.filled_avg_price < 0:
        return f"its shares are filled at {order.filled_avg_price} USD"
    return None


def receipt_of(order: WireOrder, now_ms: int) -> Receipt | None:
    """Return what was filled so far, cumulative, at its average price; None for nothing, or where it cannot be read."""
    if not order.filled_qty or order.filled_qty < 0:
        return None
    if order.filled_avg_price is None or order.filled_avg_price <= 0:
        return None
    detail = {"status": order.status, "client_order_id": order.client_order_id}
    if order.commission:
        detail["fee_usd"] = text_of(Decimal(order.commission))
    return Receipt(
        ref=order.id,
        done_qty=order.filled_qty,
        avg_price_usd=order.filled_avg_price,
        settled_ms=order.settled_ms(now_ms),
        detail=detail,
    )


def is_whole(order: WireOrder, now_ms: int) -> bool:
    """Whether all of an order has been filled for minutes, though its status does not say so: after an outage the broker may
    keep one `pending_cancel` for days, and nothing of it is left to be filled.
    """
    if order.status not in WORKING | NOT_DEAD or not order.qty or (order.filled_qty or 0) < order.qty:
        return False
    filled_ms = ms_of(order.filled_at) or ms_of(order.submitted_at)
    return filled_ms is not None and now_ms - filled_ms >= OLD_MS


def outcome_of(order: WireOrder, now_ms: int) -> Outcome[Receipt]:
    """Return what an order has come to. More than was asked for is what was filled. Only what the broker shows as ended with
    nothing filled is Rejected; whatever is not understood is Working.
    """
    so_far = receipt_of(order, now_ms)
    is_final = order.status in ENDED or (
        order.status == DONE_FOR_DAY and order.time_in_force in (None, "day")
    )
    if (order.status == FILLED or is_final or is_whole(order, now_ms)) and so_far is not None:
        return Confirmed(so_far)
    if is_final and order.filled_qty == 0:
        return Rejected(f"order {order.id} is {order.status} with nothing filled", seen=True)
    why = oddity_of(order) or f"it is {order.status}"
    return Working(f"order {order.id}: {why}", ask_after_s(order, now_ms), so_far)
