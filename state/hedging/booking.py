"""The rows of a hedge's receipt: the shares that were filled since the last one, and the exposure with them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, select

from evenkeel.errors import Bug
from evenkeel.types import Receipt
from state.database import AnyFence, fetch_one, insert_new, table_of, values_of
from state.hedging.amounts import ZERO, minus, times
from state.hedging.models import HedgeFill, HedgeFillTable
from state.hedging.moving import locked, move_by_hedge
from state.models import Intent

HEDGES = table_of(HedgeFillTable)


@dataclass(frozen=True)
class HedgeBooking:
    """One receipt of a hedge, cumulative: the broker's count is the truth, also above what was asked for."""

    receipt: Receipt

    def write(self, db: Connection, intent: Intent, *, at_ms: int, fence: AnyFence) -> None:
        """Store what is new since the last one. Raises Bug for shares without a price, and for more shares that cost less than
        what is booked of them: no amount is guessed.
        """
        locked(db, intent.subject, at_ms)
        mine = select(HEDGES).where(HEDGES.c.intent_id == intent.intent_id).order_by(HEDGES.c.id.desc())
        before = fetch_one(db, HedgeFill, mine)
        had, had_usd = (before.cumulative, before.cumulative_usd) if before else (ZERO, ZERO)
        done, price = self.receipt.done_qty, self.receipt.avg_price_usd
        if done <= had:
            return  # an answer that is older, or says the same again
        if price is None or price <= 0:
            raise Bug(f"{done} shares of {intent.subject} are filled at no price that can be read")
        usd = times(price, done)
        if usd < had_usd:
            raise Bug(
                f"{intent.intent_id}: {done} shares of {intent.subject} for {usd:f} USD, where {had} for {had_usd:f} are "
                "booked already: what was paid does not fall"
            )
        row = HedgeFill(
            intent_id=intent.intent_id,
            symbol=intent.subject,
            side=str(intent.order["side"]),
            venue=intent.venue,
            order_ref=self.receipt.ref,
            cumulative=done,
            cumulative_usd=usd,
            qty=minus(done, had),
            usd=minus(usd, had_usd),
            at_ms=self.receipt.settled_ms,
            recorded_ms=at_ms,
        )
        if insert_new(db, HEDGES, values_of(row)):
            move_by_hedge(db, row, at_ms)
