"""Request budgets, one a host, shared by everything that runs in one event loop."""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary

from evenkeel.clock import Clock
from venues.ratebudget import RateBudget

HYPERLIQUID_WEIGHT_LIMIT = 1200.0
"""Weight a minute that one IP address has; what is saved up and what is refilled must stay under it together."""


HYPERLIQUID_LARGEST_WEIGHT = 60.0


_budgets: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, RateBudget]] = WeakKeyDictionary()
"""By event loop and host: a budget waits on the clock of the desk that made it, which does not outlive its loop."""


def _budget(host: str, per_minute: float, clock: Clock, burst: float | None = None) -> RateBudget:
    """The host's budget, the same one for everything that runs in this event loop."""
    mine = _budgets.setdefault(asyncio.get_running_loop(), {})
    return mine.setdefault(host, RateBudget(clock, per_minute, burst))
