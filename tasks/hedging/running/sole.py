"""One process hedges in a broker's account, whatever ledger it has: two would each hedge the same fills.

Of one ledger the lease sees to it. Of another one three things show it: on the same machine a lock by the account's name, which
the system frees with the process; on any machine the broker's own list of orders, where what carries an id of this program and
is of no order of this ledger was sent by another one; and within the moment before a list shows it, the broker itself, which
takes an id once: the next hedge of a symbol has the same one in every process that hedges the same (`orders.anchor_of`).
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from evenkeel.errors import OperatorError
from state.models import Fence
from state.watch_models import Severity
from tasks.hedging.desk import NO_ANSWER, HedgingDesk
from tasks.hedging.running.silence import HEARTBEAT
from tasks.leases import described, own_name
from venues.broker import SeenOrder

log = logging.getLogger("evenkeel.hedging")
SHARED = "account shared"
"""The alert of an account in which another ledger's process orders: none of ours leaves until a person says that it ended."""
SINCE_MS = 900_000
"""So long after its last order another ledger's process is taken to be there still."""
NEW_MS = 90 * 86_400_000
"""So far back a ledger without a pass looks for orders that it does not know: it may be the second one of this account."""
AGAIN_MS = 20_000
"""So much of what was seen before is asked for again: a list may have an order some seconds late, and clocks differ by some."""
ALL_OF_LATE = 2_000


@asynccontextmanager
async def sole(at: HedgingDesk, what: str) -> AsyncIterator[Fence]:
    """Hold the right to order in the account; yields the fence. Raises LostRace where a process of this ledger has it, and
    OperatorError where one of another ledger is there.
    """
    async with at.desk.leases.exclusive(at.lease, what) as fence:
        with locked(at):
            if why := await shared_with(at, with_open=True):
                raise OperatorError(why)
            yield fence


async def shared_with(at: HedgingDesk, *, with_open: bool = False) -> str:
    """Return that another ledger's process orders in this account, and by which order that is known; "" where none is seen, or
    where the list cannot be read. What was seen holds until a person says that one of the two has ended: which of both ledgers
    knows what is hedged cannot be known here.
    """
    store, now = at.desk.store, at.desk.clock.now_ms()
    said = next((one for one in store.open_alerts_of(at.account) if one.kind == SHARED), None)
    if said is not None:
        return said.text
    is_first = with_open or not at.seen_ms
    since_ms = _known_ms(at, now) if is_first else max(now - SINCE_MS, at.seen_ms - AGAIN_MS)
    try:
        seen = await at.broker.seen_orders(since_ms, with_open=is_first)
    except NO_ANSWER:
        return ""
    other = _not_ours(at, [one for one in seen if one.key not in at.seen_keys])
    if other is None:
        at.seen_ms, at.seen_keys = now, {one.key for one in seen}
        return ""
    state = "is open" if other.is_open else f"was sent {max(now - other.at_ms, 0) // 1000} s ago"
    return _say(at, other, f"{state} and is of no order of this ledger")


def _known_ms(at: HedgingDesk, now_ms: int) -> int:
    """Return since when orders may be there that this ledger lacks: its last pass, or a person's word on the last ones. It may
    have been put back from a copy, or be new.
    """
    passed = [one.at_ms for one in at.desk.store.heartbeats() if one.name == HEARTBEAT]
    return min(now_ms - SINCE_MS, max([_settled_ms(at), *passed, now_ms - NEW_MS + AGAIN_MS]) - AGAIN_MS)


def _settled_ms(at: HedgingDesk) -> int:
    """Return when a person said last that the other process has ended; 0 where nobody had to."""
    mine = [one for one in at.desk.store.alerts() if one.kind == SHARED and one.subject == at.account]
    return max((one.acked_ms or 0 for one in mine), default=0)


def say_taken(at: HedgingDesk) -> None:
    """Alert of orders that the broker had under the id of one of ours before that was sent: each hedges the same, and is booked
    here too. One that this ledger has tried before is its own, and of one that was sent before a person's word all is said.
    """
    while at.broker.taken:
        key, other = at.broker.taken.popitem()
        is_own = at.desk.store.hedging.sent_keys(other.symbol).count(key) > 1
        if not is_own and other.at_ms > _settled_ms(at):
            _say(
                at,
                other,
                "was sent by another process and hedges the same as one of this ledger, which was not taken",
            )


def _say(at: HedgingDesk, other: SeenOrder, what: str) -> str:
    why = (
        f"{at.broker.name}: order {other.key} ({other.side} {other.qty} {other.symbol}) {what}: another process hedges in "
        f"account {at.account} with another ledger (database.url), or this ledger is older than what was done. End one of the "
        f'two, see which ledger has the hedges, then `evenkeel ack "{SHARED}"`'
    )
    at.desk.store.alert(SHARED, Severity.CRITICAL, why, subject=at.account, news=True)
    return why


def _not_ours(at: HedgingDesk, seen: list[SeenOrder]) -> SeenOrder | None:
    """The first order that no attempt of this ledger has the key of."""
    hedging = at.desk.store.hedging
    keys = {symbol: set(hedging.sent_keys(symbol)) for symbol in {one.symbol for one in seen}}
    left = [one for one in seen if one.key not in keys[one.symbol]]
    # Of a stock that the broker calls by another name since, or a conversion of a rebalance.
    late = set(hedging.sent_keys(most=ALL_OF_LATE)) if left else set()
    return next((one for one in left if one.key not in late), None)


@contextmanager
def locked(at: HedgingDesk, what: str = "hedges") -> Iterator[None]:
    """Hold the machine's lock of the account for who hedges or rebalances. Raises OperatorError where another process has it;
    where this system or the folder lets nobody lock there, the broker's list is what is left.
    """
    path = lock_path(at, what)
    if path is None:
        yield
        return
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as fault:
        log.warning("the account's lock %s cannot be opened (%s)", path, fault.strerror)
        yield
        return
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 200).decode(errors="replace").strip() or "another process"
            raise OperatorError(
                f"{holder} {what} in account {at.account} at {at.broker.name} with another ledger (database.url): end it "
                f"first, or give each its own account ({path})"
            ) from None
        os.truncate(file, 0)
        os.write(file, described(own_name()).encode())
        yield
    finally:
        os.close(file)


def lock_path(at: HedgingDesk, what: str = "hedges") -> Path | None:
    """Return where the processes of this machine lock an account: in `database.limits_folder`, else in the folder of temporary
    files. None where there is no account.
    """
    where = {
        "alpaca": at.settings.alpaca.url,
        "alpaca-broker": at.settings.alpaca.url,
        "schwab": at.settings.schwab.url,
    }
    if (url := where.get(at.broker.name)) is None:
        return None
    name = hashlib.sha256(f"{url.rstrip('/').lower()} {at.account}".encode()).hexdigest()[:16]
    folder = at.desk.settings.database.limits_folder
    name += "" if what == "hedges" else f"-{what}"
    return (folder.expanduser() if folder else Path(tempfile.gettempdir())) / f"evenkeel-account-{name}"
