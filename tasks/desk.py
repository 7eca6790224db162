"""The trading desk of a business: settings, clock, ledger, leases and venues by name, which every task is given."""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from evenkeel.clock import Clock, SystemClock, WorldClock
from evenkeel.errors import Bug, LostRace, OperatorError, Retryable
from evenkeel.settings.settings import Settings
from state.models import Fence
from state.store import Store
from tasks.booking import Bookkeeper
from tasks.health import CallLog
from venues.protocol import OrderVenue

LEASE_MS = 30_000
"""How long a lease of another host's dead process stands; renewed every second, so that a living one keeps it."""
_LIFE = uuid.uuid4().hex[:8]
"""Tells this program's life from an earlier one that had the same process number, as in a restarted container."""


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
        self._unreleased: dict[str, Fence] = {}
        self.health = CallLog(clock)
        """How the venues' servers have answered lately."""

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

    def held_elsewhere(self, name: str) -> bool:
        """Whether another worker holds this lease now."""
        holder = self.store.lease(name)
        return holder is not None and bool(holder.owner) and holder.expires_ms > self.clock.now_ms()

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
