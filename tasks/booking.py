"""What a business does with a receipt: it says what rows are written in the transaction that confirms the intent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from evenkeel.types import Receipt
from state.books import Booking
from state.models import Intent


@dataclass(frozen=True)
class Prepared:
    """The receipt as it is stored, and the rows that go with it (None: the receipt says it all)."""

    receipt: Receipt
    booking: Booking | None


class Bookkeeper(Protocol):
    """One for each business; `Desk.bookkeepers` knows it by the business's name."""

    @property
    def receipt_type(self) -> type[Receipt]:
        """What a stored receipt of this business is read as."""
        ...

    async def prepare(self, intent: Intent, receipt: Receipt, *, final: bool) -> Prepared:
        """What is stored for this receipt. It may read prices and must not wait for them: what has happened is booked.

        `final` is False while the venue works on the intent: `receipt` is then what has happened so far, from the start.
        """
        ...
