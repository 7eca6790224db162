"""The one object through which everything else reads and writes what we know."""

from __future__ import annotations

from evenkeel.clock import Clock
from state.acknowledgements import Acknowledgements
from state.carry.positions import Positions
from state.carry.truth import Truth
from state.engine import check_schema, make_engine, parse_url
from state.intents import Intents
from state.leases import Leases
from state.ledger import Ledger
from state.watch import Watch


class Store(Positions, Intents, Leases, Ledger, Truth, Watch, Acknowledgements):
    """Synchronous and short: each call is one transaction, and is called directly from async code."""

    @classmethod
    def open(cls, url: str, clock: Clock) -> Store:
        """Open a database whose schema is at this program's version.

        Raises OperatorError with one line: URL not understood, not reachable, no, older or newer schema.
        """
        parsed = parse_url(url)
        engine = make_engine(parsed)
        try:
            check_schema(engine, parsed)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine, clock)

    @staticmethod
    def upgrade(url: str) -> str:
        """Create the database or bring it to this program's schema; returns the version. Idempotent."""
        from state.upgrade import upgrade  # Alembic takes long to import, and who only trades never needs it

        return upgrade(url)
