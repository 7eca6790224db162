"""Carry's bookkeeper: the market at the moment of a settlement, and the leg that a receipt leaves behind."""

from __future__ import annotations

from decimal import Decimal

from evenkeel.clock import Clock
from evenkeel.errors import Bug
from evenkeel.legs import IntentKind, LegReceipt, LegSide
from evenkeel.types import Receipt
from state.carry.models import Leg, LegStatus, Position
from state.carry.receipts import LegBooking
from state.models import Intent
from state.store import Store
from tasks.booking import Prepared
from tasks.carry.books.marks import Marks, Seen
from tasks.carry.mark import Mark
from venues.asgard.venue import AsgardVenue
from venues.protocol import PerpVenue


class CarryBookkeeper:
    """Books what happened to a leg: fills, lending change, fees and the leg itself, with the market beside them."""

    receipt_type = LegReceipt

    def __init__(self, store: Store, clock: Clock, long: AsgardVenue, short: PerpVenue) -> None:
        self._store = store
        self._long = long
        self._short = short
        self.marks = Marks(store, clock, long, short)
        self._positions: dict[str, Position] = {}
        """What is asked for with every booking and never changes: asset, underlying and accounts."""

    async def prepare(self, intent: Intent, receipt: Receipt, *, final: bool) -> Prepared:
        """The receipt with the market of its settlement beside it, and the rows of it; the leg changes when the receipt is
        final.

        A booking must not wait for a price: where one can only be had from afar, the mark says so.
        """
        if not isinstance(receipt, LegReceipt):
            receipt = LegReceipt.model_validate(receipt.model_dump())
        position = self._position(intent.subject)
        long = intent.part == LegSide.LONG
        of_leg = self.marks.of_long if long else self.marks.of_short
        mark = await of_leg(position, receipt.settled_ms, Seen.of(receipt), receipt.avg_price_usd)
        booked = _with_mark(receipt, mark, intent)
        leg = None
        if final:
            held = self._store.carry.leg(intent.subject, LegSide(intent.part))
            leg = leg_after(intent, booked, held, position)
        booking = LegBooking(
            booked if final else booked.model_copy(update={"lending": None}),
            leg,
            mark.sol_price_usd,
            account=self._long.wallet if long else self._short.address,
            chain="solana" if long else "",
        )
        return Prepared(booked, booking)

    async def read_mark(self, asset: str, underlying: str) -> Mark:
        """Oracle price of the underlying, price of the asset as the lender shows it, its redemption rate, now.

        Raises Retryable.
        """
        return await self.marks.read(asset, underlying)

    def _position(self, position_id: str) -> Position:
        if position_id not in self._positions:
            self._positions[position_id] = self._store.carry.position(position_id)
        return self._positions[position_id]


def _with_mark(receipt: LegReceipt, mark: Mark, intent: Intent) -> LegReceipt:
    detail = {**receipt.detail, "mark": mark.model_dump(mode="json")}
    if (decided := intent.order.get("decided")) is not None:
        detail["decided"] = decided
    if receipt.lending is None:
        return receipt.model_copy(update={"detail": detail})
    # The ledger keys a lending change by its transaction, and books the protocol's fee from the change alone.
    signature = receipt.fills[0].fill_id if receipt.fills else receipt.detail["signatures"][-1]
    fills = [fill.model_copy(update={"fee_usd": Decimal(0)}) for fill in receipt.fills]
    detail["position_pda"] = receipt.ref
    return receipt.model_copy(update={"ref": signature, "fills": fills, "detail": detail})


def leg_after(intent: Intent, receipt: LegReceipt, before: Leg | None, position: Position) -> Leg:
    """The leg row once the receipt has happened."""
    if intent.part == LegSide.LONG:
        return _long_after(intent, receipt, before)
    if before is None or not before.is_open:
        before = Leg(
            position_id=intent.subject,
            side=LegSide.SHORT,
            venue=intent.venue,
            ref=position.underlying,
            asset=position.underlying,
            qty=Decimal(0),
            opened_ms=receipt.settled_ms,
        )
    grows = not bool(intent.order["is_buy"])
    if grows:
        return before.grown(receipt.done_qty, receipt.avg_price_usd)
    return before.shrunk(receipt.done_qty, receipt.settled_ms)


def _long_after(intent: Intent, receipt: LegReceipt, before: Leg | None) -> Leg:
    change = receipt.lending
    if change is None:
        raise Bug(f"receipt of {intent.intent_id} says nothing of the lending position")
    if intent.kind == IntentKind.OPEN:
        return Leg(
            position_id=intent.subject,
            side=LegSide.LONG,
            venue=intent.venue,
            ref=receipt.detail["position_pda"],
            asset=intent.order["asset"],
            protocol=int(intent.order["protocol"]),
            qty=change.tokens_after,
            entry_price_usd=receipt.avg_price_usd,
            opened_ms=receipt.settled_ms,
        )
    if before is None:
        raise Bug(f"{intent.intent_id} changed a long leg that the books do not have")
    if intent.kind == IntentKind.CLOSE and change.tokens_after <= 0:
        gone = {"qty": Decimal(0), "status": LegStatus.CLOSED, "closed_ms": receipt.settled_ms}
        return before.model_copy(update=gone)
    return before.model_copy(update={"qty": change.tokens_after})
