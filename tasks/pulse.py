"""Whether Solana lives: a node that answers, and a chain whose height grows. Asgard may answer while neither is so."""

from __future__ import annotations

import asyncio

from evenkeel.errors import Retryable, VenueRefused
from tasks.desk import Desk

PATIENCE_S = 3.0
"""Wall seconds for one node: a look must not wait for a dead one."""


class Pulse:
    """Asked once a look. A chain whose height stands still is out, however promptly its nodes answer."""

    def __init__(self) -> None:
        self._height: int | None = None
        self._grew_ms = 0

    async def beats(self, desk: Desk) -> bool:
        """False when no node answers, or the height has not grown for `outage_window_s`."""
        for node in (desk.long.rpc, desk.long.second_rpc):
            if node is None:
                continue
            try:
                async with asyncio.timeout(PATIENCE_S):
                    height = await node.get_block_height("processed")
            except (Retryable, VenueRefused, TimeoutError):
                continue
            now = desk.clock.now_ms()
            if self._height is None or height != self._height:  # another node may be a little behind
                self._height, self._grew_ms = height, now
                return True
            return now - self._grew_ms < desk.settings.limits.outage_window_s * 1000
        return False
