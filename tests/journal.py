"""Steps on the road of an intent, for tests that need one somewhere on it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, select, update

from evenkeel.legs import LegReceipt, LegSide, LendingChange
from evenkeel.types import Fill, IntentState, VenueName
from state.carry.models import Leg
from state.carry.receipts import LegBooking
from state.intents import ATTEMPTS, INTENTS
from state.machine import FORWARD
from state.models import Attempt, Intent
from state.store import Store

S = IntentState


def receipt(ref: str = "sig", fills: int = 1, lending: bool = False) -> LegReceipt:
    change = LendingChange(
        tokens_before=Decimal(0),
        tokens_after=Decimal("1.5"),
        debt_before_usd=Decimal(0),
        debt_after_usd=Decimal(200),
        swap_token_qty=Decimal("1.5"),
        swap_usdc_qty=Decimal(300),
        wallet_usdc_delta=Decimal(-101),
        protocol_fee_usd=Decimal("0.45"),
        gas_lamports=5_500,
        tip_lamports=10_000,
    )
    return LegReceipt(
        ref=ref,
        done_qty=Decimal("1.5"),
        avg_price_usd=Decimal(200),
        settled_ms=77,
        lending=change if lending else None,
        fills=[
            Fill(
                fill_id=f"{ref}-{n}",
                venue=VenueName.HYPERLIQUID,
                asset="SOL",
                side="sell",
                qty=Decimal("1.5"),
                price_usd=Decimal(200),
                fee_usd=Decimal("0.135"),
                time_ms=70 + n,
            )
            for n in range(fills)
        ],
    )


def short_leg(qty: str = "1.5") -> Leg:
    return Leg(
        position_id="p1",
        side=LegSide.SHORT,
        venue=VenueName.HYPERLIQUID,
        ref="SOL",
        asset="SOL",
        qty=Decimal(qty),
        entry_price_usd=Decimal(200),
        opened_ms=77,
    )


def booking(of: LegReceipt, leg: Leg | None = None, sol_price_usd: Decimal | None = None) -> LegBooking:
    """The rows of a receipt, as carry's bookkeeper would hand them over."""
    return LegBooking(of, leg, sol_price_usd)


def advance(store: Store, intent_id: str, to: IntentState) -> Intent:
    """Walk from IDLE (or a rebuild) along the road to `to`."""
    if to in (S.BUILDING, S.BUILT, S.SIGNING, S.SIGNED):
        return left_by_an_older_version(store, intent_id, to)
    here = FORWARD.index(store.intent(intent_id).state)
    if here < FORWARD.index(S.SUBMITTING) <= FORWARD.index(to):
        store.record_ready(intent_id, {"fee_bps": Decimal("4.5")}, {"cloid": uuid4().hex})
    if here < FORWARD.index(S.SUBMITTED) <= FORWARD.index(to):
        store.mark_submitted(intent_id)
    return store.intent(intent_id)


def left_by_an_older_version(store: Store, intent_id: str, state: IntentState) -> Intent:
    """A state between IDLE and SUBMITTING: versions that committed each step left rows there, this one passes through."""
    with store._write() as db:
        values: dict[str, Any] = {"state": state}
        if state is S.SIGNED:
            n = store_attempts(db, intent_id) + 1
            values["attempts"] = n
            attempt = Attempt(intent_id=intent_id, n=n, key={"cloid": uuid4().hex}, signed_ms=1)
            db.execute(ATTEMPTS.insert().values(**attempt.model_dump()))
        db.execute(update(INTENTS).where(INTENTS.c.intent_id == intent_id).values(**values))
    return store.intent(intent_id)


def store_attempts(db: Connection, intent_id: str) -> int:
    return int(db.execute(select(INTENTS.c.attempts).where(INTENTS.c.intent_id == intent_id)).scalar_one())
