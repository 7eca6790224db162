"""What every adapter of a chain does alike: sign, send, ask and replace by the one sender of its key."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from decimal import Decimal

from evenkeel.types import Answer, Built, Confirmed, IntentSpec, Outcome, Receipt, Rejected, Signed, Unknown
from venues.evm.sender import EvmSender, Mined, note_of


class EvmOrders(ABC):
    """The part of `NumberedVenue` that knows no order. An adapter adds `name` and `build`, and says what a mined one did."""

    _sender: EvmSender

    @property
    def address(self) -> str:
        """The key's, which pays for what is sent."""
        return self._sender.address

    def turn(self) -> AbstractAsyncContextManager[None]:
        return self._sender.turn()

    async def sign(self, intent: IntentSpec, built: Built) -> Signed:
        return await self._sender.sign(built)

    async def send(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        return await self._outcome(intent, signed, await self._sender.put(signed))

    async def resend(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        """Put the newest of the stored bytes on the wire again."""
        return await self.send(intent, signed)

    async def find(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        return await self._outcome(intent, signed, await self._sender.find(signed))

    async def replacement(self, intent: IntentSpec, signed: Signed) -> Signed | None:
        return await self._sender.replacement(signed)

    async def _outcome(self, intent: IntentSpec, signed: Signed, found: Answer[Mined]) -> Outcome[Receipt]:
        """Say what became of an order, by what its transaction did. Raises nothing for what a node answers."""
        if not isinstance(found, Confirmed):
            return found
        if not found.value.succeeded:
            return Rejected(await self._sender.why_reverted(signed, found.value), seen=True)
        return await self._done(intent, found.value)

    @abstractmethod
    async def _done(self, intent: IntentSpec, mined: Mined) -> Outcome[Receipt]:
        """Say what a transaction that succeeded did of the order. Raises nothing for what a node answers."""

    async def _moved_at(self, mined: Mined, qty: Decimal, **detail: str) -> Outcome[Receipt]:
        """Return the receipt of so many tokens, by the time of the block; Unknown while that cannot be read."""
        settled_ms = await self._sender.mined_ms(mined)
        if settled_ms is None:
            return Unknown(f"when block {mined.block} was made cannot be read now")
        noted = note_of(mined) | detail
        return Confirmed(
            Receipt(ref=mined.hash, done_qty=qty, avg_price_usd=None, settled_ms=settled_ms, detail=noted)
        )
