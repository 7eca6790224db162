"""The trading desk: settings, clock, ledger and venue connections that every task is handed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from decimal import Decimal
from typing import TYPE_CHECKING

from evenkeel.clock import Clock, SystemClock, WorldClock
from evenkeel.errors import EvenkeelError, OperatorError, Retryable, VenueRefused
from evenkeel.settings.settings import Settings
from evenkeel.types import VenueName
from state.carry.models import Position
from state.models import Fence
from state.store import Store
from tasks.carry.connect import open_venues
from tasks.carry.prices import stored_price_of
from tasks.health import CallLog
from tasks.leases import OwnLeases
from venues.asgard.venue import AsgardVenue
from venues.hyperliquid.venue import HyperliquidVenue
from venues.protocol import LegVenue

if TYPE_CHECKING:
    from tasks.carry.mark import Mark


class LedgerFault(OperatorError):
    """The ledger itself cannot be used: the kill switch then has another way."""


class Desk:
    """One process's hands: where it reads, writes and trades. Holds live connections, so it is never serialised."""

    def __init__(
        self, settings: Settings, clock: Clock, store: Store, long: AsgardVenue, short: HyperliquidVenue
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.store = store
        self.long = long
        self.short = short
        long.recall_prices(stored_price_of(store))
        self.leases = OwnLeases(store)
        self.health = CallLog(clock)
        """How the venues' servers have answered lately."""
        self.assets: dict[str, str] = {}
        """By position: it never changes, and is asked for with every booking."""
        self.marks_seen: dict[str, Mark] = {}
        """The last prices that stood beside a booking, by asset."""
        self.unopened: Mapping[VenueName, str] = {}
        """Venues whose key could not be opened, and why: of the kill switch's desk alone."""
        self.nameless: Mapping[VenueName, str] = {}
        """Those of them of which not even our account is known: what is read there is not ours."""
        self.staking_seen: dict[str, tuple[int, Decimal | None]] = {}
        """Measured staking yield by asset and the day it was measured on: read from the ledger once a day."""

    def venue(self, name: VenueName) -> LegVenue:
        """The adapter of a venue by its name."""
        return self.long if name is VenueName.ASGARD else self.short

    @asynccontextmanager
    async def sole_writer(self, position_id: str, *, from_living: bool = False) -> AsyncIterator[Fence]:
        """Hold the position's lease. Raises LostRace while another living process holds it, OperatorError with the
        keys of other accounts than the position's: its legs would look as if they had vanished.

        With `from_living` the lease is taken from a living holder too: for the kill switch.
        """
        if (position := self.store.find_position(position_id)) is not None:
            self.check_accounts(position)
        async with self.alone(f"position:{position_id}", position_id, from_living=from_living) as fence:
            yield fence

    def alone(self, name: str, what: str, *, from_living: bool = False) -> AbstractAsyncContextManager[Fence]:
        """Hold a lease by its name. Raises LostRace, naming `what` is busy, while another process holds it."""
        return self.leases.alone(name, what, from_living=from_living)

    def held_elsewhere(self, position_id: str) -> bool:
        """Whether another worker holds the position's lease now."""
        return self.leases.held_elsewhere(f"position:{position_id}")

    @property
    def accounts(self) -> dict[str, str]:
        """Where our legs live: the Hyperliquid account and the Solana wallet. Kept with every position."""
        return {"hyperliquid": self.short.address, "solana": self.long.wallet}

    def check_accounts(self, position: Position) -> None:
        """Raise OperatorError where the position belongs to another account or wallet than our keys."""
        for venue, why in self.nameless.items():
            raise OperatorError(f"our account on {venue.value} is not known: {why}")
        for name, address in position.facts.get("accounts", {}).items():
            if (ours := self.accounts[name]) != address:
                what = "wallet" if name == "solana" else "account"
                raise OperatorError(
                    f"{position.position_id} belongs to the {name} {what} {address}, but the settings are those of "
                    f"{ours}: use the key and the account that opened it"
                )


async def check_hands(desk: Desk) -> None:
    """Before anything is done to positions: our keys are those of their accounts and may still act for them.

    Raises OperatorError on proof of the contrary; a venue that cannot be asked now does not hold up an exit.
    """
    for position in desk.store.positions():
        if position.closed_ms is None:
            desk.check_accounts(position)
    try:
        await desk.short.check_agent()
    except (Retryable, VenueRefused):
        return


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
async def open_desk(settings: Settings) -> AsyncIterator[Desk]:
    """Connect everything, refuse with one clear line where something is missing, close everything at the end."""
    clock = make_clock(settings)
    async with open_venues(settings, clock) as venues:
        store = Store.open(settings.database.url, clock)
        try:
            desk = Desk(settings, clock, store, venues.long, venues.short)
            desk.health = venues.health
            yield desk
        finally:
            store.close()


@asynccontextmanager
async def open_desk_to_close(settings: Settings) -> AsyncIterator[Desk]:
    """The kill switch's desk: one key that opens is enough (`Desk.unopened`). Raises LedgerFault where the ledger cannot
    be used.
    """
    clock = make_clock(settings)
    try:
        store = Store.open(settings.database.url, clock)
    except EvenkeelError as fault:
        raise LedgerFault(str(fault)) from fault
    try:
        try:
            live = [one for one in store.positions() if one.closed_ms is None]
        except EvenkeelError as fault:
            raise LedgerFault(str(fault)) from fault
        known: dict[str, str] = {}
        for position in live:
            known = position.facts.get("accounts", {}) | known
        async with open_venues(settings, clock, known) as venues:
            desk = Desk(settings, clock, store, venues.long, venues.short)
            desk.health, desk.unopened, desk.nameless = venues.health, venues.unopened, venues.nameless
            yield desk
    finally:
        store.close()
