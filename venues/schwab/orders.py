"""An order on its way out, the key that finds it again, and what one of Schwab's orders says of itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal

from evenkeel.errors import NotUnderstood
from evenkeel.types import Confirmed, Frozen, Outcome, Receipt, Rejected, Working
from venues.broker import HedgeOrder
from venues.broker_rules import OrderRules, text_of
from venues.schwab import models as m
from venues.schwab.models import VENUE

ASK_AT_WORK_S, ASK_WAITING_S = 5.0, 30.0
"""Between two questions about an order that the market has, and about one that waits for something."""
WHOLE_AFTER_MS = 300_000
"""An order of which all has been filled for so long is over, whatever its status is."""
LISTED_LATE_MS = 60_000
"""For so long after its end an order may lack executions that it counts as filled."""
_FIXED = {"orderType": "MARKET", "session": "NORMAL", "duration": "DAY", "orderStrategyType": "SINGLE"}
_SHAPES = (
    {*_FIXED, "orderLegCollection"},
    {"instruction", "quantity", "instrument"},
    {"symbol", "assetType"},
)


class OrderKey(Frozen):
    """What finds an order again, stored before it leaves: Schwab takes no id of ours. `client_order_id` is ours alone, one
    for each attempt. An order that was entered outside [from, until], in the venue's ms UTC, is another one. `mark`: of the
    account's number, by which it is known under another hash.
    """

    client_order_id: str
    account: str
    mark: str = ""
    symbol: str
    side: str
    qty: Decimal
    from_ms: int
    until_ms: int

    @property
    def instruction(self) -> str:
        return self.side.upper()


def body_of(order: HedgeOrder, symbol: str) -> str:
    """Return the body of a market order for the day, of what the broker calls the symbol. `order.qty` is whole."""
    leg = {
        "instruction": order.side.upper(),
        "quantity": int(order.qty),
        "instrument": {"symbol": symbol, "assetType": "EQUITY"},
    }
    return json.dumps({**_FIXED, "orderLegCollection": [leg]}, separators=(",", ":"))


def judge(body: str, order: HedgeOrder, rules: OrderRules) -> str | None:
    """Return why this body does not leave; None where it does: it orders what the intent asks for, and the rules allow that."""
    if why := rules.judge(order):
        return why
    if order.qty < 1:
        return f"{order.qty} shares of {order.symbol} are none"
    try:
        found = json.loads(body)
        (leg,) = found["orderLegCollection"]
        shapes = (set(found), set(leg), set(leg["instrument"]))
        if shapes != _SHAPES or any(found[name] != value for name, value in _FIXED.items()):
            return "it is no market order for the day"
        symbol, side, quantity = leg["instrument"]["symbol"], leg["instruction"].lower(), leg["quantity"]
        if type(quantity) is not int or leg["instrument"]["assetType"] != "EQUITY":
            return "it is no order of whole shares"
    except (ValueError, KeyError, TypeError, AttributeError):
        return "it is no order of ours"
    return rules.judge_fields(order, symbol, side, str(quantity))


def is_of(order: m.WireOrder, key: OrderKey) -> bool:
    """Whether an order is what the key describes: its symbol, side and quantity, entered within its window.

    Raises NotUnderstood where its time cannot be read.
    """
    if len(order.orderLegCollection) != 1:
        return False
    (leg,) = order.orderLegCollection
    if (leg.instrument.symbol, leg.instruction, leg.quantity) != (key.symbol, key.instruction, key.qty):
        return False
    # The venue cuts its stamps to the second.
    entered_ms = m.moment_ms(order.enteredTime, f"enteredTime of order {order.ref}")
    return key.from_ms - 999 <= entered_ms <= key.until_ms


@dataclass(frozen=True)
class Done:
    """What orders have done so far: shares filled, and what was paid for those whose executions are listed."""

    filled: Decimal = Decimal(0)
    listed: Decimal = Decimal(0)
    paid_usd: Decimal = Decimal(0)
    last_ms: int = 0

    def with_order(self, order: m.WireOrder) -> Done:
        """Add an order. Raises NotUnderstood where it does not say how much was filled."""
        if order.filledQuantity is None:
            raise NotUnderstood(VENUE, f"order {order.ref} ({order.status}) does not say what was filled")
        if order.filledQuantity < 0 or any(leg.quantity < 0 or leg.price <= 0 for leg in order.executions):
            raise NotUnderstood(VENUE, f"order {order.ref} has executions below zero, or for nothing")
        times = [m.moment_ms(one.time, "an execution's time") for one in order.executions if one.time]
        return Done(
            self.filled + order.filledQuantity,
            self.listed + sum((leg.quantity for leg in order.executions), Decimal(0)),
            self.paid_usd + sum((leg.quantity * leg.price for leg in order.executions), Decimal(0)),
            max([self.last_ms, *times]),
        )

    def receipt(self, key: OrderKey, orders: list[m.WireOrder], shares: Decimal, now_ms: int) -> Receipt:
        """What was done, under the first order's id: `usd` of the detail is what was paid, exactly, for `listed` shares."""
        detail = {
            "status": orders[-1].status,
            "orders": [one.ref for one in orders],
            "usd": text_of(self.paid_usd),
            "listed": text_of(self.listed),
        }
        return Receipt(
            ref=orders[0].ref,
            done_qty=Decimal(text_of(shares)),  # 4.0 and 4 are one amount, and one text
            avg_price_usd=self.paid_usd / self.listed if self.listed else None,
            settled_ms=self.last_ms or now_ms,
            detail=detail,
        )


