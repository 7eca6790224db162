"""A stop from the request to the wire: a trigger order that only reduces, placed or put in another's place; and its judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pydantic import Field

from evenkeel.types import Frozen
from venues.hyperliquid.approval import Approved, Refused
from venues.hyperliquid.rounding import is_valid_price, round_price, wire
from venues.hyperliquid.validator import HyperliquidValidator, _cloid, _keys, _need, _number
from venues.perp import AssetSpec

MOST_SLIPPAGE = Decimal("0.5")


class StopOrder(Frozen):
    """What the intent of a stop asks for. `is_buy`: the side that closes. `replaces`: the venue's number of the stop in whose
    place it goes; None where there is none. `was`: where that one stood, which the new one must not be looser than.
    """

    account: str
    generation: int = Field(ge=1)
    """Of the agent's key: an address that was revoked is never used again."""
    coin: str
    is_buy: bool
    size: Decimal = Field(gt=0)
    stop: Decimal = Field(gt=0)
    slippage: Decimal = Field(gt=0, le=MOST_SLIPPAGE)
    replaces: int | None = None
    was: Decimal | None = None


class StopKey(Frozen):
    """What is stored before sending: enough to send the same bytes again and to ask what became of them."""

    account: str
    coin: str
    cloid: str
    nonce: int
    expires_after: int
    payload: str
    signer: str
    built_at_ms: int
    stop: Decimal
    size: Decimal
    replaces: int | None = None


@dataclass(frozen=True, slots=True)
class StopReading:
    """What the venue showed when the stop was built."""

    coin: str
    asset: int
    sz_decimals: int
    mark_px: Decimal
    szi: Decimal
    seen_ms: int


def on_tick(stop: Decimal, *, is_buy: bool, sz_decimals: int) -> Decimal:
    """Return the stop on the venue's tick, rounded towards the market: a stop that sells up, one that buys down."""
    return round_price(stop, sz_decimals, up=not is_buy)


def worst_price(stop: Decimal, slippage: Decimal, *, is_buy: bool, sz_decimals: int) -> Decimal:
    """Return the worst price at which the order that a stop becomes may fill. It lies beyond the trigger, never before it: the
    venue refuses that as an invalid price.
    """
    return round_price(stop * (1 + slippage if is_buy else 1 - slippage), sz_decimals, up=not is_buy)


def stop_action(
    asset: AssetSpec, order: StopOrder, size: Decimal, limit_px: Decimal, cloid: str
) -> dict[str, Any]:
    """Return the action to be signed: a placing, or a change of the one that it replaces. The order of keys is hashed, and no
    number has a trailing zero.
    """
    one = {
        "a": asset.index,
        "b": order.is_buy,
        "p": wire(limit_px),
        "s": wire(size),
        "r": True,
        "t": {"trigger": {"isMarket": True, "triggerPx": wire(order.stop), "tpsl": "sl"}},
        "c": cloid,
    }
    if order.replaces is not None:
        return {"type": "batchModify", "modifies": [{"oid": order.replaces, "order": one}]}
    return {"type": "order", "orders": [one], "grouping": "na"}


def with_cloid(action: Mapping[str, Any], cloid: str) -> dict[str, Any]:
    """Return the action with the client order id in its place."""
    if action["type"] == "batchModify":
        return {
            **action,
            "modifies": [{**one, "order": {**one["order"], "c": cloid}} for one in action["modifies"]],
        }
    return {**action, "orders": [{**one, "c": cloid} for one in action["orders"]]}


