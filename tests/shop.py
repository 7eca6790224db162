"""A business of the tests: a shop that buys on a made-up exchange, with no more than the core asks of a business."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import uuid4

from sqlalchemy import Boolean, Column, Connection, MetaData, Table, Text, select, update

from evenkeel.clock import Clock
from evenkeel.errors import Bug, LostRace
from evenkeel.settings.settings import Settings
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
from state.database import AnyFence, insert_new
from state.fills import Owner, store_fills
from state.models import Intent
from state.store import Store
from tasks.booking import Prepared
from tasks.desk import Desk

SHOP, BAZAAR = "shop", "bazaar"
ASK_AFTER_S, VALID_MS = 60.0, 30_000
_TABLES = MetaData()
SYMBOLS = Table("shop_symbols", _TABLES, Column("symbol", Text, primary_key=True), Column("ended", Boolean))
DONE = Table("shop_done", _TABLES, Column("intent_id", Text, primary_key=True), Column("qty", Text))


@dataclass
class Exchange:
    """Keeps orders by client id and fills them by its script: (seconds after it was accepted, how much)."""

    clock: Clock
    script: list[tuple[float, str]] = field(default_factory=list)
    canceled_after_s: float | None = None
    losses: list[str] = field(default_factory=list)
    """What becomes of the next calls that place: "request" or "answer" is lost, "" for neither."""
    silent: bool = False
    lags: bool = False
    """Its answers come from a node that does not know the orders yet."""
    received: list[str] = field(default_factory=list)
    asked: int = 0
    _orders: dict[str, tuple[dict[str, Any], int]] = field(default_factory=dict)

    def place(self, body: str) -> dict[str, Any]:
        loss = self.losses.pop(0) if self.losses else ""
        if loss == "request":
            raise ConnectionError("reset before it was read")
        self.received.append(body)
        order = json.loads(body)
        if order["id"] not in self._orders:
            if self.clock.now_ms() > order["valid_until_ms"]:
                return {"status": "refused", "why": "too late"}
            self._orders[order["id"]] = order, self.clock.now_ms()
        if loss == "answer":
            raise ConnectionError("reset before it was answered")
        return self.state_of(order["id"])

    def query(self, client_id: str) -> dict[str, Any] | None:
        self.asked += 1
        if self.silent:
            raise ConnectionError("no answer")
        return self.state_of(client_id) if client_id in self._orders and not self.lags else None

    def state_of(self, client_id: str) -> dict[str, Any]:
        order, since_ms = self._orders[client_id]
        passed_s = (self.clock.now_ms() - since_ms) / 1000
        until_s = passed_s if self.canceled_after_s is None else min(passed_s, self.canceled_after_s)
        fills = [
            {"id": f"{client_id}-{n}", "qty": qty, "at_ms": since_ms + int(after_s * 1000)}
            for n, (after_s, qty) in enumerate(self.script)
            if after_s <= until_s
        ]
        over = sum((Decimal(one["qty"]) for one in fills), Decimal(0)) == Decimal(order["qty"])
        status = "filled" if over else "accepted" if until_s == passed_s else "canceled"
        return {**order, "status": status, "fills": fills}

    @property
    def orders(self) -> list[dict[str, Any]]:
        """Every order that it ever accepted, as it is now."""
        return [self.state_of(client_id) for client_id in self._orders]


class Bazaar:
    """The adapter of the exchange."""

    name = BAZAAR

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def build(self, intent: IntentSpec) -> Built:
        return Built(intent.order, {"symbol": intent.subject})

    async def sign(self, intent: IntentSpec, built: Built) -> Signed:
        key = {"id": uuid4().hex, "valid_until_ms": self._exchange.clock.now_ms() + VALID_MS}
        return Signed(key, json.dumps({**built.payload, **key}))

    async def send(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        try:
            return _outcome(self._exchange.place(str(signed.wire)))
        except ConnectionError as lost:
            return Unknown(str(lost))

    async def resend(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        return Unknown("its bytes are gone") if signed.wire is None else await self.send(intent, signed)

    async def find(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        try:
            found = self._exchange.query(signed.key["id"])
        except ConnectionError as lost:
            return Unknown(str(lost))
        if found is not None:
            return _outcome(found)
        if self._exchange.clock.now_ms() > signed.key["valid_until_ms"]:
            return Rejected("no longer valid, and not known")
        return Unknown("not known yet")


def _outcome(order: dict[str, Any]) -> Outcome[Receipt]:
    if order["status"] == "refused":
        return Rejected(order["why"])
    fills = [
        Fill(
            fill_id=one["id"],
            venue=BAZAAR,
            asset=order["symbol"],
            side="buy",
            qty=Decimal(one["qty"]),
            price_usd=Decimal(10),
            fee_usd=Decimal("0.01"),
            time_ms=one["at_ms"],
        )
        for one in order["fills"]
    ]
    done = sum((fill.qty for fill in fills), Decimal(0))
    settled_ms = max((fill.time_ms for fill in fills), default=0)
    receipt = Receipt(ref=order["id"], done_qty=done, avg_price_usd=None, fills=fills, settled_ms=settled_ms)
    if order["status"] == "accepted":
        return Working(f"accepted, {done} of {order['qty']} done", ASK_AFTER_S, receipt)
    return Confirmed(receipt) if done else Rejected("canceled with nothing done", seen=True)


@dataclass
class ShopBooking:
    """Fills, and how much of the order is done."""

    receipt: Receipt

    def write(self, db: Connection, intent: Intent, *, at_ms: int, fence: AnyFence) -> None:
        store_fills(db, self.receipt.fills, Owner.of(intent, "me"))
        if insert_new(db, DONE, {"intent_id": intent.intent_id, "qty": str(self.receipt.done_qty)}):
            return
        mine = DONE.c.intent_id == intent.intent_id
        if Decimal(db.execute(select(DONE.c.qty).where(mine)).scalar_one()) > self.receipt.done_qty:
            raise Bug(f"{intent.intent_id} had more done before")
        db.execute(update(DONE).where(mine).values(qty=str(self.receipt.done_qty)))


class ShopBooks:
    """What the ledger asks, and the bookkeeper that a desk asks."""

    receipt_type = Receipt

    def admit(self, db: Connection, spec: IntentSpec) -> None:
        ended = db.execute(
            select(SYMBOLS.c.ended).where(SYMBOLS.c.symbol == spec.subject)
        ).scalar_one_or_none()
        if ended is None:
            raise Bug(f"symbol {spec.subject} is not stored")
        if ended:
            raise LostRace(f"symbol {spec.subject} has ended")

    async def prepare(self, intent: Intent, receipt: Receipt, *, final: bool) -> Prepared:
        detail = {"final": final}
        return Prepared(receipt.model_copy(update={"detail": detail}), ShopBooking(receipt))


def open_shop(url: str, clock: Clock, *symbols: str) -> Store:
    """A ledger that takes the shop's intents, with its tables and these symbols."""
    store = Store.open(url, clock, more={SHOP: ShopBooks()})
    with store._write() as db:
        _TABLES.create_all(db)
    add_symbols(store, *symbols)
    return store


