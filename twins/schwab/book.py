"""Orders of one account: a walk of statuses on the world's clock, fills at bid and ask, cash and shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from twins.faults import FaultPlan
from twins.schwab.market import Market, day_of, next_open_ms

WALK = ("AWAITING_RELEASE_TIME", "QUEUED", "WORKING", "FILLED")
OVER = ("FILLED", "CANCELED", "REJECTED", "EXPIRED", "REPLACED")
INSTRUCTIONS = ("BUY", "SELL")


class BadOrder(ValueError):
    """An order that is refused with HTTP 400."""


@dataclass
class Order:
    """`steps` are the statuses to come, each with when; `limit` is how much of it is filled at most (None: all)."""

    order_id: int
    symbol: str
    instruction: str
    quantity: Decimal
    entered_ms: int
    account: str
    status: str
    steps: list[tuple[int, str]] = field(default_factory=list)
    limit: Decimal | None = None
    words: str = ""
    filled: Decimal = Decimal(0)
    closed_ms: int | None = None
    executions: list[tuple[Decimal, Decimal, int]] = field(default_factory=list)
    replaced_by: int | None = None
    shown_as: str = ""

    def body(self, account_number: str) -> dict[str, Any]:
        """The order as the interface shows it. Times come in both of its forms, by the parity of the id."""
        leg = {
            "orderLegType": "EQUITY",
            "legId": 1,
            "instrument": {"assetType": "EQUITY", "cusip": "0", "symbol": self.symbol},
            "instruction": self.instruction,
            "positionEffect": "OPENING" if self.instruction == "BUY" else "CLOSING",
            "quantity": float(self.quantity),
        }
        found: dict[str, Any] = {
            "session": "NORMAL",
            "duration": "DAY",
            "orderType": "MARKET",
            "complexOrderStrategyType": "NONE",
            "quantity": float(self.quantity),
            "filledQuantity": float(self.filled),
            "remainingQuantity": float(0 if self.status in OVER else self.quantity - self.filled),
            "orderLegCollection": [leg],
            "orderStrategyType": "SINGLE",
            "orderId": self.order_id,
            "cancelable": self.status not in OVER,
            "editable": False,
            "status": self.shown_as or self.status,
            "enteredTime": self._stamp(self.entered_ms),
            "accountId": int(account_number),
        }
        if self.words:
            found["statusDescription"] = self.words
        if self.closed_ms is not None:
            found["closeTime"] = self._stamp(self.closed_ms)
        if self.executions:
            found["orderActivityCollection"] = [self._activity(*one) for one in self.executions]
        if self.replaced_by is not None:
            found["replacingOrderCollection"] = [{"orderId": self.replaced_by}]
        return found

    def _activity(self, quantity: Decimal, price: Decimal, at_ms: int) -> dict[str, Any]:
        leg = {
            "legId": 1,
            "quantity": float(quantity),
            "mismarkedQuantity": 0.0,
            "price": float(price),
            "time": self._stamp(at_ms),
        }
        return {
            "activityType": "EXECUTION",
            "executionType": "FILL",
            "quantity": float(quantity),
            "orderRemainingQuantity": float(self.quantity - self.filled),
            "executionLegs": [leg],
        }

    def _stamp(self, ms: int) -> str:
        text = datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return text + ("Z" if self.order_id % 2 else "+0000")


@dataclass
class Book:
    """One account. `walk_ms` is how long an order stays in each status before it is filled; 0: filled as it is placed."""

    market: Market
    now_ms: Callable[[], int]
    faults: FaultPlan
    number: str = "123456789"
    hash_value: str = "A1B2C3D4E5F60718"
    cash: Decimal = Decimal(100_000)
    shares: dict[str, Decimal] = field(default_factory=dict)
    walk_ms: int = 500
    orders: dict[int, Order] = field(default_factory=dict)
    next_id: int = 1_004_055_538_123

    def place(self, body: Any) -> Order:
        """Take an order. Raises BadOrder for what the interface refuses at once."""
        self.catch_up()
        symbol, instruction, quantity = _market_order(body)
        if self.market.quote(symbol, self.now_ms()) is None:
            raise BadOrder(f"Symbol {symbol} is not valid")
        order = self._entered(symbol, instruction, quantity)
        self._plan(order)
        self.catch_up()
        return order

    def _entered(self, symbol: str, instruction: str, quantity: Decimal) -> Order:
        now_ms = self.now_ms()
        order = Order(self.next_id, symbol, instruction, quantity, now_ms, self.hash_value, WALK[0])
        self.orders[order.order_id] = order
        self.next_id += 1
        return order

    def _plan(self, order: Order) -> None:
        """What is to become of an order: its faults, else the walk, from the next open on."""
        now_ms = self.now_ms()
        begins_ms = next_open_ms(self.market, now_ms)
        if begins_ms > now_ms:
            order.status = "PENDING_ACTIVATION"
        order.steps = [(begins_ms + n * self.walk_ms, status) for n, status in enumerate(WALK)]
        if fault := self.faults.take("schwab", "reject"):
            order.words = str(fault.args.get("words", "This order was rejected by the exchange."))
            order.steps = [(begins_ms + self.walk_ms, "REJECTED")]
        elif fault := self.faults.take("schwab", "partial_cancel"):
            order.limit = (
                order.quantity * Decimal(str(fault.args.get("fraction", "0.5")))
            ).to_integral_value()
            order.steps += [(begins_ms + 4 * self.walk_ms, "CANCELED")]
        elif self.faults.take("schwab", "hold"):
            hours = self.market.hours(day_of(begins_ms))
            assert hours is not None
            order.steps = [*order.steps[:3], (hours[1], "EXPIRED")]
        if fault := self.faults.take("schwab", "status"):
            order.shown_as = str(fault.args["word"])

    def catch_up(self) -> None:
        """Let happen what is due."""
        now_ms = self.now_ms()
        for order in list(self.orders.values()):
            while order.steps and order.steps[0][0] <= now_ms:
                due_ms, status = order.steps.pop(0)
                self._step(order, status, due_ms)

    def _step(self, order: Order, status: str, due_ms: int) -> None:
        if order.status in OVER:
            order.steps.clear()
        elif status == "FILLED":
            self._fill(order, due_ms)
        else:
            order.status = status
            if status in OVER:
                order.closed_ms = due_ms

    def _fill(self, order: Order, at_ms: int) -> None:
        quote = self.market.quote(order.symbol, at_ms)
        assert quote is not None
        price = quote[1] if order.instruction == "BUY" else quote[0]
        quantity = (order.quantity if order.limit is None else order.limit) - order.filled
        if order.instruction == "BUY" and quantity * price > self.cash:
            self._end(order, "REJECTED", at_ms, "You do not have enough available cash/buying power")
        elif order.instruction == "SELL" and quantity > self.shares.get(order.symbol, Decimal(0)):
            self._end(order, "REJECTED", at_ms, "You do not have enough shares")
        else:
            self.execute(order, quantity, price, at_ms)
            if order.filled == order.quantity:
                self._end(order, "FILLED", at_ms)

    def execute(self, order: Order, quantity: Decimal, price: Decimal, at_ms: int) -> None:
        """Fill a part of an order at a price."""
        if quantity <= 0:
            return
        sign = 1 if order.instruction == "BUY" else -1
        order.filled += quantity
        order.executions.append((quantity, price, at_ms))
        self.cash -= sign * quantity * price
        self.shares[order.symbol] = self.shares.get(order.symbol, Decimal(0)) + sign * quantity

    @staticmethod
    def _end(order: Order, status: str, at_ms: int, words: str = "") -> None:
        order.status, order.closed_ms, order.words = status, at_ms, words or order.words
        order.steps.clear()

    def cancel(self, order_id: int) -> Order | None:
        """Cancel an open order, as a person does; None where there is none."""
        self.catch_up()
        order = self.orders.get(order_id)
        if order is None or order.status in OVER:
            return None
        self._end(order, "CANCELED", self.now_ms())
        return order

    def replace(self, order_id: int, quantity: Decimal, *, named: bool = True) -> Order:
        """Put another order in the place of an open one, as a person does; the first keeps what it has filled.

        `named`: the first one says which took its place. Raises KeyError where there is no such open order.
        """
        self.catch_up()
        order = self.orders[order_id]
        if order.status in OVER:
            raise KeyError(order_id)
        following = self._entered(order.symbol, order.instruction, quantity)
        self._end(order, "REPLACED", self.now_ms())
        order.replaced_by = following.order_id if named else None
        self._plan(following)
        self.catch_up()
        return following

    def fill(self, order_id: int, quantity: Decimal) -> Order:
        """Fill a part of an open order now, at the market. Raises KeyError where there is none."""
        self.catch_up()
        order, now_ms = self.orders[order_id], self.now_ms()
        quote = self.market.quote(order.symbol, now_ms)
        if order.status in OVER or quote is None:
            raise KeyError(order_id)
        self.execute(order, quantity, quote[1] if order.instruction == "BUY" else quote[0], now_ms)
        if order.filled >= order.quantity:
            self._end(order, "FILLED", now_ms)
        return order

    def foreign(self, symbol: str, instruction: str, quantity: Decimal) -> Order:
        """Enter an order of somebody else who has this account, a person at the website."""
        return self.place(
            {
                "orderType": "MARKET",
                "session": "NORMAL",
                "duration": "DAY",
                "orderStrategyType": "SINGLE",
                "orderLegCollection": [
                    {
                        "instruction": instruction,
                        "quantity": float(quantity),
                        "instrument": {"symbol": symbol, "assetType": "EQUITY"},
                    }
                ],
            }
        )

    def account_body(self, positions: bool) -> dict[str, Any]:
        self.catch_up()
        now_ms = self.now_ms()
        value = self.cash
        rows = []
        for symbol, shares in sorted(self.shares.items()):
            if shares:
                quote = self.market.quote(symbol, now_ms)
                worth = shares * (quote[0] if quote else 0)
                value += worth
                rows.append(
                    {
                        "shortQuantity": float(max(-shares, Decimal(0))),
                        "longQuantity": float(max(shares, Decimal(0))),
                        "settledLongQuantity": float(max(shares, Decimal(0))),
                        "instrument": {"assetType": "EQUITY", "cusip": "0", "symbol": symbol},
                        "marketValue": float(worth),
                    }
                )
        account: dict[str, Any] = {
            "type": "MARGIN",
            "accountNumber": self.number,
            "roundTrips": 0,
            "isDayTrader": False,
            "isClosingOnlyRestricted": False,
            "currentBalances": {
                "cashBalance": float(self.cash),
                "buyingPower": float(self.cash * 2),
                "liquidationValue": float(value),
            },
        }
        if positions:
            account["positions"] = rows
        return {"securitiesAccount": account, "aggregatedBalance": {"liquidationValue": float(value)}}


def _market_order(body: Any) -> tuple[str, str, Decimal]:
    """Return symbol, instruction and quantity. Raises BadOrder."""
    try:
        (leg,) = body["orderLegCollection"]
        instrument, instruction = leg["instrument"], leg["instruction"]
        quantity = Decimal(str(leg["quantity"]))
        symbol = str(instrument["symbol"])
        kinds = [body[name] for name in ("orderType", "session", "duration", "orderStrategyType")]
    except (KeyError, TypeError, ValueError, ArithmeticError):
        raise BadOrder("The request body could not be read") from None
    if kinds != ["MARKET", "NORMAL", "DAY", "SINGLE"] or instrument.get("assetType") != "EQUITY":
        raise BadOrder(f"this twin takes market orders of equities for the day, not {kinds}")
    if instruction not in INSTRUCTIONS:
        raise BadOrder(f"instruction {instruction} is not taken here")
    if quantity <= 0 or quantity != quantity.to_integral_value():
        raise BadOrder("Quantity must be a whole number greater than zero")
    return symbol, instruction, quantity
