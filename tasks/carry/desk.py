"""The desk of the carry trade: the core's, with the venues of both legs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import NamedTuple, TypeVar

from evenkeel.clock import Clock
from evenkeel.errors import UNREAD, EvenkeelError, OperatorError, Retryable, words_of
from evenkeel.legs import CARRY, LegSide, PositionStatus
from evenkeel.settings.settings import Settings
from state.carry.models import Position
from state.fleet.member import MemberStore
from state.models import Fence
from state.store import Store
from tasks.carry.booking import CarryBookkeeper
from tasks.carry.connect import Connections, Venues, open_connections, open_venues, venues_on
from tasks.carry.fleet.carried import Carried
from tasks.carry.fleet.danger import Danger
from tasks.carry.fleet.ticks import Ticks
from tasks.carry.positions import position_meant
from tasks.carry.prices import stored_price_of
from tasks.carry.stored_needs import stored_needs, use_stored_needs
from tasks.desk import Desk, LedgerFault, make_clock
from tasks.messages.connect import usable_channels
from venues.asgard.venue import AsgardVenue
from venues.hyperliquid.stream import PriceStream
from venues.protocol import LegVenue, PerpVenue
from venues.shared import SharedReads
from venues.timing import VenueTime

T = TypeVar("T")
log = logging.getLogger("evenkeel.desk")


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


OPENED_AT_ONCE = 4
"""Accounts whose keys are opened at a time: each takes some tenths of a second of a processor and 128 MB for that long."""


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
        self.writing_turn = asyncio.Lock()
        """Whose turn it is to write down what a tick found: the same for all accounts of a process."""
        self.ticks = Ticks(store.whole)
        """What ticks leave in the ledger: the same for all accounts of a process."""
        self.danger = Danger(clock, short.budget, float(settings.strategy.breach_poll_interval_s))
        """How near liquidation each position is: the same for all accounts of a process."""
        self.carried = Carried()
        """What Asgard stated last of each long leg, for looks at its lender's accounts."""
        self.stream: PriceStream | None = None
        """Prices as the venue pushes them, for whoever watches: the same for all accounts of a process."""
        self.beside = 1
        """How many accounts are watched in this process, on the same request budgets."""
        self.without_key: Mapping[str, str] = {}
        """Venues whose key could not be opened, and why: of the kill switch's desk alone."""
        self.unidentified: Mapping[str, str] = {}
        """Those of them of which not even our account is known: what is read there is not ours."""
        self._checked: set[str] = set()
        """Positions that were found to be of our accounts."""
        self.chain_time = VenueTime(clock)
        """Solana's clock, by the stamps of its blocks."""
        self.staking_seen: dict[str, tuple[int, Decimal | None]] = {}
        """Measured staking yield by asset and the day it was measured on: read from the ledger once a day."""
        self.market_hours: dict[str, int] = {}
        """By perpetual, the hour whose rates and prices are kept: the same for all accounts of a process."""
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
        new = position_id not in self._checked  # neither its accounts nor our keys change
        if new and (position := self.store.carry.find_position(position_id)) is not None:
            self.check_accounts(position)
            self._checked.add(position_id)
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
    settings: Settings,
    *,
    position_id: str | None = None,
    among: Sequence[PositionStatus] = (),
    account: str | None = None,
) -> AsyncIterator[CarryDesk]:
    """Connect everything, refuse with one clear line where something is missing, close everything at the end. Of a fleet the
    desk is that of the position, by its name or as the only one whose status is `among` those given, else of the account that
    is named here or in the settings.
    """
    if settings.fleet and (position_id or among):
        settings = settings_for_position(settings, position_id, among)
    async with open_desks(settings.for_account(account or "")) as desks:
        yield desks[0]


@asynccontextmanager
async def open_desks(
    settings: Settings, without: Callable[[str, EvenkeelError], None] | None = None
) -> AsyncIterator[list[CarryDesk]]:
    """A desk for each account that the settings mean, on the same ledger and connections: of a fleet all of them, or the one
    that is named. Closes everything at the end.

    An account of several whose keys cannot be opened, or which has the wallet or the account of another, is left out where
    `without` is given, which gets its name and why.
    """
    clock = make_clock(settings)
    async with open_connections(settings, clock) as connected:
        each = await _opened(connected, settings.each_account(), clock, without)
        if len(each) > 1:
            connected.share(SharedReads(clock, SHARED_FOR_MS))
        store = Store.open(settings.database.url, clock)
        try:
            desks = [_desk(one, clock, store, venues) for one, venues in each]
            for desk in desks:
                desk.beside, desk.books_turn, desk.ticks = len(desks), desks[0].books_turn, desks[0].ticks
                desk.danger, desk.stream = desks[0].danger, connected.stream
                desk.writing_turn = desks[0].writing_turn
                desk.expected_funding, desk.staking_seen = desks[0].expected_funding, desks[0].staking_seen
                desk.market_hours = desks[0].market_hours
            desks[0].ticks.together = len(desks) > 1
            async with usable_channels(settings) as channels:
                for desk in desks:
                    desk.notifier.channels = channels
                try:
                    yield desks
                finally:
                    desks[0].ticks.close()
                    await desks[0].danger.close()
                    for desk in desks:
                        await desk.notifier.flushed()
        finally:
            store.close()


