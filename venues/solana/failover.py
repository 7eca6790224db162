"""Two Solana nodes as one: whichever can be reached answers, the first of them before the second."""

from __future__ import annotations

from functools import partial
from typing import Any

from evenkeel.clock import Clock
from venues.jsonrpc import Nodes
from venues.solana.rpc import SolanaRpc


class FailoverRpc(SolanaRpc, Nodes[SolanaRpc]):
    """A node made of two. What must be said by each for itself (a height, what became of a signature) is asked by `probe`."""

    def __init__(self, first: SolanaRpc, second: SolanaRpc, clock: Clock) -> None:
        SolanaRpc.__init__(self, "", clock)
        Nodes.__init__(self, (first, second), clock)
        self.host = f"{first.host} and {second.host}"

    async def close(self) -> None:
        await super().close()
        for node in self.nodes:
            await node.close()

    async def call(self, method: str, params: list[Any]) -> Any:
        """Call the first node that can be reached. Raises as `Nodes.either` does."""
        return await self.either(lambda node: node.call(method, params))

    async def get_transaction(self, signature: str, commitment: str = "confirmed") -> dict[str, Any] | None:
        """Return the transaction as one node shows it: one that does not know a transaction may lag behind the other."""
        found = await super().get_transaction(signature, commitment)
        if found is None:
            for node in self.nodes:
                found = found or await self.probe(node, partial(node.get_transaction, signature, commitment))
        return found
