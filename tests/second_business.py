"""A business that only tests have: lots of paper, bought one order at a time on an exchange that takes an hour over each.

It shows what a new business needs of the core: books (`LotBooks`), a bookkeeper (`LotKeeper`) and a venue (`LotVenue`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

from sqlalchemy import Connection

from evenkeel.clock import Clock
from evenkeel.errors import VenueRefused
from evenkeel.types import (
    Built,
    Confirmed,
    Fill,
    IntentSpec,
    Outcome,
    Receipt,
    Rejected,
    Signed,
    Unknown,
    Working,
)
from state.database import AnyFence
from state.fills import Owner, store_fills
from state.models import Intent
from tasks.booking import Prepared

LOTS, EXCHANGE, PAPER = "lots", "exchange", "PAPER"
HOUR_MS, LIFE_MS, PRICE = 3_600_000, 60_000, Decimal(7)


@dataclass
class Exchange:
    """The other side, which outlives every process of ours: orders by client id, filled in two halves within an hour."""

    now_ms: Callable[[], int]
    orders: dict[str, tuple[Decimal, int]] = field(default_factory=dict)
    placed: int = 0
    asked: int = 0
    lose_answers: int = 0

    def place(self, client_id: str, qty: Decimal, expires_ms: int) -> str:
        """Take an order once; a client id that is known is refused."""
        if self.now_ms() > expires_ms:
            return "expired"
        if client_id in self.orders:
            return "duplicate client id"
        self.placed += 1
        self.orders[client_id] = (qty, self.now_ms())
        if self.lose_answers:
            self.lose_answers -= 1
            raise TimeoutError("the answer was lost")
        return "accepted"

    def fills(self, client_id: str) -> list[tuple[str, Decimal, int]] | None:
        """Executions of an order so far; None for an order that is not known."""
        self.asked += 1
        if client_id not in self.orders:
            return None
        qty, at_ms = self.orders[client_id]
        halves = [(f"{client_id}/{n}", qty / 2, at_ms + n * HOUR_MS // 2) for n in (1, 2)]
        return [row for row in halves if row[2] <= self.now_ms()]


class LotVenue:
    """One order kind: buy. A key is the client id and when the order expires."""

    name = EXCHANGE

    def __init__(self, exchange: Exchange, clock: Clock) -> None:
        self.exchange = exchange
        self._clock = clock

    async def build(self, intent: IntentSpec) -> Built:
        if Decimal(intent.order["qty"]) <= 0:
            raise VenueRefused(EXCHANGE, f"{intent.order['qty']} lots cannot be bought")
        return Built(payload=intent.order, note={"price": str(PRICE)})

    async def sign(self, intent: IntentSpec, built: Built) -> Signed:
        key = {
            "client_id": f"{intent.intent_id}@{self._clock.now_ms()}",
            "expires_ms": self._clock.now_ms() + LIFE_MS,
        }
        return Signed(key=key, wire=built.payload)

    async def send(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        try:
            said = self.exchange.place(
                signed.key["client_id"], Decimal(intent.order["qty"]), signed.key["expires_ms"]
            )
        except TimeoutError as lost:
            return Unknown(str(lost))
        return Rejected(said) if said == "expired" else await self.find(intent, signed)

    async def resend(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        if signed.wire is None:
            return Unknown("the bytes are gone")
        said = await self.send(intent, signed)
        # What refuses a copy says nothing of the first.
        return await self.find(intent, signed) if isinstance(said, Rejected) else said

    async def find(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        client_id, now_ms = signed.key["client_id"], self._clock.now_ms()
        try:
            rows = self.exchange.fills(client_id)
        except TimeoutError as lost:
            return Unknown(str(lost))
        if rows is None:
            late = now_ms > signed.key["expires_ms"]
            return Rejected("expired, and never seen") if late else Unknown("not known yet")
        done = sum((qty for _, qty, _ in rows), Decimal(0))
        same = {"venue": EXCHANGE, "asset": PAPER, "side": "buy", "price_usd": PRICE}
        fills = [Fill(fill_id=name, qty=qty, time_ms=at_ms, **same) for name, qty, at_ms in rows]
        settled_ms = rows[-1][2] if rows else now_ms
        receipt = Receipt(
            ref=client_id, done_qty=done, avg_price_usd=PRICE, fills=fills, settled_ms=settled_ms
        )
        if done == Decimal(intent.order["qty"]):
            return Confirmed(receipt)
        return Working("resting on the book", ask_after_s=600, so_far=receipt if rows else None)


class LotBooks:
    """Every subject is open for ever."""

    def admit(self, db: Connection, spec: IntentSpec) -> None:
        """Nothing has ended."""


@dataclass(frozen=True)
class LotBooking:
    """The fills of a receipt, under the intent's own name."""

    receipt: Receipt

    def write(self, db: Connection, intent: Intent, *, at_ms: int, fence: AnyFence) -> None:
        store_fills(db, self.receipt.fills, Owner.of(intent))


class LotKeeper:
    receipt_type = Receipt

    async def prepare(self, intent: Intent, receipt: Receipt, *, final: bool) -> Prepared:
        return Prepared(receipt, LotBooking(receipt))
