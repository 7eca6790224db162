"""The bookkeeper of hedged market making: what a broker says of a hedge, cumulative, and what moves of a rebalance cost."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import Connection

from evenkeel.types import Receipt
from state.database import AnyFence
from state.fills import store_fee
from state.hedging.amounts import minus, times
from state.hedging.booking import HedgeBooking
from state.hedging.store import HEDGE, HEDGING
from state.ledger_models import Fee
from state.models import Intent
from tasks.booking import Prepared

CONVERT = "convert"


@dataclass(frozen=True)
class CostBooking:
    """What a move cost: one row, in the transaction that confirms it."""

    fee: Fee

    def write(self, db: Connection, intent: Intent, *, at_ms: int, fence: AnyFence) -> None:
        """Store it, once."""
        store_fee(db, self.fee)


class HedgingBookkeeper:
    """Books shares as they are filled: also those of an order that is not final, and those above what was asked for. Of a move
    it books the gas, and what a conversion lost.
    """

    receipt_type = Receipt

    async def prepare(self, intent: Intent, receipt: Receipt, *, final: bool) -> Prepared:
        """Say what is stored. It reads nothing."""
        if intent.kind == HEDGE:
            return Prepared(receipt, HedgeBooking(receipt) if receipt.done_qty > 0 else None)
        fee = _cost(intent, receipt) if final else None
        return Prepared(receipt, None if fee is None else CostBooking(fee))


def _cost(intent: Intent, receipt: Receipt) -> Fee | None:
    usd = wei = None
    if intent.kind == CONVERT and receipt.avg_price_usd is not None:
        paid = times(receipt.done_qty, receipt.avg_price_usd)
        usd = (
            minus(paid, receipt.done_qty) if intent.order["side"] == "buy" else minus(receipt.done_qty, paid)
        )
    elif "fee_wei" in receipt.detail:
        wei = Decimal(str(receipt.detail["fee_wei"]))
    if not usd and wei is None:
        return None
    return Fee(
        kind="conversion" if wei is None else "gas",
        fee_key=f"hedging:{intent.intent_id}",
        business=HEDGING,
        subject="USDC" if wei is None else intent.subject,
        intent_id=intent.intent_id,
        amount_usd=usd,
        native_amount=wei,
        native_unit=None if wei is None else "wei",
        at_ms=receipt.settled_ms,
    )