def add_symbols(store: Store, *symbols: str) -> None:
    with store._write() as db:
        for symbol in symbols:
            insert_new(db, SYMBOLS, {"symbol": symbol, "ended": False})


def new_desk(store: Store, exchange: Exchange) -> Desk:
    """One process of the shop: what its adapter remembers is gone with it."""
    return Desk(Settings(), exchange.clock, store, {BAZAAR: Bazaar(exchange)}, {SHOP: ShopBooks()})


def buy(intent_id: str = "b1", symbol: str = "ETH", qty: str = "3", step: int = 0) -> IntentSpec:
    order = {"symbol": symbol, "qty": qty}
    return IntentSpec(
        intent_id=intent_id, business=SHOP, subject=symbol, venue=BAZAAR, kind="buy", step=step, order=order
    )


def done_of(store: Store, intent_id: str) -> str | None:
    """What the shop's own table says."""
    with store._read() as db:
        return db.execute(select(DONE.c.qty).where(DONE.c.intent_id == intent_id)).scalar_one_or_none()


def check_books(store: Store, exchange: Exchange, plan: IntentSpec) -> None:
    """The books say what the exchange executed, no more and no less."""
    executed = [(order["id"], one["id"], one["qty"]) for order in exchange.orders for one in order["fills"]]
    rows = store.fills_of(SHOP, plan.subject)
    assert [(row.fill_id, str(row.qty)) for row in rows] == [one[1:] for one in executed]
    assert {(row.intent_id, row.account) for row in rows} <= {(plan.intent_id, "me")}
    assert [fee.amount_usd for fee in store.fees(SHOP, plan.subject)] == [Decimal("0.01")] * len(rows)
    assert Decimal(done_of(store, plan.intent_id) or 0) == sum((row.qty for row in rows), Decimal(0))
