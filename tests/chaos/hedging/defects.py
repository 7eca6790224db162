"""Defects of the predecessor, planted one at a time into this process: the test of each story must find its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import update

from evenkeel.errors import LostRace
from evenkeel.settings.hedging import Hedging
from evenkeel.types import Built, IntentSpec, Receipt, Signed, Working
from flows.hedging import hedge
from state.hedging.moving import EXPOSURES
from state.intents import ATTEMPTS, INTENTS, Intents
from state.store import Store
from strategy.hedging.decision import Order
from tasks.hedging import orders, passing
from tasks.hedging.desk import HedgingDesk
from venues.alpaca import venue as alpaca
from venues.alpaca.venue import AlpacaVenue
from venues.evm.answers import Block, Log
from venues.evm.pages import block_at
from venues.raindex import reader
from venues.raindex.reader import RaindexReader

Patch = pytest.MonkeyPatch
YEAR_MS = 365 * 24 * 3_600_000


def claim_lost_but_broker_called(patch: Patch) -> None:
    """The ledger refuses the second hedge of an exposure; that is logged, and the broker is called all the same."""
    real = orders._new

    async def new(at: HedgingDesk, symbol: str, order: Order, fence: Any) -> Any:
        try:
            return await real(at, symbol, order, fence)
        except LostRace as lost:
            logging.getLogger("evenkeel").warning("the claim was lost: %s", lost)
            wire = {
                "symbol": symbol,
                "side": order.side,
                "qty": str(order.qty),
                "marked_ms": at.desk.clock.now_ms(),
            }
            spec = IntentSpec(
                intent_id=f"unclaimed-{symbol}",
                business="hedging",
                subject=symbol,
                venue=at.broker.name,
                kind="hedge",
                step=0,
                order=wire,
            )
            await at.broker.send(spec, await at.broker.sign(spec, await at.broker.build(spec)))
            raise

    patch.setattr(orders, "_new", new)


def _ids_that_say_nothing(patch: Patch) -> None:
    """Each order's id is drawn, as the predecessor's was: the broker then refuses no second hedge of the same exposure."""
    patch.setattr(alpaca, "id_of", lambda anchor, number: f"{alpaca.OURS}{uuid4().hex}")


def dead_by_age(patch: Patch) -> None:
    """An order that has been open for ten minutes is written down as failed, and nobody asks the broker."""
    _ids_that_say_nothing(patch)
    real = passing.sweep

    async def sweep(at: HedgingDesk, fence: Any) -> Any:
        store, now = at.desk.store, at.desk.clock.now_ms()
        for one in store.hedging.open_orders():
            if now - one.created_ms > 600_000:
                with store._write() as db:
                    mine = INTENTS.c.intent_id == one.intent_id
                    db.execute(update(INTENTS).where(mine).values(state="FAILED", failure="too old"))
                    db.execute(
                        update(ATTEMPTS)
                        .where(ATTEMPTS.c.intent_id == one.intent_id)
                        .values(outcome="REJECTED", resolved_ms=now)
                    )
        return await real(at, fence)

    patch.setattr(passing, "sweep", sweep)


def dead_order_adopted_for_ever(patch: Patch) -> None:
    """A symbol's key is never released: the next order has it again, and the broker's own dead one is taken for it."""
    real = AlpacaVenue.sign

    async def sign(self: AlpacaVenue, intent: IntentSpec, built: Built) -> Signed:
        signed = await real(self, intent, built)
        name, own = f"ek-of-{intent.subject}", str(signed.key["client_order_id"])
        return replace(
            signed,
            key={**signed.key, "client_order_id": name},
            wire=None if signed.wire is None else str(signed.wire).replace(own, name),
        )

    patch.setattr(AlpacaVenue, "sign", sign)


def polled_without_a_pace(patch: Patch) -> None:
    """Whoever comes by asks about an open order, whenever it was asked about last."""
    real = Intents.record_working

    def record_working(self: Intents, intent_id: str, working: Working[Receipt], **more: Any) -> Any:
        return real(self, intent_id, replace(working, ask_after_s=0.0), **more)

    patch.setattr(Intents, "record_working", record_working)


def limit_counted_as_failure(patch: Patch) -> None:
    """A limit of calls uses up the tries of a symbol, and a breaker with a recovery time of a year opens, silently."""

    def block(at: HedgingDesk, symbol: str, why: str, fence: Any, *, is_refused: bool) -> None:
        at.desk.store.hedging.block_symbol(symbol, why, at.desk.clock.now_ms() + YEAR_MS, fence)

    patch.setattr(orders, "_block", block)


def silent_for_hours(patch: Patch) -> None:
    """Passes that fail are logged, and nobody is alerted."""

    def say_silence(store: Store, hedging: Hedging, why: str, since_ms: int) -> None:
        logging.getLogger("evenkeel").warning("no pass: %s", why)

    patch.setattr(hedge, "say_silence", say_silence)


def position_in_a_commit_of_its_own(patch: Patch) -> None:
    """A filled order is confirmed in one commit and its position moved in another; only open orders are asked about."""
    _ids_that_say_nothing(patch)
    real = Intents.confirm

    def confirm(self: Intents, intent_id: str, receipt: Receipt, *, booking: Any = None, **more: Any) -> Any:
        row = real(self, intent_id, receipt, booking=None, **more)
        if booking is not None:
            with self._write(more.get("fence")) as db:
                booking.write(db, row, at_ms=self.clock.now_ms(), fence=more.get("fence"))
        return row

    patch.setattr(Intents, "confirm", confirm)


def empty_answer_believed(patch: Patch) -> None:
    """Logs are asked of a range of blocks, and an answer without any is taken for what the chain has."""

    async def logs_between(
        node: Any, first: int, last: int, addresses: Any, topics: Any
    ) -> tuple[Block, list[Log]]:
        found: list[Log] = await node.logs(first, last, addresses, topics)
        return await block_at(node, last), found

    real = RaindexReader.__init__

    def without_hashes(self: RaindexReader, *given: Any, **named: Any) -> None:
        real(self, *given, **{**named, "near": 0})

    patch.setattr(reader, "logs_between", logs_between)
    patch.setattr(RaindexReader, "__init__", without_hashes)


def balance_and_fill_counted(patch: Patch) -> None:
    """A process that starts while an order is open takes the broker's balance for the position, and then adds the fill."""
    real = passing.sweep
    seeded: set[int] = set()
    first: dict[str, Decimal] = {}

    async def sweep(at: HedgingDesk, fence: Any) -> Any:
        store, held = at.desk.store, await at.broker.holdings()
        for symbol, holding in held.items():
            first.setdefault(symbol, holding.qty)
        if id(at) not in seeded:
            seeded.add(id(at))
            for one in store.hedging.open_orders():
                symbol = one.subject
                row = store.hedging.exposure(symbol)
                seen = held[symbol].qty - first[symbol]
                counted = row.hedge_bought - row.hedge_sold
                values = {
                    "hedge_bought": row.hedge_bought + seen - counted,
                    "open_shares": row.open_shares + seen - counted,
                }
                with store._write() as db:
                    db.execute(update(EXPOSURES).where(EXPOSURES.c.symbol == symbol).values(**values))
        return await real(at, fence)

    patch.setattr(passing, "sweep", sweep)


Defect = Callable[[Patch], None]


@contextmanager
def planted(defect: Defect) -> Iterator[None]:
    """With the defect in the product of this process, until the end."""
    with pytest.MonkeyPatch.context() as patch:
        defect(patch)
        yield
