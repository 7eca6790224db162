"""What a business does inside the core's transactions: it admits its intents, and writes its rows for a receipt."""

from __future__ import annotations

from typing import Protocol

from sqlalchemy import Connection

from evenkeel.types import IntentSpec
from state.database import AnyFence
from state.models import Intent


class Books(Protocol):
    """One for each business, by whose name `Store` knows it."""

    def admit(self, db: Connection, spec: IntentSpec) -> None:
        """Raise LostRace where the subject has ended, Bug where it is not stored; it cannot end before the commit."""
        ...


class Booking(Protocol):
    """The rows that one receipt makes."""

    def write(self, db: Connection, intent: Intent, *, at_ms: int, fence: AnyFence) -> None:
        """Store them. Of an intent that is still being worked on this is called again as more happens: what is stored
        already is not stored twice. Raises Bug where figures contradict what is stored.
        """
        ...
