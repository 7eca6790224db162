"""The one object through which everything else reads and writes what we know."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Engine

from evenkeel.clock import Clock
from evenkeel.errors import OperatorError
from state.accounts.store import AccountsStore
from state.books import Books
from state.carry.store import CarryStore
from state.engine import check_schema, damage, make_engine, parse_url, shown
from state.hedging.store import HedgingStore
from state.intents import Intents
from state.lanes.lanes import LaneNumbers
from state.leases import Leases
from state.ledger import Ledger
from state.outbox import Outbox
from state.requests.store import Requests
from state.watch import Watch


class Store(Intents, Leases, Ledger, Watch, Outbox):
    """Synchronous and short: each call is one transaction, and is called directly from async code.

    The methods here are the core's and serve every business; what only one business keeps stands under its name
    (`store.carry`, `store.accounts`, `store.hedging`), what people ask for under `store.requests`, numbers that a chain
    asks for in order under `store.lanes`, all on the same connections and clock.
    """

    def __init__(self, engine: Engine, clock: Clock, more: Mapping[str, Books] | None = None) -> None:
        self.carry = CarryStore(engine, clock)
        self.accounts = AccountsStore(engine, clock)
        self.hedging = HedgingStore(engine, clock)
        self.requests = Requests(engine, clock)
        self.lanes = LaneNumbers(engine, clock)
        ours: tuple[CarryStore | AccountsStore | HedgingStore, ...] = (
            self.carry,
            self.accounts,
            self.hedging,
        )
        super().__init__(engine, clock, {**{one.name: one for one in ours}, **(more or {})})
        self.whole: Store = self
        """The ledger of everybody, where this is the view of one account."""
        self.member = ""
        """The account of a fleet whose view this is."""

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

    def require_whole(self, within_s: float = 2.0) -> None:
        """Raise OperatorError where the ledger's file is found to be damaged within so many seconds of the wall."""
        if (found := damage(self._engine, within_s)) is not None:
            raise OperatorError(
                f"the ledger {shown(self._engine.url)} is damaged ({found}): stop every process, then restore a copy "
                '(docs/runbook.md, "Restore a copy")'
            )

    @staticmethod
    def upgrade(url: str) -> str:
        """Create the database or bring it to this program's schema; returns the version. Idempotent."""
        from state.upgrade import upgrade  # Alembic takes long to import, and who only trades never needs it

        return upgrade(url)
