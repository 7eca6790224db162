"""The one object through which everything else reads and writes what we know."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Engine

from evenkeel.clock import Clock
from state.acknowledgements import Acknowledgements
from state.books import Books
from state.carry.store import CarryStore
from state.engine import check_schema, make_engine, parse_url
from state.intents import Intents
from state.leases import Leases
from state.ledger import Ledger
from state.watch import Watch


class Store(Intents, Leases, Ledger, Watch, Acknowledgements):
    """Synchronous and short: each call is one transaction, and is called directly from async code.

    The methods here are the core's and serve every business; what only one business keeps stands under its name
    (`store.carry`), on the same connections and clock.
    """

    def __init__(self, engine: Engine, clock: Clock, more: Mapping[str, Books] | None = None) -> None:
        self.carry = CarryStore(engine, clock)
        super().__init__(engine, clock, {self.carry.name: self.carry, **(more or {})})

    @classmethod
    def open(cls, url: str, clock: Clock, more: Mapping[str, Books] | None = None) -> Store:
        """Open a database whose schema is at this program's version. `more` are businesses beside the product's own.

        Raises OperatorError with one line: URL not understood, not reachable, no, older or newer schema.
        """
        parsed = parse_url(url)
        engine = make_engine(parsed)
        try:
            check_schema(engine, parsed)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine, clock, more)

    @staticmethod
    def upgrade(url: str) -> str:
        """Create the database or bring it to this program's schema; returns the version. Idempotent."""
        from state.upgrade import upgrade  # Alembic takes long to import, and who only trades never needs it

        return upgrade(url)
