"""Two Solana nodes as one: whichever can be reached answers, the first of them before the second."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from evenkeel.clock import Clock
from evenkeel.errors import NotUnderstood, Retryable
from venues.solana.rpc import RpcError, SolanaRpc

T = TypeVar("T")
PROBE_TIMEOUT_S = 3.0
"""Wall seconds for a node that is asked beside the other: what is urgent must not wait for a dead one."""
PROBE_EVERY_MS = 10_000
"""A node that could not be reached is asked again by `probe` so often, and by others only after the other node."""


def unreached(error: Exception) -> bool:
    """Return whether this is no answer that can be used: the node is away, over its limits, does not let us in any more, or
    says what cannot be understood.
    """
    return isinstance(error, Retryable | NotUnderstood | TimeoutError) or (
        isinstance(error, RpcError) and error.is_shut_out
    )


class FailoverRpc(SolanaRpc):
    """A call goes to the first node, and where that one cannot be reached to the second. A refusal is an answer.

    A node that could not be reached comes second until it has answered again, so that one that hangs costs its time-out
    once. What must be said by each node for itself (a height, what became of a signature) is asked of `nodes` by `probe`.
    """

    def __init__(self, first: SolanaRpc, second: SolanaRpc, clock: Clock) -> None:
        super().__init__("", clock)
        self.nodes = (first, second)
        self.host = f"{first.host} and {second.host}"
        self._failed_ms: dict[SolanaRpc, int] = {}

    def __repr__(self) -> str:
        return f"FailoverRpc({self.host})"

    async def close(self) -> None:
        await super().close()
        for node in self.nodes:
            await node.close()

    async def call(self, method: str, params: list[Any]) -> Any:
        """Call the first node that can be reached. Raises `Retryable` where neither can be reached, `RpcError` for a
        refusal and where both shut us out.
        """
        return await self._either(lambda node: node.call(method, params))

    async def get_transaction(self, signature: str, commitment: str = "confirmed") -> dict[str, Any] | None:
        """Return the transaction as one node shows it: one that does not know a transaction may lag behind the other."""
        found = await super().get_transaction(signature, commitment)
        if found is None:
            for node in self.nodes:
                found = found or await self.probe(node, partial(node.get_transaction, signature, commitment))
        return found

    async def probe(
        self, node: SolanaRpc, reading: Callable[[], Awaitable[T]], timeout_s: float = PROBE_TIMEOUT_S
    ) -> T | None:
        """Return one node's own answer, within `timeout_s` of the wall. None: it cannot be reached, or could not a
        moment ago while the other can. Raises `RpcError`, which is an answer.
        """
        failed_ms = self._failed_ms.get(node)
        other_is_there = any(one not in self._failed_ms for one in self.nodes if one is not node)
        if failed_ms is not None and other_is_there and self._clock.now_ms() - failed_ms < PROBE_EVERY_MS:
            return None
        try:
            async with asyncio.timeout(timeout_s):
                return self._reached(node, await reading())
        except (Retryable, NotUnderstood, RpcError, TimeoutError) as error:
            if not unreached(error):
                raise
            self._failed_ms[node] = self._clock.now_ms()
            return None

    async def _either(self, asking: Callable[[SolanaRpc], Awaitable[T]]) -> T:
        errors: list[Retryable | NotUnderstood | RpcError] = []
        for node in sorted(self.nodes, key=self._failed_ms.__contains__):
            try:
                return self._reached(node, await asking(node))
            except (Retryable, NotUnderstood, RpcError) as error:
                if not unreached(error):
                    self._failed_ms.pop(node, None)
                    raise
                self._failed_ms[node] = self._clock.now_ms()
                errors.append(error)
        # One that shuts us out says no for good; as long as the other may be back, another try is worth it.
        raise next((one for one in errors if isinstance(one, Retryable)), errors[-1])

    def _reached(self, node: SolanaRpc, answer: T) -> T:
        self._failed_ms.pop(node, None)
        return answer
