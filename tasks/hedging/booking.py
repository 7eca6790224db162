"""The bookkeeper of hedges: what a broker says of an order, cumulative, as increments and exposure with the intent's end."""

from __future__ import annotations

from evenkeel.types import Receipt
from state.hedging.booking import HedgeBooking
from state.models import Intent
from tasks.booking import Prepared


class HedgingBookkeeper:
    """Books shares as they are filled: also those of an order that is not final, and those above what was asked for."""

    receipt_type = Receipt

    async def prepare(self, intent: Intent, receipt: Receipt, *, final: bool) -> Prepared:
        """Say what is stored. It reads nothing."""
        return Prepared(receipt, HedgeBooking(receipt) if receipt.done_qty > 0 else None)