async def _opened(
    connected: Connections,
    meant: Sequence[Settings],
    clock: Clock,
    without: Callable[[str, EvenkeelError], None] | None,
) -> list[tuple[Settings, Venues]]:
    """The accounts in their order, each with its keys: a few are opened at a time."""
    limit = asyncio.Semaphore(OPENED_AT_ONCE)

    async def opened(one: Settings) -> Venues | EvenkeelError:
        async with limit:
            try:
                return await venues_on(connected, one, clock)
            except (OperatorError, Retryable) as fault:
                return fault

    each: list[tuple[Settings, Venues]] = []
    faults: list[EvenkeelError] = []
    owners: dict[str, str] = {}
    for one, found in zip(meant, await asyncio.gather(*map(opened, meant)), strict=True):
        fault = found if isinstance(found, EvenkeelError) else _shared(owners, one.of_account, found)
        if fault is None and isinstance(found, Venues):
            each.append((one, found))
        elif fault is not None:
            if without is None or len(meant) == 1:
                raise fault
            faults.append(fault)
            without(one.of_account, fault)
    if not each:
        raise OperatorError(f"no account of the fleet has keys that can be opened; the first: {faults[0]}")
    return each


def _shared(owners: dict[str, str], name: str, venues: Venues) -> OperatorError | None:
    """The fault of an account that has the wallet or the account of one before it; else it is noted as their owner's."""
    held = {f"the wallet {venues.long.wallet}": name, f"the Hyperliquid account {venues.short.address}": name}
    for what in held:
        if what in owners:
            return OperatorError(
                f"{owners[what]} and {name} both have {what}: give each account of [[fleet]] its own"
            )
    owners.update(held)
    return None


async def of_each(
    desks: Sequence[CarryDesk], ask: Callable[[CarryDesk], Awaitable[T]], faults: dict[str, str]
) -> list[tuple[CarryDesk, T]]:
    """The answer of each account in turn. Of a fleet one at which something fails keeps no other from its own: it is put into
    `faults` with why. Raises what fails at a single account.
    """
    alone = len(desks) == 1 and not faults
    answers = []
    for desk in desks:
        try:
            answers.append((desk, await ask(desk)))
        except Exception as fault:
            if alone:
                raise
            log.warning("%s: %s", desk.store.member, words_of(fault))
            log.debug("a fault", exc_info=fault)
            faults[desk.store.member] = words_of(fault)
    return answers


def noted_in(faults: dict[str, str]) -> Callable[[str, EvenkeelError], None]:
    """What puts an account that is left out into `faults`, for `open_desks`."""
    return lambda name, fault: faults.update({name: str(fault)})


def named_faults(faults: Mapping[str, str]) -> dict[str, str]:
    """Accounts at which something failed, as an answer of several names them beside venues that cannot be read."""
    return {f"account@{name}": why for name, why in faults.items()}


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


def settings_for_position(
    settings: Settings, position_id: str | None, among: Sequence[PositionStatus] = ()
) -> Settings:
    """The settings of the account whose position this is, or which holds the only one `among` these. Raises OperatorError for a
    position that is no account's of the fleet, and where it is not known which is meant.
    """
    store = Store.open(settings.database.url, make_clock(settings))
    try:
        position = position_meant(store if position_id else ledger_of(settings, store), position_id, among)
    except OperatorError as fault:
        names = ", ".join(one.name for one in settings.fleet)
        raise OperatorError(
            str(fault) if position_id else f"{fault}; the fleet's accounts: {names}"
        ) from None
    finally:
        store.close()
    name = settings.account_of(position.short_account)
    if not name:
        raise OperatorError(
            f"{position.position_id} belongs to the account {position.short_account}, which is none of the fleet's: "
            "name it under [[fleet]]"
        )
    return settings.for_account(name)


@asynccontextmanager
async def open_desk_to_close(settings: Settings, store: Store | None = None) -> AsyncIterator[CarryDesk]:
    """The kill switch's desk: one key that opens is enough (`CarryDesk.without_key`). `store`: an open ledger, which stays
    open at the end. Raises LedgerFault where the ledger cannot be used.
    """
    settings = settings.for_account()
    if store is None:
        clock = make_clock(settings)
        try:
            opened = Store.open(settings.database.url, clock)
        except EvenkeelError as fault:
            raise LedgerFault(str(fault)) from fault
        try:
            async with open_desk_to_close(settings, opened) as desk:
                yield desk
        finally:
            opened.close()
        return
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
    async with open_venues(settings, store.clock, known) as venues:
        yield _desk(settings, store.clock, store, venues)
