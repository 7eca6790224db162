"""Writes what a confirmed order of a leg did into carry's books, inside the transaction that confirms it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection

from evenkeel.errors import Bug
from evenkeel.legs import IntentKind, LegReceipt
from state.carry.models import Leg, LendingRow, LendingTable
from state.carry.positions import store_leg
from state.database import AnyFence, insert_new, table_of, values_of
from state.fills import Owner, store_fee, store_fills
from state.ledger_models import Fee
from state.models import Intent

LENDING = table_of(LendingTable)
LAMPORTS_PER_SOL = Decimal(1_000_000_000)


@dataclass(frozen=True)
class LegBooking:
    """The rows of one receipt: fills, lending change, fees, and the leg that it leaves (None: unchanged).

    `receipt.ref` of a lending change is the signature of the landed transaction; `sol_price_usd` values its gas, None
    while no price is known. `account` and `chain` are where the fills happened (`FillRow`).
    """

    receipt: LegReceipt
    leg: Leg | None
    sol_price_usd: Decimal | None
    account: str
    chain: str = ""

    def write(self, db: Connection, intent: Intent, *, at_ms: int, fence: AnyFence) -> None:
        """Store them all. A second booking of the same thing raises Bug."""
        store_fills(db, self.receipt.fills, Owner.of(intent, self.account, self.chain))
        self._store_lending(db, intent)
        if self.leg is None:
            return
        if (self.leg.position_id, self.leg.side) != (intent.subject, intent.part):
            raise Bug(
                f"intent {intent.intent_id} confirmed with leg {self.leg.position_id}/{self.leg.side}, not its own"
            )
        store_leg(db, self.leg, at_ms=at_ms, fence=fence)

    def _store_lending(self, db: Connection, intent: Intent) -> None:
        receipt, change = self.receipt, self.receipt.lending
        if change is None:
            return
        row = LendingRow(
            position_id=intent.subject,
            intent_id=intent.intent_id,
            kind=IntentKind(intent.kind),
            ref=receipt.ref,
            at_ms=receipt.settled_ms,
            **change.model_dump(),
        )
        if not insert_new(db, LENDING, values_of(row)):
            raise Bug(
                f"transaction {receipt.ref} is already booked for position {intent.subject} by another intent"
            )
        owner: dict[str, Any] = {
            "business": intent.business,
            "subject": intent.subject,
            "intent_id": intent.intent_id,
            "at_ms": receipt.settled_ms,
        }
        if change.protocol_fee_usd:
            key = f"asgard_protocol:{receipt.ref}"
            store_fee(
                db, Fee(kind="asgard_protocol", fee_key=key, amount_usd=change.protocol_fee_usd, **owner)
            )
        for kind, lamports in (("gas", change.gas_lamports), ("tip", change.tip_lamports)):
            if lamports:
                usd = None if self.sol_price_usd is None else lamports * self.sol_price_usd / LAMPORTS_PER_SOL
                fee = Fee(
                    kind=kind,
                    fee_key=f"{kind}:{receipt.ref}",
                    amount_usd=usd,
                    native_amount=Decimal(lamports),
                    native_unit="lamports",
                    **owner,
                )
                store_fee(db, fee)
