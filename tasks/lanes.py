"""The ledger's lanes as venues of a chain see them, and the turns of this process on each."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from state.lanes.lanes import LaneNumbers


class LedgerLanes:
    """One for all adapters of a process: who signs with one key signs in turn, so that nobody signs a number in vain."""

    def __init__(self, numbers: LaneNumbers) -> None:
        self._numbers = numbers
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def free(self, lane: str) -> int:
        """The first number that the ledger has not given."""
        return self._numbers.free(lane)

    @asynccontextmanager
    async def turn(self, lane: str) -> AsyncIterator[None]:
        """Hold a lane."""
        async with self._turns[lane]:
            yield
