"""The states of an intent in order, for tests that need one somewhere on it."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from uuid import uuid4

from evenkeel.types import Fill, IntentState, LegSide, LendingChange, Receipt, VenueName
from state import Intent, Leg, Store
from state.machine import FORWARD

S = IntentState


def receipt(ref: str = "sig", fills: int = 1, lending: bool = False) -> Receipt:
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
    return Receipt(
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


def advance(store: Store, intent_id: str, to: IntentState) -> Intent:
    """Walk from IDLE (or a rebuild) through the states to `to`."""
    for state in FORWARD[FORWARD.index(store.intent(intent_id).state) + 1 : FORWARD.index(to) + 1]:
        step: dict[IntentState, Callable[[], object]] = {
            S.BUILDING: lambda: store.move(intent_id, S.IDLE, S.BUILDING),
            S.BUILT: lambda: store.mark_built(intent_id, {"fee_bps": Decimal("4.5")}),
            S.SIGNING: lambda: store.move(intent_id, S.BUILT, S.SIGNING),
            S.SIGNED: lambda: store.record_signed(intent_id, {"cloid": uuid4().hex}),
            S.SUBMITTING: lambda: store.mark_submitting(intent_id),
            S.SUBMITTED: lambda: store.mark_submitted(intent_id),
        }
        step[state]()
    return store.intent(intent_id)


def walk(store: Store, intent_id: str) -> list[tuple[str, str]]:
    return [(t.from_state, t.to_state) for t in store.transitions("intent", intent_id)]
