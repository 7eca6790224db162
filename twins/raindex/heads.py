"""New blocks, pushed to who subscribes by WebSocket at the node's own address."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from twins.faults import FaultPlan
from twins.raindex.chain import ScriptedChain

VENUE = "raindex"
EVERY_S = 0.02
"""Wall seconds between two readings of the height."""


class Heads:
    """Everybody who listens. Fault `no_heads` refuses a subscription."""

    def __init__(self, faults: FaultPlan, chain: ScriptedChain) -> None:
        self._faults = faults
        self._chain = chain
        self._lost = 0

    def disconnect(self) -> None:
        """Close every connection of now."""
        self._lost += 1

    async def socket(self, socket: WebSocket) -> None:
        """One connection: its subscription, then every new block."""
        await socket.accept()
        lost = self._lost
        try:
            asked: Any = json.loads(await socket.receive_text())
            ident = asked.get("id") if isinstance(asked, dict) else None
            wanted = isinstance(asked, dict) and asked.get("method") == "eth_subscribe"
            if not wanted or asked.get("params") != ["newHeads"] or self._faults.take(VENUE, "no_heads"):
                error = {"code": -32601, "message": "notifications not supported"}
                await socket.send_json({"jsonrpc": "2.0", "id": ident, "error": error})
                return
            await socket.send_json({"jsonrpc": "2.0", "id": ident, "result": "0x1"})
            seen = self._chain.height()
            while lost == self._lost:
                height = self._chain.height()
                if height != seen:
                    seen = height
                    head = {"number": hex(height), "hash": self._chain.hash(height)}
                    pushed = {"subscription": "0x1", "result": head}
                    await socket.send_json({"jsonrpc": "2.0", "method": "eth_subscription", "params": pushed})
                await asyncio.sleep(EVERY_S)
            await socket.close()
        except (WebSocketDisconnect, RuntimeError, ValueError):
            return
