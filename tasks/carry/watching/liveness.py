"""Whether Solana lives: a node that answers, and a chain whose height grows. Asgard may answer while neither is so."""

from __future__ import annotations

import asyncio
from functools import partial

from evenkeel.errors import NotUnderstood, Retryable, VenueRefused
from tasks.carry.desk import CarryDesk
from venues.solana.failover import FailoverRpc
from venues.solana.rpc import SolanaRpc

TIMEOUT_S = 3.0
"""Wall seconds for one node: a tick must not wait for a dead one."""


class ChainLiveness:
    """Asked once a tick. A chain whose height stands still is out, however promptly its nodes answer."""

    def __init__(self) -> None:
        self._grew: dict[SolanaRpc, tuple[int, int]] = {}
        """By node its last height, and when that was first seen."""

    async def is_alive(self, desk: CarryDesk) -> bool:
        """False when no node answers, or no node's height has grown for `outage_window_s`.

        Both nodes are asked, so that the one that is gone is noticed while the other carries on, and its return too.
        """
        rpc = desk.long.rpc
        nodes = rpc.nodes if isinstance(rpc, FailoverRpc) else (rpc,)
        return any(await asyncio.gather(*(self._grows(desk, rpc, node) for node in nodes)))

    async def _grows(self, desk: CarryDesk, rpc: SolanaRpc, node: SolanaRpc) -> bool:
        asking = partial(node.get_block_height, "processed")
        try:
            async with asyncio.timeout(TIMEOUT_S):
                height = await (rpc.probe(node, asking) if isinstance(rpc, FailoverRpc) else asking())
        except NotUnderstood:
            return True  # it answers
        except (Retryable, VenueRefused, TimeoutError):
            height = None
        if height is None:
            return False
        now = desk.clock.now_ms()
        known, since_ms = self._grew.get(node, (None, now))
        if height != known:
            self._grew[node] = (height, now)
            return True
        return now - since_ms < desk.settings.limits.outage_window_s * 1000
