"""Writes fills and fees inside the caller's transaction, each once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, select, update

from evenkeel.errors import Bug
from evenkeel.types import Fill, LegSide, VenueName
from state.database import fetch_one, insert_new, table_of, values_of
from state.ledger_models import Fee, FeeTable, FillRow, FillTable

FILLS = table_of(FillTable)


FEES = table_of(FeeTable)


def store_fills(
    db: Connection,
    fills: Iterable[Fill],
    *,
    position_id: str | None,
    intent_id: str | None = None,
    leg: LegSide | None = None,
) -> int:
    """Insert fills that are not known yet and return how many were new.

    A known fill gains the owner it lacked; one that has another owner or other figures raises Bug.
    """
    new = 0
    owner: dict[str, Any] = {"position_id": position_id, "intent_id": intent_id, "leg": leg}
    for fill in fills:
        row = FillRow(**fill.model_dump(), **owner)
        if insert_new(db, FILLS, values_of(row)):
            new += 1
            _fill_fee(db, fill, position_id, intent_id)
            continue
        same = (FILLS.c.venue == fill.venue, FILLS.c.fill_id == fill.fill_id)
        known = fetch_one(db, FillRow, select(FILLS).where(*same))
        if known is None or known.fill != fill:
            raise Bug(
                f"fill {fill.venue} {fill.fill_id} is stored with other figures: {known} against {fill}"
            )
        for name, value in owner.items():
            stored = getattr(known, name)
            if value is not None and stored is not None and stored != value:
                raise Bug(f"fill {fill.venue} {fill.fill_id} belongs to {name} {stored}, not to {value}")
        gained = {
            name: value for name, value in owner.items() if value is not None and getattr(known, name) is None
        }
        if gained:
            db.execute(update(FILLS).where(*same).values(**gained))
            fee_owner = {name: value for name, value in gained.items() if name != "leg"}
            if fee_owner:
                mine = FEES.c.fee_key == _fill_fee_key(fill)
                db.execute(update(FEES).where(mine).values(**fee_owner))
    return new


def store_fee(db: Connection, fee: Fee) -> bool:
    """Insert a fee unless its key is known; True when new. The same key with another amount raises Bug."""
    if insert_new(db, FEES, values_of(fee)):
        return True
    known = fetch_one(db, Fee, select(FEES).where(FEES.c.fee_key == fee.fee_key))
    if known is None or (known.kind, known.lamports) != (fee.kind, fee.lamports):
        raise Bug(f"fee {fee.fee_key} is stored with other figures: {known} against {fee}")
    if known.amount_usd is None and fee.amount_usd is not None:
        db.execute(update(FEES).where(FEES.c.fee_key == fee.fee_key).values(amount_usd=fee.amount_usd))
    elif fee.amount_usd is not None and fee.amount_usd != known.amount_usd:
        raise Bug(f"fee {fee.fee_key} is stored as {known.amount_usd} USD, now {fee.amount_usd}")
    return False


def _fill_fee(db: Connection, fill: Fill, position_id: str | None, intent_id: str | None) -> None:
    if not fill.fee_usd:
        return
    kind = "hl_taker" if fill.venue is VenueName.HYPERLIQUID else f"{fill.venue}_trade"
    fee = Fee(
        kind=kind,
        fee_key=_fill_fee_key(fill),
        position_id=position_id,
        intent_id=intent_id,
        amount_usd=fill.fee_usd,
        at_ms=fill.time_ms,
    )
    store_fee(db, fee)


def _fill_fee_key(fill: Fill) -> str:
    return f"fill:{fill.venue}:{fill.fill_id}"
