"""What an order does in its own transaction, without a keeper: limit and stop orders placed and withdrawn, collateral added.

An order that waits for its price has no number of its own: (trader, market, slot) names it until it is executed or withdrawn,
and is another's then. What executes one is a keeper's word like any other (`venues.ostium.settlement`), which names the slot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from evenkeel.errors import NotUnderstood
from venues.evm.answers import Log
from venues.ostium.contracts import (
    LEVERAGE_PLACES,
    LIMIT_CANCELED,
    LIMIT_PLACED,
    TOPPED_UP,
    TRANSFER,
    USDC_PLACES,
    OrderType,
    scaled,
)
from venues.ostium.settlement import Settled, Trade

MOVING = {one.topic: one for one in (LIMIT_PLACED, LIMIT_CANCELED, TOPPED_UP)}
_OUT = (Settled.PLACED, Settled.TOPPED_UP)


@dataclass(frozen=True, slots=True)
class Move:
    """`usdc` left the wallet, or came back where `kind` is withdrawn. `slot`: of an order that waits, with `trade` and `type`
    where it was placed; `trade_id` and `leverage`: of a trade that got more collateral.
    """

    kind: Settled
    trader: str
    pair: int
    usdc: Decimal
    transaction: str
    block: int
    block_hash: str
    log_index: int
    slot: int | None = None
    trade: Trade | None = None
    type: int | None = None
    trade_id: int | None = None
    leverage: Decimal | None = None

    @property
    def name(self) -> str:
        """What the books know it by in place of an order's number: its transaction, and the log within the block."""
        return f"{self.transaction}/{self.log_index}"

    def wire(self, at_ms: int) -> dict[str, Any]:
        """Return it as books take it (`venues.ostium.settlement.settled_of`), JSON-able. `price`: the trigger of an order that
        was placed; `moved`: what it makes of the trade.
        """
        moved: dict[str, Any] | None = None
        if self.kind is Settled.PLACED:
            moved = {"place": self.slot, "usdc": str(self.usdc)}
        elif self.kind is Settled.TOPPED_UP:
            moved = {"usdc": str(self.usdc), "leverage": str(self.leverage)}
        return {
            "order_id": self.name,
            "kind": self.kind.value,
            "block": self.block,
            "block_hash": self.block_hash,
            "transaction": self.transaction,
            "log_index": self.log_index,
            "at_ms": at_ms,
            "why": "" if self.type not in tuple(OrderType) else OrderType(self.type).name.lower(),
            "price": None if self.trade is None else str(self.trade.open_price),
            "share": None,
            "paid_usdc": str(-self.usdc if self.kind in _OUT else self.usdc),
            "fee_usdc": "0",
            "opened": None,
            "moved": moved,
        }


def moves_of(logs: Sequence[Log], trading: str, storage: str, usdc: str, trader: str) -> list[Move]:
    """Return what one transaction did for a trader, in order of its logs, which must be all that it has. Raises NotUnderstood
    where the money of several cannot be divided beyond doubt.
    """
    found = []
    for log in logs:
        event = MOVING.get(log.topics[0]) if log.address == trading and log.topics else None
        if event is None:
            continue
        said = event.read(log)
        if said["trader"] == trader:
            found.append(_move(log, said))
    out = [
        _usdc(one) for one in _transfers(logs, usdc) if (one["sender"], one["receiver"]) == (trader, storage)
    ]
    back = [
        _usdc(one) for one in _transfers(logs, usdc) if (one["sender"], one["receiver"]) == (storage, trader)
    ]
    return [_with_money(one, found, out if one.kind in _OUT else back) for one in found]


def _move(log: Log, said: dict[str, Any]) -> Move:
    common: dict[str, Any] = {
        "trader": said["trader"],
        "pair": said["pairIndex"],
        "transaction": log.transaction,
        "block": log.block,
        "block_hash": log.block_hash,
        "log_index": log.index,
    }
    if log.topics[0] == LIMIT_CANCELED.topic:
        return Move(Settled.WITHDRAWN, usdc=Decimal(0), slot=said["index"], **common)
    if log.topics[0] == TOPPED_UP.topic:
        return Move(
            Settled.TOPPED_UP,
            usdc=scaled(said["topUpAmount"], USDC_PLACES),
            trade_id=said["tradeId"],
            leverage=scaled(said["newLeverage"], LEVERAGE_PLACES),
            **common,
        )
    trade = Trade.of(said["trade"])
    return Move(
        Settled.PLACED,
        usdc=trade.collateral,
        slot=said["index"],
        trade=trade,
        type=int(said["orderType"]),
        **common,
    )


def _with_money(move: Move, all_moves: Sequence[Move], moved: Sequence[Decimal]) -> Move:
    """Return a move with what was transferred for it: all that went this way where it is the only one that does, else what it
    says of itself, if a transfer of just that amount is there.
    """
    alone = sum((one.kind in _OUT) == (move.kind in _OUT) for one in all_moves) == 1
    if not alone and (move.kind not in _OUT or move.usdc not in moved):
        raise NotUnderstood(
            "ostium",
            f"one transaction does several things for {move.trader}, and what was paid for which is not said",
        )
    usdc = sum(moved, Decimal(0)) if alone else move.usdc
    names = [name for name in move.__slots__ if name != "usdc"]
    return Move(usdc=usdc, **{name: getattr(move, name) for name in names})


def _transfers(logs: Sequence[Log], usdc: str) -> list[dict[str, Any]]:
    return [
        TRANSFER.read(log)
        for log in logs
        if log.address == usdc and log.topics and log.topics[0] == TRANSFER.topic
    ]


def _usdc(transfer: dict[str, Any]) -> Decimal:
    return scaled(transfer["value"], USDC_PLACES)