class StopValidator(HyperliquidValidator):
    """Judges stops beside what its base judges: nothing that opens, nothing that is looser than what stands."""

    def judge_stop(
        self,
        action: Mapping[str, Any],
        *,
        nonce: int,
        expires_after: int | None,
        now_ms: int,
        order: StopOrder,
        reading: StopReading,
        vault_address: str | None = None,
    ) -> Approved | Refused:
        """Return the verdict on one stop that is placed, or put in the place of the one that the request names."""

        def rules() -> str:
            kind = "order" if order.replaces is None else "batchModify"
            self._envelope(action, (kind,), nonce, expires_after, now_ms, vault_address)
            _need("builder" not in action, "builder", "it pays a builder; we pay none")
            _keys(action, ("type", "orders", "grouping") if kind == "order" else ("type", "modifies"))
            many = action["orders" if kind == "order" else "modifies"]
            _need(
                isinstance(many, list) and len(many) == 1, "one order", "it does not hold exactly one order"
            )
            one = many[0]
            if kind == "order":
                _need(
                    action["grouping"] == "na",
                    "grouping",
                    f"grouping is {action['grouping']!r}, only 'na' is",
                )
            else:
                _keys(one, ("oid", "order"))
                same = type(one["oid"]) is int and one["oid"] == order.replaces
                _need(same, "order id", f"it changes order {one['oid']!r}, asked for was {order.replaces}")
                one = one["order"]
            return self._stop(one, order, reading, now_ms)

        return self._verdict(rules, action, nonce, expires_after)

    def _stop(self, one: Any, order: StopOrder, reading: StopReading, now_ms: int) -> str:
        _need(
            order.account == self.rules.account,
            "account",
            f"it is of {order.account}, we sign for {self.rules.account}",
        )
        _keys(one, ("a", "b", "p", "s", "r", "t", "c"))
        self._asset(one["a"], {reading.asset: reading.coin})
        _cloid(one["c"])
        _need(one["r"] is True, "reduce-only", "a stop that is not reduce-only could open a position")
        _keys(one["t"], ("trigger",))
        trigger = one["t"]["trigger"]
        _keys(trigger, ("isMarket", "triggerPx", "tpsl"))
        is_stop = trigger["isMarket"] is True and trigger["tpsl"] == "sl"
        _need(is_stop, "stop", f"it is {trigger!r}, only a stop at the market is placed")
        is_buy = one["b"]
        _need(type(is_buy) is bool and is_buy == order.is_buy, "side", "its side is not the one asked for")
        opposite = reading.szi < 0 if is_buy else reading.szi > 0
        _need(opposite, "reduce-only", f"the position is {reading.szi}: nothing to reduce on that side")
        size, limit, stop = (
            _number(one["s"], "size"),
            _number(one["p"], "price"),
            _number(trigger["triggerPx"], "trigger"),
        )
        _need(
            0 < size <= abs(reading.szi),
            "size",
            f"{size} is not above 0 and at most the position {reading.szi}",
        )
        _need(
            size % Decimal(1).scaleb(-reading.sz_decimals) == 0, "size", f"{size} is no multiple of the lot"
        )
        _need(stop == order.stop, "trigger", f"it triggers at {stop}, asked for was {order.stop}")
        for what, price in (("trigger", stop), ("price", limit)):
            _need(is_valid_price(price, reading.sz_decimals), what, f"{price} is not on a tick")
        age = now_ms - reading.seen_ms
        _need(
            0 <= age <= self.rules.max_reading_age_ms,
            "fresh reading",
            f"its prices are {age} ms old",
            again=True,
        )
        beyond = stop > reading.mark_px if is_buy else stop < reading.mark_px
        _need(beyond, "trigger", f"{stop} is passed already: the mark is {reading.mark_px}")
        kept = order.was is None or (stop <= order.was if is_buy else stop >= order.was)
        _need(kept, "never loosened", f"{stop} protects less than {order.was}, which stands")
        worst = stop * (1 + order.slippage if is_buy else 1 - order.slippage)
        within = stop <= limit <= worst if is_buy else worst <= limit <= stop
        _need(within, "slippage cap", f"limit {limit} is not between {stop} and {worst:f}")
        place = "instead of " + str(order.replaces) if order.replaces is not None else "new"
        return f"stop of {size} {reading.coin} at {stop}, limit {limit}, mark {reading.mark_px}, {place}"
