"""Whose turn it is to write: takes the ledger's leases, keeps them while the work lasts, and judges who else holds one."""

from __future__ import annotations

import asyncio
import os
import socket
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from threading import Lock

from evenkeel.errors import LostRace, OperatorError, Retryable
from state.models import Fence, Lease
from state.store import Store

LEASE_MS = 30_000
"""How long a lease stands whose holder cannot be judged from here; renewed every second, so that a living one keeps it."""
RENEW_EVERY_S = 1.0
_LIFE = uuid.uuid4().hex[:8]
"""Distinguishes this program's life from an earlier one that had the same process number, as in a restarted container."""
_PROC = Path("/proc")
_taking = Lock()
_in_use: set[Fence] = set()
"""What some part of this process holds now. Another lease in its name is one that a busy ledger kept it from giving back."""


class HolderState(Enum):
    """What this process knows of the holder of a lease."""

    ALIVE = "alive"
    GONE = "gone"
    UNKNOWN = "unknown"
    """It runs elsewhere, or this system does not say: only the end of its time frees the lease."""


class OwnLeases:
    """The leases that this process takes in one ledger."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sighted: dict[str, tuple[int, int, float]] = {}
        """Of each lease whose holder cannot be judged: token, expiry, and since when, by our own time, it was seen so."""

    @asynccontextmanager
    async def exclusive(self, name: str, what: str, *, from_living: bool = False) -> AsyncIterator[Fence]:
        """Hold the lease `name`, renewed by wall time, and give it back at the end. Yields the fence for every write.

        A lease is taken when it is free, and when its holder is a process of this machine that is gone. A holder that cannot be
        judged from here loses it once nothing has renewed it before our eyes: for three renewals where it has expired by the
        database's clock, for LEASE_MS where it has not (either clock may have been set). With `from_living` it is taken from
        any holder, whose next write its fence then refuses: for the kill switch. Raises LostRace, with `what` and its holder,
        while another holds it.
        """
        proof_s = 0.0
        while True:
            with _taking:
                if (fence := self._taken(name, from_living=from_living)) is not None:
                    _in_use.add(fence)
            if fence is not None:
                break
            if proof_s or not (proof_s := self._until_proof_s(name)):
                raise LostRace(self._held_by(name, what))
            await asyncio.sleep(proof_s)
        renewing = asyncio.create_task(self._renew(fence))
        try:
            yield fence
        finally:
            renewing.cancel()
            _in_use.discard(fence)
            with suppress(Retryable):  # busy: then whoever of this process comes next takes it back
                self._store.release(fence)

    def held_elsewhere(self, name: str) -> bool:
        """Whether somebody holds the lease now: who is alive on this machine, or cannot be judged and has time left."""
        lease = self._store.lease(name)
        if lease is None or not lease.owner:
            return False
        state = _state_of(lease)
        return state is HolderState.ALIVE or (state is HolderState.UNKNOWN and not self._has_expired(lease))

    def _taken(self, name: str, *, from_living: bool) -> Fence | None:
        """The lease, where its holder as seen now lets us take it; None also where it moved on since we looked."""
        lease = self._store.lease(name)
        seen = Fence(name, lease.token if lease else 0)
        if lease is not None and lease.owner:
            state = _state_of(lease)
            if from_living or state is HolderState.GONE:
                return self._store.take_over(name, own_name(), LEASE_MS, seen)
            if state is HolderState.ALIVE:
                return None
            needed_s = 3 * RENEW_EVERY_S if self._has_expired(lease) else LEASE_MS / 1000
            if self._unrenewed_s(lease) < needed_s:
                return None
            return self._store.take_over(name, own_name(), LEASE_MS, seen)
        return self._store.acquire(name, own_name(), LEASE_MS, seen=seen.token)

    def _unrenewed_s(self, lease: Lease) -> float:
        """For how long this process has seen the lease as it is now."""
        now_s = time.monotonic()
        token, expires_ms, since_s = self._sighted.get(lease.name, (0, 0, now_s))
        if (token, expires_ms) != (lease.token, lease.expires_ms):
            since_s = now_s
        self._sighted[lease.name] = lease.token, lease.expires_ms, since_s
        return now_s - since_s

    def _until_proof_s(self, name: str) -> float:
        """How long to wait for the proof that an expired lease is not renewed; 0 where it is held."""
        lease = self._store.lease(name)
        if lease is None or not lease.owner or _state_of(lease) is not HolderState.UNKNOWN:
            return 0.0
        return max(3 * RENEW_EVERY_S - self._unrenewed_s(lease), 0.001) if self._has_expired(lease) else 0.0

    def _held_by(self, name: str, what: str) -> str:
        lease = self._store.lease(name)
        if lease is None or not lease.owner:
            return f"{what} was being handled by another process just now: try again"
        holder = described(lease.owner)
        if self._has_expired(lease) and _state_of(lease) is HolderState.ALIVE:
            return (
                f"{what} is being handled by {holder}, which is alive and has not renewed its lease for "
                f"{(self._store.database_ms() - lease.expires_ms + LEASE_MS) // 1000} s: stop that process, or run "
                "`evenkeel flatten`, which takes the lease over"
            )
        return f"{what} is being handled by {holder}"

    def _has_expired(self, lease: Lease) -> bool:
        return lease.expires_ms <= self._store.database_ms()

    async def _renew(self, fence: Fence) -> None:
        """Renew by wall time: the work inside may wait in world time, which can run faster."""
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            try:
                self._store.renew(fence, LEASE_MS)
            except Retryable:  # busy: within LEASE_MS that is some thirty tries, three where each waits out the ledger's 10 s
                continue
            except (LostRace, OperatorError):  # whatever is written next with this fence says so
                return


def _state_of(lease: Lease) -> HolderState:
    """The state of a lease's holder; one that this process holds and no part of it uses is as good as given back."""
    if lease.owner == own_name() and (lease.name, lease.token) not in _in_use:
        return HolderState.GONE
    return state_of_holder(lease.owner or "")


