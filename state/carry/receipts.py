"""Writes what a confirmed attempt did into the ledger, inside the transaction that confirms it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import Connection

from evenkeel.errors import Bug
from evenkeel.types import LegSide, Receipt
from state.carry.models import LendingRow, LendingTable
from state.database import insert_new, table_of, values_of
from state.fills import store_fee, store_fills
from state.ledger_models import Fee
from state.models import Intent

LENDING = table_of(LendingTable)
LAMPORTS_PER_SOL = Decimal(1_000_000_000)


def store_receipt(db: Connection, intent: Intent, receipt: Receipt, sol_price_usd: Decimal | None) -> None:
    """Fills, the lending change and every fee of a receipt. A second booking of the same thing raises Bug."""
    store_fills(
        db, receipt.fills, position_id=intent.position_id, intent_id=intent.intent_id, leg=LegSide(intent.leg)
    )
    change = receipt.lending
    if change is None:
        return
    row = LendingRow(
        position_id=intent.position_id,
        intent_id=intent.intent_id,
        kind=intent.kind,
        ref=receipt.ref,
        at_ms=receipt.settled_ms,
        **change.model_dump(),
    )
    if not insert_new(db, LENDING, values_of(row)):
        raise Bug(
            f"transaction {receipt.ref} is already booked for position {intent.position_id} by another intent"
        )
    owner: dict[str, Any] = {
        "position_id": intent.position_id,
        "intent_id": intent.intent_id,
        "at_ms": receipt.settled_ms,
    }
    if change.protocol_fee_usd:
        key = f"asgard_protocol:{receipt.ref}"
        store_fee(db, Fee(kind="asgard_protocol", fee_key=key, amount_usd=change.protocol_fee_usd, **owner))
    for kind, lamports in (("gas", change.gas_lamports), ("tip", change.tip_lamports)):
        if lamports:
            usd = None if sol_price_usd is None else lamports * sol_price_usd / LAMPORTS_PER_SOL
            fee = Fee(kind=kind, fee_key=f"{kind}:{receipt.ref}", amount_usd=usd, lamports=lamports, **owner)
            store_fee(db, fee)
