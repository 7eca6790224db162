"""Each adapter in front of its twin, and what the conformance suite has to know of both. A new venue adds its own here."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Self

from evenkeel.legs import LegView
from evenkeel.types import IntentSpec, VenueName
from tests import second_business as lots
from tests.conformance.adapter import Adapter, Recorder
from tests.conformance.agents_adapter import AgentsAdapter
from tests.conformance.broker_adapters import AlpacaAdapter, AlpacaBrokerAdapter, DryRunAdapter
from tests.conformance.moves_adapters import MOVING
from tests.conformance.ostium_adapter import OstiumAdapter
from tests.conformance.schwab_adapter import SchwabAdapter
from tests.databases import ManualClock
from tests.integration.asgard_bench import Bench, bench
from tests.integration.hyperliquid_rig import MASTER_KEY, ORDER_CALL, Rig, hyperliquid_rig
from venues.asgard.orders import CloseLong
from venues.protocol import OrderVenue


class LegAdapter(Adapter):
    """Of a venue that holds legs."""

    @abstractmethod
    async def closing_order(self, leg: LegView) -> dict[str, Any]:
        """The order that closes a leg which the venue shows."""


class HyperliquidAdapter(LegAdapter):
    """Orders of the perpetual."""

    name = VenueName.HYPERLIQUID
    lost_answers = ("drop_answer", "http_429_after", "http_500_after", "garbage")
    lost_requests = ("drop_request", "http_500", "http_429")
    dead_after_s, done_after_s = 16, 1
    secret = MASTER_KEY.removeprefix("0x")

    def __init__(self, rig: Rig, recorder: Recorder) -> None:
        self._rig, self._recorder, self.venue = rig, recorder, rig.venue

    @classmethod
    @asynccontextmanager
    async def opened(cls) -> AsyncIterator[Self]:
        recorder = Recorder()
        async with hyperliquid_rig(around=recorder.around) as rig:
            yield cls(rig, recorder)

    async def order(self) -> IntentSpec:
        return self._rig.intent()

    async def closing_order(self, leg: LegView) -> dict[str, Any]:
        return self._rig.intent(size=str(leg.qty), is_buy=True, reduce_only=True).order

    async def bad_orders(self) -> dict[str, IntentSpec]:
        return {
            "less than a lot": self._rig.intent(size="0.001"),
            "nothing to reduce": self._rig.intent(is_buy=True, reduce_only=True),
            "no such coin": self._rig.intent(coin="NOPE"),
        }

    def restarted(self) -> OrderVenue:
        return self._rig.venue_for()

    def _account(self) -> dict[str, Any]:
        return dict(self._rig.twin.control("ledger", {})["accounts"][self._rig.address])

    def executed(self) -> int:
        return len({fill["oid"] for fill in self._account()["fills"]})

    def state(self) -> Any:
        account = self._account()
        return json.dumps(
            {name: account[name] for name in ("orders", "fills", "positions", "cash_usd")}, default=str
        )

    def sent(self) -> list[str]:
        return [body.decode() for path, body in self._recorder.bodies if path == "/exchange"]

    def disturb(self, fault: str) -> None:
        self._rig.fault(fault, ORDER_CALL, times=-1)

    def cut_off(self) -> None:
        self._rig.fault("http_500", ".*", times=-1)

    def heal(self) -> None:
        self._rig.plan.clear()

    async def later(self, seconds: float) -> None:
        self._rig.later(seconds)


class AsgardAdapter(LegAdapter):
    """Longs, by two ways: Asgard's own submit, and our node."""

    name = VenueName.ASGARD
    lost_answers = ("drop_answer", "http_429_after", "http_500_after", "garbage")
    lost_requests = ("drop_request", "http_500", "http_429")
    dead_after_s, done_after_s = 120, 30

    def __init__(self, bench: Bench, recorder: Recorder) -> None:
        self._bench, self._recorder, self.venue = bench, recorder, bench.venue
        self.secret = str(bench.keypair)  # type: ignore[misc]

    @classmethod
    @asynccontextmanager
    async def opened(cls) -> AsyncIterator[Self]:
        recorder = Recorder()
        async with bench(wait_s=2, around=recorder.around) as found:
            yield cls(found, recorder)

    async def order(self) -> IntentSpec:
        return self._bench.intent(await self._bench.open_order())

    async def closing_order(self, leg: LegView) -> dict[str, Any]:
        order = CloseLong(asset=leg.asset, protocol=int(leg.protocol or 0), position_pda=leg.ref)
        return order.model_dump(mode="json")

    async def bad_orders(self) -> dict[str, IntentSpec]:
        order = await self._bench.open_order()
        wrong = {
            "more than the wallet holds": {"collateral_usdc": Decimal(10**6)},
            "a frozen protocol": {"protocol": 3},
            "no such bank": {"token_a_bank": str(self._bench.wallet)},
        }
        return {what: self._bench.intent(order.model_copy(update=change)) for what, change in wrong.items()}

    def restarted(self) -> OrderVenue:
        return self._bench.restarted()

    def executed(self) -> int:
        return self._bench.live_positions()

    def state(self) -> Any:
        landed = len(self._bench.chain.control("ledger", {})["transactions"])
        return landed, len(self._bench.ledger()["positions"]), len(self._bench.ledger()["rows"])

    def sent(self) -> list[str]:
        found: list[str] = []
        for path, body in self._recorder.json():
            if path.startswith("/margin-trading/submit"):
                found += body["signedTxs"]
            elif body.get("method") == "sendTransaction":
                found.append(body["params"][0])
        return found

    def disturb(self, fault: str) -> None:
        for venue, call in (("asgard", "POST /submit-.*"), ("solana", "rpc:sendTransaction")):
            self._bench.fault(venue, fault, call, times=-1)
        self._bench.fault("solana", "http_500", "rpc:(getSignatureStatuses|getTransaction)", times=-1)

    def cut_off(self) -> None:
        for venue in ("asgard", "solana"):
            self._bench.fault(venue, "http_500", ".*", times=-1)

    def heal(self) -> None:
        self._bench.faults.clear()

    async def later(self, seconds: float) -> None:
        await self._bench.clock.sleep(seconds)