@dataclass(frozen=True)
class _Owner:
    """A process as a lease names it. Without the last three, nobody else can judge whether it lives."""

    host: str
    pid: int
    life: str
    boot: str = ""
    namespace: str = ""
    start: str = ""

    @classmethod
    def parsed(cls, owner: str) -> _Owner | None:
        parts = owner.split(":")
        if len(parts) not in (3, 6) or not parts[1].isdigit():
            return None
        return cls(parts[0], int(parts[1]), *parts[2:])

    @property
    def text(self) -> str:
        parts = [self.host, str(self.pid), self.life]
        return ":".join([*parts, self.boot, self.namespace, self.start] if self.boot else parts)


def own_name() -> str:
    """Who we are in leases: host, process and life; where this system has them, also its boot, its namespaces of process
    numbers and of times, and when the process started, so that another process there can judge whether we still live.
    """
    return _own().text


def state_of_holder(owner: str) -> HolderState:
    """What is known here of the process that a lease names: only one of this machine's boot and namespace is judged."""
    holder, own = _Owner.parsed(owner), _own()
    if holder is None:
        return HolderState.UNKNOWN
    if (holder.host, holder.pid, holder.life, holder.start) == (own.host, own.pid, own.life, own.start):
        return HolderState.ALIVE
    if not own.boot or (holder.boot, holder.namespace) != (own.boot, own.namespace):
        return HolderState.UNKNOWN
    if (
        holder.pid == own.pid
    ):  # an earlier process of our number, or what this one was before it became this program
        return HolderState.GONE
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return HolderState.GONE
    except PermissionError:
        pass  # it is there and another user's
    found = _stat(holder.pid)
    if found is None:  # gone in between, or hidden from us
        return HolderState.UNKNOWN
    running, start = found
    return HolderState.ALIVE if running and start == holder.start else HolderState.GONE


def described(owner: str) -> str:
    """A lease's owner in words."""
    holder = _Owner.parsed(owner)
    return f"process {holder.pid} on {holder.host}" if holder else owner


def _own() -> _Owner:
    return _read_once(_PROC)


@cache
def _read_once(proc: Path) -> _Owner:
    host, pid = socket.gethostname().replace(":", "-"), os.getpid()
    found = _stat(pid)
    try:
        boot = (proc / "sys/kernel/random/boot_id").read_text().strip()
        # A process's start is given in the time of whoever asks, which a namespace of times may shift.
        namespace = "-".join(
            "".join(filter(str.isdigit, (proc / "self/ns" / kind).readlink().name))
            for kind in ("pid", "time")
        )
        # A /proc of other numbers than ours, mounted before this namespace was made, shows other processes.
        shows_ours = (proc / "self").readlink().name == str(pid)
    except OSError:  # no such file system here
        return _Owner(host, pid, _LIFE)
    if found is None or not boot or not shows_ours:
        return _Owner(host, pid, _LIFE)
    return _Owner(host, pid, _LIFE, boot, namespace, found[1])


os.register_at_fork(after_in_child=_read_once.cache_clear)  # another process with the same memory


def _stat(pid: int) -> tuple[bool, str] | None:
    """Whether a process runs, and when it started, in ticks since boot; None where that cannot be read.

    One that has ended and whose parent has not asked for its exit code yet is still listed, and runs no more.
    """
    try:
        # The program's name stands in brackets and may hold any character; https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (fields[0] not in ("Z", "X"), fields[19]) if len(fields) > 19 else None
