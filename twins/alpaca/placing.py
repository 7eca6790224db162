"""Which orders Alpaca takes: its refusals with their codes and messages."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from twins.alpaca.records import Account, number

MOST_ID = 48
COLLAR = Decimal("1.025")
"""A market buy is held against buying power at this much above the ask."""


class Refused(Exception):
    """An answer that is no success. `more` stands beside code and message."""

    def __init__(self, status: int, code: int, message: str, more: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.more = status, code, message, more

    @property
    def body(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message} | (self.more or {})


@dataclass(frozen=True)
class Asset:
    symbol: str
    tradable: bool = True
    fractionable: bool = True


@dataclass(frozen=True)
class Wanted:
    """The fields of a request for an order, as they are understood."""

    symbol: str
    side: str
    kind: str
    time_in_force: str
    qty: Decimal | None
    notional: Decimal | None
    limit_price: Decimal | None
    extended_hours: bool
    client_order_id: str | None


def amount(body: dict[str, Any], name: str) -> Decimal | None:
    """A figure of a request, given as text or as a number."""
    given = body.get(name)
    if given is None:
        return None
    try:
        found = Decimal(str(given))
    except InvalidOperation:
        raise Refused(422, 40010001, f"invalid {name}") from None
    if not found.is_finite() or found <= 0:
        raise Refused(422, 40010001, f"{name} must be > 0")
    return found


def places(of: Decimal) -> int:
    exponent = of.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def wanted(body: Any) -> Wanted:
    """Return what a request asks for. Raises Refused."""
    if not isinstance(body, dict):
        raise Refused(400, 40010000, "request body format is invalid")
    symbol, side = body.get("symbol"), body.get("side")
    kind, tif = body.get("type", "market"), body.get("time_in_force")
    if not symbol:
        raise Refused(422, 40010001, "symbol is required")
    if side not in ("buy", "sell"):
        raise Refused(422, 40010001, "invalid side")
    if kind not in ("market", "limit"):
        raise Refused(422, 40010001, f"order type {kind} is not served by this twin")
    if tif not in ("day", "gtc", "ioc", "fok", "opg", "cls"):
        raise Refused(422, 40010001, "time_in_force is required")
    qty, notional = amount(body, "qty"), amount(body, "notional")
    if qty is None and notional is None:
        raise Refused(422, 40010001, "qty is required")
    if qty is not None and notional is not None:
        raise Refused(422, 40010001, "only one of qty or notional is accepted")
    if (qty is not None and places(qty) > 9) or (notional is not None and places(notional) > 2):
        raise Refused(
            422, 42210000, "qty increment must be at most 9 decimals, notional is limited to 2 decimals"
        )
    client_order_id = body.get("client_order_id")
    if client_order_id is not None and (
        not isinstance(client_order_id, str) or len(client_order_id) > MOST_ID
    ):
        raise Refused(422, 40010001, "client_order_id must be no more than 48 characters")
    return Wanted(
        str(symbol),
        str(side),
        str(kind),
        str(tif),
        qty,
        notional,
        amount(body, "limit_price"),
        bool(body.get("extended_hours", False)),
        client_order_id,
    )


def check(account: Account, order: Wanted, asset: Asset | None, bid: Decimal, ask: Decimal) -> None:
    """Raise Refused where the account may not have this order now."""
    if asset is None:
        raise Refused(422, 42210000, f'asset "{order.symbol}" not found')
    if not asset.tradable:
        raise Refused(422, 42210000, f'asset "{order.symbol}" is not tradable')
    is_fraction = order.notional is not None or (order.qty is not None and order.qty % 1 != 0)
    is_crypto = order.symbol == "USDCUSD"
    if is_fraction and not is_crypto:
        if not account.fractional:
            raise Refused(422, 40010001, "qty must be integer")
        if not asset.fractionable:
            raise Refused(422, 40010001, f'requested asset "{order.symbol}" is not fractionable')
        if order.time_in_force != "day":
            raise Refused(422, 42210000, "fractional orders must be DAY orders")
    price = ask if order.side == "buy" else bid
    cost = order.notional if order.notional is not None else (order.qty or Decimal(0)) * price
    if cost < 1:
        raise Refused(403, 40310000, "cost basis must be >= minimal amount of order 1")
    if any(one.symbol == order.symbol and one.side != order.side for one in account.open_orders()):
        raise Refused(422, 42210000, "potential wash trade detected. use complex orders")
    if order.side == "buy":
        _power(account, cost if order.notional is not None or is_crypto else cost * COLLAR)
    else:
        _shares(account, order, is_fraction)


def _power(account: Account, basis: Decimal) -> None:
    power = account.cash * account.multiplier
    if basis > power:
        more = {"buying_power": number(power), "cost_basis": number(basis)}
        raise Refused(403, 40310000, "insufficient buying power", more)


def _shares(account: Account, order: Wanted, is_fraction: bool) -> None:
    available = account.held(order.symbol) - account.reserved(order.symbol)
    asked = order.qty or Decimal(0)
    if order.notional is not None or asked <= available:
        return
    if available > 0 or order.symbol == "USDCUSD":
        said = f"insufficient qty available for order (requested: {number(asked)}, available: {number(available)})"
        more = {"symbol": order.symbol, "existing_qty": number(account.held(order.symbol))}
        raise Refused(403, 40310000, said, more | {"available": number(available)})
    if is_fraction:
        raise Refused(403, 40310000, "fractional orders are not allowed to short")
    if not account.can_short:
        raise Refused(403, 40310000, "account is not allowed to short")
