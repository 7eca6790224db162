"""What an order of shares is judged by, between building and sending, by the bytes that would leave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from evenkeel.errors import VenueRefused
from venues.broker import BrokerCapabilities, HedgeOrder


def order_of(venue: str, order: Mapping[str, Any]) -> HedgeOrder:
    """Return the order that an intent holds. Raises VenueRefused where it is none."""
    try:
        return HedgeOrder.model_validate(order)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the order"
        raise VenueRefused(venue, f"no order of shares: {where}: {first['msg']}") from None


def decimals_of(qty: Decimal) -> int:
    """Return how many decimals a quantity needs."""
    exponent = qty.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def text_of(amount: Decimal) -> str:
    """An amount as brokers take it: no exponent, no zeros at its end."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


@dataclass(frozen=True)
class OrderRules:
    """The symbols of the settings, and shares that one order of each may have at most. Anything else is not sent."""

    most_shares: Mapping[str, Decimal]
    capabilities: BrokerCapabilities
    renamed: Mapping[str, str] = field(default_factory=dict)
    """By our symbol, what the broker calls it where that differs."""

    def judge(self, order: HedgeOrder) -> str | None:
        """Return why an order is not sent; None where it may be."""
        most = self.most_shares.get(order.symbol)
        if most is None:
            return f"{order.symbol} is no symbol of the settings"
        if not order.qty.is_finite() or order.qty > most:
            return f"{order.qty} shares of {order.symbol}, allowed are {most} in one order"
        places = self.capabilities.decimals
        if (needed := decimals_of(order.qty)) > places:
            return f"{order.qty} shares of {order.symbol} have {needed} decimals, the broker takes {places}"
        return None

    def judge_fields(self, order: HedgeOrder, symbol: object, side: object, qty: object) -> str | None:
        """Return how the fields of a payload differ from the order; None where they are the order's."""
        wanted = (self.named(order.symbol), order.side, text_of(order.qty))
        for name, found, right in zip(("symbol", "side", "qty"), (symbol, side, qty), wanted, strict=True):
            if found != right:
                return f"the payload's {name} is {found!r}, the order's {right!r}"
        return None

    def named(self, symbol: str) -> str:
        """Return what the broker calls a symbol."""
        return self.renamed.get(symbol, symbol)
