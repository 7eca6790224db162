"""The brokers' adapters, as the conformance suite has to know them: Alpaca twice over, and the dry run."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, ClassVar, Self

from evenkeel.types import IntentSpec, Outcome, Receipt, Signed
from tests.alpaca_rig import PLACE, AlpacaRig, alpaca_rig
from tests.conformance.adapter import Adapter, Recorder
from tests.databases import ManualClock
from venues.alpaca.client import BROKER, TRADING
from venues.broker_rules import OrderRules
from venues.dry_run.venue import CAPABILITIES, DryRunVenue
from venues.protocol import OrderVenue


class AlpacaAdapter(Adapter):
    """Hedges by the Trading interface. The broker takes a client order id once, for ever."""

    name = TRADING
    is_broker: ClassVar[bool] = False
    names_fills = False
    lost_answers = ("drop_answer", "http_429_after", "http_500_after", "garbage")
    lost_requests = ("drop_request", "http_500", "http_429")
    dead_after_s, done_after_s = 60, 5

    def __init__(self, rig: AlpacaRig, recorder: Recorder) -> None:
        self._rig, self._recorder, self.venue = rig, recorder, rig.venue
        self.secret = rig.client.access.secret  # type: ignore[misc]

    @classmethod
    @asynccontextmanager
    async def opened(cls) -> AsyncIterator[Self]:
        recorder = Recorder()
        async with alpaca_rig(is_broker=cls.is_broker, around=recorder.around) as rig:
            yield cls(rig, recorder)

    async def order(self) -> IntentSpec:
        return self._rig.intent(qty="1.25")

    async def bad_orders(self) -> dict[str, IntentSpec]:
        return {
            "no such symbol": self._rig.intent("NOPE"),
            "more than allowed": self._rig.intent(qty="100000"),
            "nothing": self._rig.intent(qty="0"),
            "finer than the broker takes": self._rig.intent(qty="0.12345678901"),
        }

    def restarted(self) -> OrderVenue:
        return self._rig.new_venue()

    def executed(self) -> int:
        self._rig.twin.catch_up()
        return len({one["order_id"] for one in self._rig.account.fills})

    def state(self) -> Any:
        self._rig.twin.catch_up()
        return json.dumps(self._rig.twin.control("ledger", {})["accounts"][self._rig.account.id], default=str)

    def sent(self) -> list[str]:
        return [body.decode() for path, body in self._recorder.bodies if path.endswith("/orders") and body]

    def disturb(self, fault: str) -> None:
        self._rig.fault(fault, PLACE, times=-1)

    def cut_off(self) -> None:
        self._rig.fault("http_500", ".*", times=-1)

    def heal(self) -> None:
        self._rig.plan.clear()

    async def later(self, seconds: float) -> None:
        self._rig.later(seconds)


class AlpacaBrokerAdapter(AlpacaAdapter):
    """The same by the Broker's interface."""

    name = BROKER
    is_broker = True


class _Recorded(DryRunVenue):
    """The dry run, and which keys were handed to `send`."""

    def __init__(self, *args: Any, sent: list[str], **more: Any) -> None:
        super().__init__(*args, **more)
        self._sent = sent

    async def send(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]:
        self._sent.append(json.dumps(signed.key, sort_keys=True))
        return await super().send(intent, signed)


class DryRunAdapter(Adapter):
    """Orders that go nowhere: nothing can be lost on the way there."""

    name = DryRunVenue.name
    names_fills = False
    lost_answers, lost_requests = (), ()
    dead_after_s, done_after_s = 1, 1

    def __init__(self) -> None:
        self._clock, self._sent, self._orders = ManualClock(), list[str](), 0
        self.venue = self.restarted()

    @classmethod
    @asynccontextmanager
    async def opened(cls) -> AsyncIterator[Self]:
        yield cls()

    async def _price(self, symbol: str) -> Decimal | None:
        return Decimal("187.5")

    def _intent(self, symbol: str, qty: str) -> IntentSpec:
        self._orders += 1
        order = {"symbol": symbol, "side": "buy", "qty": qty, "marked_ms": self._clock.now_ms()}
        return IntentSpec(
            intent_id=f"dry-{self._orders}",
            business="hedging",
            subject=symbol,
            venue=self.name,
            kind="hedge",
            step=self._orders,
            order=order,
        )

    async def order(self) -> IntentSpec:
        return self._intent("AAPL", "1.25")

    async def bad_orders(self) -> dict[str, IntentSpec]:
        return {"no such symbol": self._intent("NOPE", "1"), "nothing": self._intent("AAPL", "0")}

    def restarted(self) -> OrderVenue:
        rules = OrderRules({"AAPL": Decimal(100)}, CAPABILITIES)
        return _Recorded(
            rules, self._price, self._clock, cash=lambda: Decimal(1000), held=dict, sent=self._sent
        )

    def executed(self) -> int:
        return len(set(self._sent))

    def state(self) -> Any:
        return list(self._sent)

    def sent(self) -> list[str]:
        return list(self._sent)

    def disturb(self, fault: str) -> None:
        raise AssertionError("nothing lies between us and a dry run")

    def cut_off(self) -> None:
        raise AssertionError("nothing lies between us and a dry run")

    def heal(self) -> None:
        """Nothing is disturbed."""

    async def later(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