def outcome_of(key: OrderKey, orders: list[m.WireOrder], now_ms: int) -> tuple[Outcome[Receipt], list[str]]:
    """Return what the last of these orders says (each but the first took the place of the one before), and what is odd.

    Not for one that was replaced, whose end is the next one's. Raises NotUnderstood where it does not say what was filled.
    """
    done = Done()
    for one in orders:
        done = done.with_order(one)
    last, odd = orders[-1], list[str]()
    if last.status not in m.STATUSES:
        odd.append(f"status {last.status}")
    is_over = last.status == m.FILLED or last.status in m.ENDED or _is_whole(key, orders, done, now_ms)
    late = done.filled != done.listed
    if not is_over or (late and now_ms < _ended_ms(last, now_ms) + LISTED_LATE_MS):
        # What is counted as filled and not listed has no price yet: it is booked once it has one.
        shares = min(done.filled, done.listed)
        so_far = done.receipt(key, orders, shares, now_ms)
        words = f"order {last.ref} is {last.status}" + (", not all executions are listed" if late else "")
        waits = last.status in m.WAITING or last.status == m.NOT_SAID
        return Working(words, ASK_WAITING_S if waits else ASK_AT_WORK_S, so_far), odd
    if done.listed > done.filled or (last.status == m.FILLED and done.filled == 0):
        words = f"{done.filled} shares filled and executions of {done.listed}"
        raise NotUnderstood(VENUE, f"order {last.ref} is {last.status}, with {words}")
    if late:
        odd.append(f"{done.filled} shares filled, executions of {done.listed}")
    if done.filled == 0:
        why = f": {last.statusDescription}" if last.statusDescription else ""
        return Rejected(f"order {last.ref} is {last.status}, nothing was filled{why}"[:300], seen=True), odd
    return Confirmed(done.receipt(key, orders, done.filled, now_ms)), odd


def _is_whole(key: OrderKey, orders: list[m.WireOrder], done: Done, now_ms: int) -> bool:
    """Whether all that was asked for has been filled for minutes, by executions that are listed, under a status that is known
    and says something else. Not for what was replaced, which may be of another size.
    """
    if len(orders) > 1 or orders[0].status not in m.STATUSES or done.filled < key.qty or not done.last_ms:
        return False
    return done.filled == done.listed and now_ms - done.last_ms >= WHOLE_AFTER_MS


def _ended_ms(order: m.WireOrder, now_ms: int) -> int:
    """When it ended; where it does not say so, when it was entered."""
    at = order.closeTime or order.enteredTime
    return m.moment_ms(at, f"the end of order {order.ref}") if at else now_ms - LISTED_LATE_MS