@dataclass
class Disturbed(lots.Exchange):
    """The exchange of the second business, with what goes wrong between it and us."""

    fault: str = ""
    seen: list[str] = field(default_factory=list)

    def place(self, client_id: str, qty: Decimal, expires_ms: int) -> str:
        self.seen.append(f"{client_id} {qty} {expires_ms}")
        if self.fault in ("drop_request", "cut off"):
            raise TimeoutError("no answer")
        said = super().place(client_id, qty, expires_ms)
        if self.fault == "drop_answer":
            raise TimeoutError("the answer was lost")
        return said

    def fills(self, client_id: str) -> list[tuple[str, Decimal, int]] | None:
        if self.fault == "cut off":
            raise TimeoutError("no answer")
        return super().fills(client_id)


class LotAdapter(Adapter):
    """The venue of the second business, which only tests have: it works on an order for an hour."""

    name = lots.EXCHANGE
    venue_type = lots.LotVenue
    lost_answers, lost_requests = ("drop_answer",), ("drop_request",)
    dead_after_s, done_after_s = lots.LIFE_MS / 1000 + 1, lots.HOUR_MS / 1000

    def __init__(self) -> None:
        self._clock = ManualClock()
        self._exchange = Disturbed(self._clock.now_ms)
        self._orders = 0
        self.venue = self.restarted()

    @classmethod
    @asynccontextmanager
    async def opened(cls) -> AsyncIterator[Self]:
        yield cls()

    def _intent(self, qty: str) -> IntentSpec:
        self._orders += 1
        return IntentSpec(
            intent_id=f"lots-{self._orders}",
            business=lots.LOTS,
            subject="paper",
            venue=lots.EXCHANGE,
            kind="buy",
            step=self._orders,
            order={"qty": qty},
        )

    async def order(self) -> IntentSpec:
        return self._intent("10")

    async def bad_orders(self) -> dict[str, IntentSpec]:
        return {"nothing": self._intent("0"), "less than nothing": self._intent("-1")}

    def restarted(self) -> OrderVenue:
        return self.venue_type(self._exchange, self._clock)

    def executed(self) -> int:
        return self._exchange.placed

    def state(self) -> Any:
        return dict(self._exchange.orders)

    def sent(self) -> list[str]:
        return list(self._exchange.seen)

    def disturb(self, fault: str) -> None:
        self._exchange.fault = fault

    def cut_off(self) -> None:
        self._exchange.fault = "cut off"

    def heal(self) -> None:
        self._exchange.fault = ""

    async def later(self, seconds: float) -> None:
        await self._clock.sleep(seconds)


ADAPTERS: tuple[type[Adapter], ...] = (
    HyperliquidAdapter,
    AsgardAdapter,
    OstiumAdapter,
    AgentsAdapter,
    AlpacaAdapter,
    AlpacaBrokerAdapter,
    DryRunAdapter,
    SchwabAdapter,
    *MOVING,
    LotAdapter,
)
