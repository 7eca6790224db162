"""Two Solana nodes as one: whichever can be reached answers, the first of them before the second."""

from __future__ import annotations

from typing import Any

from venues.jsonrpc import Nodes
from venues.solana.rpc import SolanaRpc


class FailoverRpc(Nodes[SolanaRpc], SolanaRpc):
    """A node made of two. What must be said by each for itself (a height, what became of a signature) is asked by `probe`."""

    async def get_transaction(self, signature: str, commitment: str = "confirmed") -> dict[str, Any] | None:
        """Return the transaction as one node shows it: one that does not know a transaction may lag behind the other."""
        found = await super().get_transaction(signature, commitment)
        return found or await self.shown_by_any(lambda node: node.get_transaction(signature, commitment))
