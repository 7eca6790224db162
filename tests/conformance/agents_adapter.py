"""The adapter of users' accounts on Hyperliquid, by closes of an account that its agent signs for."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import pytest

from evenkeel.types import IntentSpec, VenueName
from tests.agents_rig import SECRET, AgentsRig, agents_rig, bought
from tests.conformance.adapter import Adapter, Recorder
from venues.hyperliquid.managed import HyperliquidAgents
from venues.protocol import OrderVenue
from venues.signers.derived import DerivedEvmKeys


class AgentsAdapter(Adapter):
    """A user holds 5 SOL, and parts of it are closed."""

    name = VenueName.HYPERLIQUID
    lost_answers = ("drop_answer", "http_429_after", "http_500_after", "garbage")
    lost_requests = ("drop_request", "http_500", "http_429")
    dead_after_s, done_after_s = 16, 1
    secret = SECRET

    def __init__(self, rig: AgentsRig, recorder: Recorder) -> None:
        self._rig, self._recorder, self._orders = rig, recorder, 0
        self._user = rig.users[0]
        self.venue = rig.desk.agents

    @classmethod
    @asynccontextmanager
    async def opened(cls) -> AsyncIterator[Self]:
        recorder = Recorder()
        with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            async with agents_rig(Path(folder), patch, around=recorder.around) as rig:
                bought(rig.users[0])
                recorder.bodies.clear()
                yield cls(rig, recorder)

    def _intent(self, **changes: Any) -> IntentSpec:
        self._orders += 1
        order = {"account": self._user.address, "generation": 1, "coin": "SOL", "is_buy": False, "size": "1"}
        return IntentSpec(
            intent_id=f"close-{self._orders}",
            business="accounts",
            subject="trade",
            venue=VenueName.HYPERLIQUID,
            kind="close",
            step=self._orders,
            order={**order, "reduce_only": True, "slippage_bps": "100", **changes},
        )

    async def order(self) -> IntentSpec:
        return self._intent()

    async def bad_orders(self) -> dict[str, IntentSpec]:
        return {
            "less than a lot": self._intent(size="0.001"),
            "nothing to reduce on that side": self._intent(is_buy=True),
            "no such coin": self._intent(coin="NOPE"),
            "an account that holds nothing": self._intent(account="0x" + "ab" * 20),
        }

    def restarted(self) -> OrderVenue:
        return HyperliquidAgents(
            self._rig.desk.agents.client, DerivedEvmKeys.from_hex(SECRET), self._rig.clock
        )

    def _fills(self) -> list[dict[str, Any]]:
        return [one for one in self._rig.twin.engine.read(self._user.address).fills if one.get("cloid")]

    def executed(self) -> int:
        return len({one["oid"] for one in self._fills()})

    def state(self) -> Any:
        account = self._rig.twin.engine.read(self._user.address)
        return json.dumps([str(account.szi("SOL")), self._fills(), self._user.resting()], default=str)

    def sent(self) -> list[str]:
        return [body.decode() for path, body in self._recorder.bodies if path == "/exchange"]

    def disturb(self, fault: str) -> None:
        self._rig.fault(fault, times=-1)

    def cut_off(self) -> None:
        self._rig.fault("http_500", ".*", times=-1)

    def heal(self) -> None:
        self._rig.plan.clear()

    async def later(self, seconds: float) -> None:
        self._rig.later(seconds)
