"""What every adapter of a chain does alike: sign, send, ask and replace by the one sender of its key."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager

from evenkeel.types import Answer, Built, IntentSpec, Outcome, Receipt, Signed
from venues.evm.sender import EvmSender, Mined


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

    @abstractmethod
    async def _outcome(self, intent: IntentSpec, signed: Signed, found: Answer[Mined]) -> Outcome[Receipt]:
        """Say what became of an order, by what its transaction did. Raises nothing for what a node answers."""
