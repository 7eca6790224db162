"""Request budgets, one a host, shared by everything that runs in one event loop and by every process beside one ledger."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from pathlib import Path
from weakref import WeakKeyDictionary

from evenkeel.clock import Clock
from evenkeel.settings.settings import Settings
from venues.ratebudget import RateBudget
from venues.savings import SavingsFile

HYPERLIQUID_WEIGHT_LIMIT = 1200.0
"""Weight a minute that one IP address has; what is saved up and what is refilled must stay under it together."""


HYPERLIQUID_LARGEST_WEIGHT = 60.0


_budgets: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, RateBudget]] = WeakKeyDictionary()
"""By event loop and host: a budget waits on the clock of the desk that made it, which does not outlive its loop."""


def shared_budget(
    settings: Settings, host: str, per_minute: float, clock: Clock, burst: float | None = None
) -> RateBudget:
    """Return the host's budget: the same one for everything in this event loop, and spent together with other processes."""
    mine = _budgets.setdefault(asyncio.get_running_loop(), {})
    if host not in mine:
        mine[host] = RateBudget(clock, per_minute, burst, SavingsFile(savings_path(settings, host)))
    return mine[host]


def savings_path(settings: Settings, host: str) -> Path:
    """Return where the processes of this machine count together what they ask of a host: in the folder of the settings, else
    beside the ledger's file, else, where the ledger is a server's, in the folder of temporary files.
    """
    ledger, folder = settings.database.url, settings.database.limits_folder
    is_file = ledger.startswith("sqlite:///")
    name = f"evenkeel-limit-{_short(host)}"
    if folder is not None:
        return folder.expanduser() / name
    if is_file:
        return Path(ledger.removeprefix("sqlite:///")).absolute().parent / name
    return Path(tempfile.gettempdir()) / f"{name}-{_short(ledger)}"


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
