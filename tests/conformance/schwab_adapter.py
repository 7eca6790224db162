"""Schwab's adapter, as the conformance suite has to know it: found by what was ordered, and never sent twice."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

from evenkeel.types import IntentSpec
from tests.conformance.adapter import Adapter, Recorder
from tests.schwab_rig import SchwabRig, schwab_rig
from venues.protocol import OrderVenue
from venues.schwab.venue import LIFE_MS


class SchwabAdapter(Adapter):
    """Market orders of whole shares."""

    name = "schwab"
    names_fills, resends = False, False
    lost_answers = ("drop_answer", "http_429_after", "http_500_after", "garbage")
    lost_requests = ("drop_request", "http_500", "http_429")
    dead_after_s, done_after_s = LIFE_MS / 1000 + 20, 5

    def __init__(self, rig: SchwabRig, recorder: Recorder) -> None:
        self._rig, self._recorder, self.venue = rig, recorder, rig.venue
        self.secret = rig.twin.login.app_secret  # type: ignore[misc]

    @classmethod
    @asynccontextmanager
    async def opened(cls) -> AsyncIterator[Self]:
        recorder = Recorder()
        async with schwab_rig(around=recorder.around) as rig:
            rig.twin.book.walk_ms = 500
            recorder.bodies.clear()
            yield cls(rig, recorder)

    async def order(self) -> IntentSpec:
        return self._rig.intent()

    async def bad_orders(self) -> dict[str, IntentSpec]:
        return {
            "a part of a share": self._rig.bad_intent(qty="1.5"),
            "more than allowed": self._rig.bad_intent(qty="501"),
            "nothing": self._rig.bad_intent(qty="0"),
            "no such symbol": self._rig.bad_intent(symbol="NOPE"),
        }

    def restarted(self) -> OrderVenue:
        return self._rig.venue_for()

    def executed(self) -> int:
        self._rig.twin.catch_up()
        return sum(1 for one in self._rig.twin.book.orders.values() if one.filled)

    def state(self) -> Any:
        return json.dumps(self._rig.twin.control("ledger", {}))

    def sent(self) -> list[str]:
        return [body.decode() for path, body in self._recorder.bodies if path.endswith("/orders") and body]

    def disturb(self, fault: str) -> None:
        self._rig.fault(fault, "order:place", times=-1)

    def cut_off(self) -> None:
        self._rig.fault("http_500", ".*", times=-1)

    def heal(self) -> None:
        self._rig.running.faults.clear()

    async def later(self, seconds: float) -> None:
        self._rig.later(seconds)
