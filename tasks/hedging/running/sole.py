"""One process hedges in a broker's account, whatever ledger it has: two would each hedge the same fills.

Of one ledger the lease sees to it. Of another one two things show it: on the same machine a lock by the account's name, which
the system frees with the process; on any machine the broker's own list of orders, where what carries an id of this program and
is of no order of this ledger was sent by another one.
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
from tasks.leases import described, own_name
from venues.broker import SeenOrder

log = logging.getLogger("evenkeel.hedging")
SHARED = "account shared"
"""The alert of an account in which another ledger's process orders: none of ours leaves until a person says that it ended."""
SINCE_MS = 900_000
"""So long after its last order another ledger's process is taken to be there still."""
AGAIN_MS = 20_000
"""So much of what was seen before is asked for again: a list may have an order some seconds late, and clocks differ by some."""
ALL_OF_LATE = 2_000


@asynccontextmanager
async def sole(at: HedgingDesk, what: str) -> AsyncIterator[Fence]:
    """Hold the right to order in the account; yields the fence. Raises LostRace where a process of this ledger has it, and
    OperatorError where one of another ledger is there.
    """
    async with at.desk.leases.exclusive(at.lease, what) as fence:
        with _locked(at):
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
    since_ms = max(now - SINCE_MS, at.seen_ms - AGAIN_MS if not with_open else 0)
    try:
        seen = await at.broker.seen_orders(since_ms, with_open=with_open)
    except NO_ANSWER:
        return ""
    other = _not_ours(at, [one for one in seen if one.key not in at.seen_keys])
    if other is None:
        at.seen_ms, at.seen_keys = now, {one.key for one in seen}
        return ""
    state = "is open" if other.is_open else f"was sent {max(now - other.at_ms, 0) // 1000} s ago"
    why = (
        f"{at.broker.name}: order {other.key} ({other.side} {other.qty} {other.symbol}) {state} and is of no order of this "
        f"ledger: another process hedges in account {at.account} with another ledger (database.url). End one of the two, see "
        f'which ledger has the hedges, then `evenkeel ack "{SHARED}"`'
    )
    store.alert(SHARED, Severity.CRITICAL, why, subject=at.account, news=True)
    return why


def _not_ours(at: HedgingDesk, seen: list[SeenOrder]) -> SeenOrder | None:
    """The first order that no attempt of this ledger has the key of."""
    hedging = at.desk.store.hedging
    keys = {symbol: hedging.sent_keys(symbol) for symbol in {one.symbol for one in seen}}
    left = [one for one in seen if one.key not in keys[one.symbol]]
    late = (
        hedging.sent_keys(most=ALL_OF_LATE) if left else set()
    )  # the broker may call its stock by another name since
    return next((one for one in left if one.key not in late), None)


@contextmanager
def _locked(at: HedgingDesk) -> Iterator[None]:
    """Hold the machine's lock of the account. Raises OperatorError where another process has it; where this system or the
    folder lets nobody lock there, the broker's list is what is left.
    """
    path = lock_path(at)
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
                f"{holder} hedges in account {at.account} at {at.broker.name} with another ledger (database.url): end it "
                f"first, or give each its own account ({path})"
            ) from None
        os.truncate(file, 0)
        os.write(file, described(own_name()).encode())
        yield
    finally:
        os.close(file)


def lock_path(at: HedgingDesk) -> Path | None:
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
    return (folder.expanduser() if folder else Path(tempfile.gettempdir())) / f"evenkeel-account-{name}"
