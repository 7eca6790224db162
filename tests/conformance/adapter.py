"""What the conformance suite has to know of an adapter and its twin; and a record of what arrives at a server."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, ClassVar

from evenkeel.types import IntentSpec
from twins.faults import App, Message, Receive, Scope, Send
from venues.protocol import OrderVenue


class Adapter(ABC):
    """A venue on its twin: how to order, what the twin shows of it, how to disturb it."""

    name: ClassVar[str]
    lost_answers: ClassVar[Sequence[str]]
    """Faults in which the order was executed and we do not hear of it."""
    lost_requests: ClassVar[Sequence[str]]
    """Faults in which nothing has happened so far."""
    dead_after_s: ClassVar[float]
    """After that long an order that nobody has seen can be proved dead."""
    done_after_s: ClassVar[float]
    """After that long an executed order can be proved."""
    secret: ClassVar[str] = ""
    names_fills: ClassVar[bool] = True
    """Whether a receipt names the executions; one that does not has what was done in all, at its average price."""

    has_price: ClassVar[bool] = True
    """Whether a receipt without executions has an average price; a move has none."""

    resends: ClassVar[bool] = True
    """Whether the same bytes may go twice; a venue that knows no id of ours never gets them again."""

    venue: OrderVenue

    @classmethod
    @abstractmethod
    def opened(cls) -> Any:
        """A context manager of the adapter before its twin."""

    @abstractmethod
    async def order(self) -> IntentSpec:
        """A new intent that opens something."""

    def asked(self, intent: IntentSpec) -> Decimal:
        """How much an intent is of."""
        return Decimal(str(intent.order["qty"]))

    @abstractmethod
    async def bad_orders(self) -> dict[str, IntentSpec]:
        """Intents that cannot be built, by what is wrong with them."""

    @abstractmethod
    def restarted(self) -> OrderVenue:
        """The adapter of another process for the same account."""

    @abstractmethod
    def executed(self) -> int:
        """How many orders the twin has carried out."""

    @abstractmethod
    def state(self) -> Any:
        """All on the twin that an order would change."""

    @abstractmethod
    def sent(self) -> list[str]:
        """The signed payloads that were put on the wire, in order, whether or not they arrived."""

    @abstractmethod
    def disturb(self, fault: str) -> None:
        """Plan one of `lost_answers` or `lost_requests` for every way by which an order leaves, until `heal`."""

    @abstractmethod
    def cut_off(self) -> None:
        """Nothing can be asked, until `heal`."""

    @abstractmethod
    def heal(self) -> None:
        """No fault from here on."""

    @abstractmethod
    async def later(self, seconds: float) -> None:
        """Time passes."""


@dataclass
class Recorder:
    """Notes the body of each request that arrives at a server, before any fault."""

    bodies: list[tuple[str, bytes]] = field(default_factory=list)

    def around(self, app: App) -> App:
        async def recorded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                self.bodies.append((scope["path"], b""))
            at = len(self.bodies) - 1

            async def listen() -> Message:
                message = await receive()
                if message["type"] == "http.request":
                    path, body = self.bodies[at]
                    self.bodies[at] = (path, body + message.get("body", b""))
                return message

            # A dropped connection is closed through the object that `send` is a method of, so it is handed on as it is.
            await app(scope, listen, send)

        return recorded

    def json(self) -> list[tuple[str, Any]]:
        return [(path, json.loads(body)) for path, body in self.bodies if body]
