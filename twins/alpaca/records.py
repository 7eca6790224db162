"""Accounts, orders and positions of the twin, and how Alpaca writes them: amounts as text, stamps with nanoseconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import NAMESPACE_URL, uuid5

OPEN = frozenset({"new", "accepted", "pending_new", "partially_filled", "suspended", "pending_cancel"})


def number(amount: Decimal) -> str:
    """An amount as Alpaca writes it: plain, without zeros at the end."""
    text = f"{amount:f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"


def stamp(at_ms: int | None) -> str | None:
    """A stamp with nanoseconds, UTC."""
    if at_ms is None:
        return None
    whole = datetime.fromtimestamp(at_ms // 1000, tz=UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}{at_ms * 7919 % 1_000_000:06d}Z"


def name_of(what: str) -> str:
    """A UUID that is the same in every run."""
    return str(uuid5(NAMESPACE_URL, f"twin:{what}"))


@dataclass
class Step:
    """What will happen to an order, and when. `share` of what was ordered."""

    at_ms: int
    kind: str
    share: Decimal = Decimal(0)


@dataclass
class Order:
    """One order. `shown`: a status that is shown instead of the true one; `hidden_until_ms`: nobody finds it before."""

    id: str
    account: str
    client_order_id: str
    symbol: str
    side: str
    kind: str
    time_in_force: str
    qty: Decimal | None
    notional: Decimal | None
    limit_price: Decimal | None
    extended_hours: bool
    created_ms: int
    status: str = "pending_new"
    filled_qty: Decimal = Decimal(0)
    cost: Decimal = Decimal(0)
    updated_ms: int = 0
    filled_ms: int | None = None
    canceled_ms: int | None = None
    expired_ms: int | None = None
    failed_ms: int | None = None
    replaced_ms: int | None = None
    replaced_by: str | None = None
    replaces: str | None = None
    shown: str | None = None
    hidden_until_ms: int = 0
    plan: list[Step] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        return self.status in OPEN

    @property
    def average(self) -> Decimal | None:
        return (self.cost / self.filled_qty).quantize(Decimal("1E-12")) if self.filled_qty else None

    @property
    def is_crypto(self) -> bool:
        return self.symbol == "USDCUSD"

    def row(self) -> dict[str, Any]:
        average = self.average
        return {
            "id": self.id,
            "client_order_id": self.client_order_id,
            "created_at": stamp(self.created_ms),
            "updated_at": stamp(self.updated_ms or self.created_ms),
            "submitted_at": stamp(self.created_ms),
            "filled_at": stamp(self.filled_ms),
            "expired_at": stamp(self.expired_ms),
            "canceled_at": stamp(self.canceled_ms),
            "failed_at": stamp(self.failed_ms),
            "replaced_at": stamp(self.replaced_ms),
            "replaced_by": self.replaced_by,
            "replaces": self.replaces,
            "asset_id": name_of(f"asset:{self.symbol}"),
            "symbol": self.symbol,
            "asset_class": "crypto" if self.is_crypto else "us_equity",
            "notional": None if self.notional is None else number(self.notional),
            "qty": None if self.qty is None else number(self.qty),
            "filled_qty": number(self.filled_qty),
            "filled_avg_price": None if average is None else number(average),
            "order_class": "",
            "order_type": self.kind,
            "type": self.kind,
            "side": self.side,
            "time_in_force": self.time_in_force,
            "limit_price": None if self.limit_price is None else number(self.limit_price),
            "stop_price": None,
            "status": self.shown or self.status,
            "extended_hours": self.extended_hours,
            "legs": None,
            "trail_percent": None,
            "trail_price": None,
            "hwm": None,
            "commission": "0",
            "subtag": None,
            "source": None,
        }


@dataclass
class Held:
    """Shares of a symbol, short below zero, and what they cost."""

    qty: Decimal = Decimal(0)
    cost: Decimal = Decimal(0)

    def trade(self, qty: Decimal, price: Decimal) -> None:
        """Add signed shares at a price; what reduces the position takes its average cost away."""
        if self.qty and (self.qty > 0) != (qty > 0):
            closing = min(abs(qty), abs(self.qty))
            self.cost -= self.cost * closing / abs(self.qty)
            self.qty += closing if qty > 0 else -closing
            qty = qty - closing if qty > 0 else qty + closing
        self.qty += qty
        self.cost += qty * price


@dataclass
class Account:
    """One brokerage account. `multiplier` of its cash is its buying power."""

    id: str
    number: str
    cash: Decimal
    multiplier: int = 2
    can_short: bool = False
    fractional: bool = True
    positions: dict[str, Held] = field(default_factory=dict)
    orders: list[Order] = field(default_factory=list)
    by_client_id: dict[str, Order] = field(default_factory=dict)
    _live: list[Order] = field(default_factory=list)
    fills: list[dict[str, Any]] = field(default_factory=list)
    flows: list[dict[str, Any]] = field(default_factory=list)
    """Every movement of cash or shares that no order made, with what moved it."""

    def add(self, order: Order) -> None:
        """Note a new order."""
        self.orders.append(order)
        self.by_client_id[order.client_order_id] = order
        self._live.append(order)

    def open_orders(self) -> list[Order]:
        """The orders that are not final."""
        self._live = [one for one in self._live if one.is_open]
        return self._live

    def held(self, symbol: str) -> Decimal:
        found = self.positions.get(symbol)
        return found.qty if found else Decimal(0)

    def reserved(self, symbol: str) -> Decimal:
        """Shares that open sells have not sold yet."""
        sells = (one for one in self.open_orders() if one.side == "sell" and one.symbol == symbol)
        return sum(((one.qty or Decimal(0)) - one.filled_qty for one in sells), Decimal(0))

    def move(self, symbol: str, qty: Decimal, price: Decimal) -> None:
        """Add shares at a price without touching cash; a position of nothing is none."""
        held = self.positions.setdefault(symbol, Held())
        held.trade(qty, price)
        if not held.qty:
            del self.positions[symbol]

    def row(self, worth: Decimal, short: Decimal, *, is_broker: bool, last_close: str) -> dict[str, Any]:
        """The account as the Trading interface shows it; the Broker's trade account has ten fields more."""
        equity = self.cash + worth + short
        power = max(self.cash * self.multiplier, Decimal(0))
        found: dict[str, Any] = {
            "id": self.id,
            "account_number": self.number,
            "status": "ACTIVE",
            "crypto_status": "ACTIVE",
            "currency": "USD",
            "cash": number(self.cash),
            "buying_power": number(power),
            "regt_buying_power": number(power),
            "non_marginable_buying_power": number(max(self.cash, Decimal(0))),
            "accrued_fees": "0",
            "pending_transfer_out": "0",
            "pending_transfer_in": "0",
            "portfolio_value": number(equity),
            "equity": number(equity),
            "last_equity": number(equity),
            "long_market_value": number(worth),
            "short_market_value": number(short),
            "initial_margin": "0",
            "maintenance_margin": "0",
            "last_maintenance_margin": "0",
            "sma": "0",
            "multiplier": str(self.multiplier),
            "shorting_enabled": self.can_short,
            "trading_blocked": False,
            "transfers_blocked": False,
            "account_blocked": False,
            "trade_suspended_by_user": False,
            "created_at": "2024-04-14T15:51:14.523349Z",
        }
        if is_broker:
            found |= {
                "cash_withdrawable": number(self.cash),
                "cash_transferable": number(self.cash),
                "previous_close": last_close,
                "last_long_market_value": number(worth),
                "last_short_market_value": number(short),
                "last_cash": number(self.cash),
                "last_initial_margin": "0",
                "last_regt_buying_power": number(power),
                "last_buying_power": number(power),
                "clearing_broker": "ALPACA_APCA",
            }
        return found
