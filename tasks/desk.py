"""The trading desk of a business: settings, clock, ledger, leases and venues by name, which every task is given."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from evenkeel.clock import Clock, SystemClock, WorldClock
from evenkeel.errors import Bug, OperatorError
from evenkeel.settings.settings import Settings
from state.models import Fence
from state.store import Store
from tasks.booking import Bookkeeper
from tasks.channels import Notifier
from tasks.health import CallLog
from tasks.leases import OwnLeases
from venues.protocol import OrderVenue
from venues.reading import Oddities


class LedgerFault(OperatorError):
    """The ledger itself cannot be used: the kill switch then has another way."""


class Desk:
    """Where one process reads, writes and trades for one business. It holds live connections, so it is never serialised.

    `venues` and `bookkeepers` go by name: an unknown name is an error, never a default.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        store: Store,
        venues: Mapping[str, OrderVenue],
        bookkeepers: Mapping[str, Bookkeeper],
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.store = store
        self.venues = dict(venues)
        self.bookkeepers = dict(bookkeepers)
        self.leases = OwnLeases(store)
        self.health = CallLog(clock)
        """How the venues' servers have answered lately."""
        self.notifier = Notifier(clock)
        """Says what the ledger cannot keep."""
        store.unstored = store.whole.unstored = self.notifier.unstored
        self.oddities = Oddities()
        """What of the venues' last answers could not be read."""

    def venue(self, name: str) -> OrderVenue:
        """The adapter of a venue by its name. Raises OperatorError for one that this desk has not opened."""
        try:
            return self.venues[name]
        except KeyError:
            raise OperatorError(
                f"venue {name!r} is not open at this desk, which has {sorted(self.venues)}: use the command of the "
                "business that trades there"
            ) from None

    def bookkeeper(self, business: str) -> Bookkeeper:
        """Who books for a business. Raises Bug for one that this desk does not serve."""
        try:
            return self.bookkeepers[business]
        except KeyError:
            raise Bug(
                f"nobody at this desk books for {business!r}; it serves {sorted(self.bookkeepers)}"
            ) from None

    def exclusive(
        self, name: str, what: str, *, from_living: bool = False
    ) -> AbstractAsyncContextManager[Fence]:
        """Hold a lease by its name. Raises LostRace, naming `what` is busy, while another process holds it."""
        return self.leases.exclusive(name, what, from_living=from_living)

    def held_elsewhere(self, name: str) -> bool:
        """Whether another worker holds this lease now."""
        return self.leases.held_elsewhere(name)


def make_clock(settings: Settings) -> Clock:
    """The system's clock, or that of the twins' world where the settings name one."""
    if not settings.clock.world_url:
        return SystemClock()
    try:
        return WorldClock(settings.clock.world_url)
    except Exception as error:
        raise OperatorError(
            f"the world clock {settings.clock.world_url} does not answer ({type(error).__name__}); start the twins "
            "(`evenkeel twins serve`) or remove clock.world_url from the settings"
        ) from error


@asynccontextmanager
async def opened_ledger(settings: Settings) -> AsyncIterator[Store]:
    """The ledger of these settings on a clock that was read, closed at the end. Raises OperatorError where there is none."""
    store = Store.open(settings.database.url, make_clock(settings))
    try:
        await store.clock.refresh()
        yield store
    finally:
        store.close()
