"""The states of an intent in order, for tests that need one somewhere on it."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import Any
from uuid import uuid4

from sqlalchemy import select, update

from evenkeel.legs import LegReceipt, LegSide, LendingChange
from evenkeel.types import Fill, IntentState, VenueName
from state.carry.models import Leg
from state.carry.receipts import LegBooking
from state.database import fetch_one, log_move
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
    return LegBooking(of, leg, sol_price_usd, account="")


def advance(store: Store, intent_id: str, to: IntentState) -> Intent:
    """Walk from IDLE (or a rebuild) through the states to `to`."""
    if to in (S.BUILDING, S.BUILT, S.SIGNING, S.SIGNED):
        return left_by_an_older_version(store, intent_id, to)
    here = FORWARD.index(store.intent(intent_id).state)
    if here < FORWARD.index(S.SUBMITTING) <= FORWARD.index(to):
        store.record_ready(intent_id, {"fee_bps": Decimal("4.5")}, {"cloid": uuid4().hex})
    if here < FORWARD.index(S.SUBMITTED) <= FORWARD.index(to):
        store.mark_submitted(intent_id)
    return store.intent(intent_id)


def left_by_an_older_version(store: Store, intent_id: str, state: IntentState) -> Intent:
    """A state between IDLE and SUBMITTING: versions that committed each step left rows and log lines there, this one
    passes through.
    """
    with store._write() as db:
        row = fetch_one(db, Intent, select(INTENTS).where(INTENTS.c.intent_id == intent_id))
        assert row is not None
        values: dict[str, Any] = {"state": state}
        path = FORWARD[FORWARD.index(row.state) : FORWARD.index(state) + 1]
        for from_state, to_state in pairwise(path):
            log_move(db, "intent", intent_id, from_state, to_state, note="", at_ms=1, fence=None)
            if to_state is S.SIGNED:
                values["attempts"] = row.attempts + 1
                attempt = Attempt(
                    intent_id=intent_id, n=row.attempts + 1, key={"cloid": uuid4().hex}, signed_ms=1
                )
                db.execute(ATTEMPTS.insert().values(**attempt.model_dump()))
        db.execute(update(INTENTS).where(INTENTS.c.intent_id == intent_id).values(**values))
    return store.intent(intent_id)


def walk(store: Store, intent_id: str) -> list[tuple[str, str]]:
    return [(t.from_state, t.to_state) for t in store.transitions("intent", intent_id)]
