"""Who numbers transactions: a lane for each (chain, sender) in the ledger, so that no two processes give a nonce twice."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol


class Lanes(Protocol):
    """The ledger's lanes, as a venue sees them. A number is taken by storing it with the key of an attempt, and not before."""

    def free(self, lane: str) -> int:
        """Return the first number that the ledger has not given, 0 for a lane that is new."""
        ...

    def turn(self, lane: str) -> AbstractAsyncContextManager[None]:
        """Keep others of this process from the lane between the look for a number and its storing."""
        ...


def lane_of(chain_id: int, sender: str) -> str:
    """Return the name of a lane."""
    return f"evm:{chain_id}:{sender}"
