"""The desk of the carry trade: the core's, with the venues of both legs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import NamedTuple

from evenkeel.clock import Clock
from evenkeel.errors import UNREAD, EvenkeelError, OperatorError
from evenkeel.legs import CARRY, LegSide
from evenkeel.settings.settings import Settings
from state.carry.models import Position
from state.fleet.member import MemberStore
from state.models import Fence
from state.store import Store
from tasks.carry.booking import CarryBookkeeper
from tasks.carry.connect import Venues, open_connections, open_venues, venues_on
from tasks.carry.prices import stored_price_of
from tasks.carry.stored_needs import stored_needs, use_stored_needs
from tasks.desk import Desk, LedgerFault, make_clock
from tasks.messages.connect import usable_channels
from venues.asgard.venue import AsgardVenue
from venues.protocol import LegVenue, PerpVenue
from venues.shared import SharedReads
from venues.timing import VenueTime


class Accounts(NamedTuple):
    """Where both legs live; kept with every position."""

    long_venue: str
    long_account: str
    short_venue: str
    short_account: str


@dataclass(frozen=True, slots=True)
class LastMean:
    """Expected funding as it was read last, and when; `tried_ms` is the last try, whether it was answered or not.
    `day_hourly` is the mean of the last day alone, `settled_hourly` the last settled hour's rate.
    """

    rate_hourly: Decimal | None
    read_ms: int
    tried_ms: int
    day_hourly: Decimal | None = None
    settled_hourly: Decimal | None = None


SHARED_FOR_MS = 500
"""So old the market's figures may be that another account of this process has read: they are older on their way here."""


def lease_of(position_id: str) -> str:
    """The name of the lease that lets one worker write a position."""
    return f"position:{position_id}"


class CarryDesk(Desk):
    """The long leg's venue, the short leg's, and what a process remembers of both between two ticks."""

    def __init__(
        self, settings: Settings, clock: Clock, store: Store, long: AsgardVenue, short: PerpVenue
    ) -> None:
        self.books = CarryBookkeeper(store, clock, long, short)
        super().__init__(settings, clock, store, {long.name: long, short.name: short}, {CARRY: self.books})
        self.long = long
        self.short = short
        long.use_stored_prices(stored_price_of(store))
        use_stored_needs(partial(stored_needs, store), long, short)
        self.books_turn = asyncio.Semaphore(1)
        """Whose turn it is to read its books' part of the venues' ledgers: the same for all accounts of a process."""
        self.beside = 1
        """How many accounts are watched in this process, on the same request budgets."""
        self.without_key: Mapping[str, str] = {}
        """Venues whose key could not be opened, and why: of the kill switch's desk alone."""
        self.unidentified: Mapping[str, str] = {}
        """Those of them of which not even our account is known: what is read there is not ours."""
        self.chain_time = VenueTime(clock)
        """Solana's clock, by the stamps of its blocks."""
        self.staking_seen: dict[str, tuple[int, Decimal | None]] = {}
        """Measured staking yield by asset and the day it was measured on: read from the ledger once a day."""
        self.expected_funding: dict[str, LastMean] = {}
        """Of each perpetual, the mean of its settled funding: read from the venue once an hour."""

    def leg_venue(self, side: LegSide) -> LegVenue:
        """The venue of one leg."""
        return self.long if side is LegSide.LONG else self.short

    @property
    def accounts(self) -> Accounts:
        """Our accounts on both venues, as `Position` keeps them."""
        return Accounts(self.long.name, self.long.wallet, self.short.name, self.short.address)

    @asynccontextmanager
    async def sole_writer(self, position_id: str, *, from_living: bool = False) -> AsyncIterator[Fence]:
        """Hold the position's lease. Raises LostRace while another living process holds it, OperatorError with the
        keys of other accounts than the position's: its legs would look as if they had vanished.

        With `from_living` the lease is taken from a living holder too: for the kill switch.
        """
        if (position := self.store.carry.find_position(position_id)) is not None:
            self.check_accounts(position)
        async with self.exclusive(lease_of(position_id), position_id, from_living=from_living) as fence:
            yield fence

    def written_elsewhere(self, position_id: str) -> bool:
        """Whether another worker holds the position's lease now."""
        return self.held_elsewhere(lease_of(position_id))

    def check_accounts(self, position: Position) -> None:
        """Raise OperatorError where the position belongs to another account or wallet than our keys."""
        for venue, why in self.unidentified.items():
            raise OperatorError(f"our account on {venue} is not known: {why}")
        ours = self.accounts
        for venue, theirs, mine, what in (
            (position.short_venue, position.short_account, ours.short_account, "account"),
            (position.long_venue, position.long_account, ours.long_account, "wallet"),
        ):
            if theirs and theirs != mine:
                raise OperatorError(
                    f"{position.position_id} belongs to the {venue} {what} {theirs}, but the settings are those of "
                    f"{mine}: use the key and the account that opened it"
                )


