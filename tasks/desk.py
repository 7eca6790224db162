"""The trading desk: settings, clock, ledger and venue connections that every task is handed."""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from evenkeel.clock import Clock, SystemClock, WorldClock
from evenkeel.errors import EvenkeelError, LostRace, OperatorError, Retryable, VenueRefused
from evenkeel.settings.settings import Settings
from evenkeel.types import VenueName
from state.carry.models import Position
from state.models import Fence
from state.store import Store
from tasks.carry.connect import open_venues
from tasks.carry.prices import stored_price_of
from tasks.health import CallLog
from venues.asgard.venue import AsgardVenue
from venues.hyperliquid.venue import HyperliquidVenue
from venues.protocol import LegVenue

if TYPE_CHECKING:
    from tasks.carry.mark import Mark

LEASE_MS = 30_000
"""How long a lease of another host's dead process stands; renewed every second, so that a living one keeps it."""
_LIFE = uuid.uuid4().hex[:8]
"""Tells this program's life from an earlier one that had the same process number, as in a restarted container."""


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
        self._unreleased: dict[str, Fence] = {}
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
    async def sole_writer(self, position_id: str, *, seize: bool = False) -> AsyncIterator[Fence]:
        """Hold the position's lease. Raises LostRace while another living process holds it, OperatorError with the
        keys of other accounts than the position's: its legs would look as if they had vanished.

        `seize` takes the lease from a living holder too, whose next write its fence then refuses: for the kill switch.
        """
        if (position := self.store.find_position(position_id)) is not None:
            self.check_accounts(position)
        async with self.alone(f"position:{position_id}", position_id, seize=seize) as fence:
            yield fence

    @asynccontextmanager
    async def alone(self, name: str, what: str, *, seize: bool = False) -> AsyncIterator[Fence]:
        """Hold a lease by its name. Raises LostRace, naming `what` is busy, while another living process holds it."""
        fence = (
            self._taken_back(name)
            or self.store.acquire(name, _owner(), LEASE_MS)
            or self._take_over(name, seize=seize)
        )
        if fence is None:
            holder = self.store.lease(name)
            raise LostRace(f"{what} is being handled by {holder.owner if holder else 'another process'}")
        renewing = asyncio.create_task(self._keep(fence))
        try:
            yield fence
        finally:
            renewing.cancel()
            try:
                self.store.release(fence)
            except Retryable:  # it must not stand in our own way when we come back
                self._unreleased[name] = fence

    def held_elsewhere(self, position_id: str) -> bool:
        """Whether another worker holds the position's lease now."""
        holder = self.store.lease(f"position:{position_id}")
        return holder is not None and bool(holder.owner) and holder.expires_ms > self.clock.now_ms()

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

    def _taken_back(self, name: str) -> Fence | None:
        """A lease of ours that a busy ledger kept us from giving back; None where it has moved on."""
        mine = self._unreleased.get(name)
        fence = None if mine is None else self.store.take_over(name, _owner(), LEASE_MS, mine)
        self._unreleased.pop(name, None)
        return fence

    def _take_over(self, name: str, *, seize: bool) -> Fence | None:
        """Take the lease of a process of this host that is no longer alive; a fence protects us if it is."""
        holder = self.store.lease(name)
        if holder is None or not holder.owner:
            return None
        if seize:
            return self.store.take_over(name, _owner(), LEASE_MS, Fence(name, holder.token))
        if not holder_is_gone(holder.owner):
            return None
        return self.store.take_over(name, _owner(), LEASE_MS, Fence(name, holder.token))

    async def _keep(self, fence: Fence) -> None:
        """Renew by wall time: the work inside may wait in world time, which can run faster."""
        while True:
            await asyncio.sleep(1.0)
            try:
                self.store.renew(fence, LEASE_MS)
            except Retryable:  # busy: within LEASE_MS that is some thirty tries, three where each waits out the ledger's 10 s
                continue
            except LostRace:  # whatever is written next with this fence says so
                return


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


def _owner() -> str:
    """Who we are in leases: host and process, so that a later process on this host can tell whether we still live.

    Asked for each time, because a forked worker is another process with the same memory.
    """
    return f"{socket.gethostname()}:{os.getpid()}:{_LIFE}"


def holder_is_gone(owner: str) -> bool:
    """Whether a lease's owner was a process of this host that runs no more; of another host nobody here can tell."""
    host, pid, life = [*owner.split(":"), "", ""][:3]
    return host == socket.gethostname() and pid.isdigit() and not _alive(int(pid), life)


def _alive(pid: int, life: str) -> bool:
    if pid == os.getpid():
        return life == _LIFE
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Killed but not yet buried by its parent: it runs no more, whatever `kill` says."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # no such file system here, or gone in between
        return False
    return state[:1] == ["Z"]


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