async def check_keys(desk: CarryDesk) -> None:
    """Before anything is done to positions: our keys are those of their accounts and may still act for them.

    Raises OperatorError on proof of the contrary; a venue that cannot be asked now does not hold up an exit.
    """
    for position in desk.store.carry.positions():
        if position.closed_ms is None:
            desk.check_accounts(position)
    try:
        await desk.short.check_agent()
    except UNREAD:
        return


@asynccontextmanager
async def open_desk(
    settings: Settings, *, position_id: str | None = None, account: str | None = None
) -> AsyncIterator[CarryDesk]:
    """Connect everything, refuse with one clear line where something is missing, close everything at the end. Of a fleet the
    desk is that of the position, else of the account that is named here or in the settings.
    """
    if settings.fleet and position_id:
        settings = settings_for_position(settings, position_id)
    async with open_desks(settings.for_account(account or "")) as desks:
        yield desks[0]


@asynccontextmanager
async def open_desks(
    settings: Settings, without: Callable[[str, OperatorError], None] | None = None
) -> AsyncIterator[list[CarryDesk]]:
    """A desk for each account that the settings mean, on the same ledger and connections: of a fleet all of them, or the one
    that is named. Closes everything at the end.

    An account of several whose keys cannot be opened is left out where `without` is given, which gets its name and why.
    """
    clock = make_clock(settings)
    async with open_connections(settings, clock) as connected:
        each: list[tuple[Settings, Venues]] = []
        meant = settings.each_account()
        for one in meant:
            try:
                each.append((one, await venues_on(connected, one, clock)))
            except OperatorError as fault:
                if without is None or len(meant) == 1:
                    raise
                without(one.of_account, fault)
        if not each:
            raise OperatorError("no account of the fleet has keys that can be opened")
        if len(each) > 1:
            connected.share(SharedReads(clock, SHARED_FOR_MS))
        store = Store.open(settings.database.url, clock)
        try:
            desks = [_desk(one, clock, store, venues) for one, venues in each]
            for desk in desks:
                desk.beside, desk.books_turn = len(desks), desks[0].books_turn
                desk.expected_funding, desk.staking_seen = desks[0].expected_funding, desks[0].staking_seen
            async with usable_channels(settings) as channels:
                for desk in desks:
                    desk.notifier.channels = channels
                try:
                    yield desks
                finally:
                    for desk in desks:
                        await desk.notifier.flushed()
        finally:
            store.close()


def _desk(settings: Settings, clock: Clock, store: Store, venues: Venues) -> CarryDesk:
    """The desk of one account: of a fleet's, it sees its own part of the ledger alone."""
    long, short = venues.long, venues.short
    if settings.of_account:
        store = MemberStore(store, settings.of_account, (short.address, long.wallet))
    desk = CarryDesk(settings, clock, store, long, short)
    desk.health, desk.oddities = venues.health, venues.oddities
    desk.without_key, desk.unidentified = venues.without_key, venues.unidentified
    return desk


def ledger_of(settings: Settings, whole: Store) -> Store:
    """The ledger as the settings mean it: the part of the account that they name, else the whole. No key is opened."""
    meant = settings.for_account() if settings.account else settings
    if not meant.of_account:
        return whole
    return MemberStore(whole, meant.of_account, (meant.hyperliquid.account_address,))


def settings_for_position(settings: Settings, position_id: str) -> Settings:
    """The settings of the account whose position this is. Raises OperatorError for a position that is no account's of the
    fleet; one that is not known is left to whoever asks for it by name.
    """
    store = Store.open(settings.database.url, make_clock(settings))
    try:
        position = store.carry.find_position(position_id)
    finally:
        store.close()
    if position is None:
        raise OperatorError(f"no position is named {position_id!r}; `evenkeel positions` lists them")
    name = settings.account_of(position.short_account)
    if not name:
        raise OperatorError(
            f"{position_id} belongs to the account {position.short_account}, which is none of the fleet's: "
            "name it under [[fleet]]"
        )
    return settings.for_account(name)


@asynccontextmanager
async def open_desk_to_close(settings: Settings) -> AsyncIterator[CarryDesk]:
    """The kill switch's desk: one key that opens is enough (`CarryDesk.without_key`). Raises LedgerFault where the ledger
    cannot be used.
    """
    settings = settings.for_account()
    clock = make_clock(settings)
    try:
        store = Store.open(settings.database.url, clock)
    except EvenkeelError as fault:
        raise LedgerFault(str(fault)) from fault
    try:
        try:
            live = [one for one in store.carry.positions() if one.closed_ms is None]
            if settings.of_account:
                live = [one for one in live if settings.account_of(one.short_account) == settings.of_account]
        except EvenkeelError as fault:
            raise LedgerFault(str(fault)) from fault
        known: dict[str, str] = {}
        for position in live:
            known = {
                name: account
                for name, account in (
                    (position.short_venue, position.short_account),
                    (position.long_venue, position.long_account),
                )
                if account
            } | known
        async with open_venues(settings, clock, known) as venues:
            yield _desk(settings, clock, store, venues)
    finally:
        store.close()
