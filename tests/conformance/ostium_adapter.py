"""Ostium's adapter on the venue's contracts, as the conformance suite has to know it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from evenkeel.types import IntentSpec, VenueName
from tasks.desk import Desk
from tests.accounts_rig import AGENT, AccountsRig, accounts_rig
from tests.conformance.adapter import Adapter, Recorder
from venues.protocol import OrderVenue
from venues.signers.local import LocalEvmKey


class OstiumAdapter(Adapter):
    """Openings in a trader's name. A number that nobody's bytes have used stays free for ever, until somebody uses it."""

    name = VenueName.OSTIUM
    lost_answers = ("drop_answer", "http_429_after", "http_500_after", "garbage")
    lost_requests = ("drop_request", "http_500", "http_429")
    dead_after_s, done_after_s = 60, 30
    secret = AGENT.removeprefix("0x")
    _CALL = "eth_sendRawTransaction"

    def __init__(self, rig: AccountsRig, recorder: Recorder) -> None:
        self._rig, self._recorder = rig, recorder
        self._orders, self._is_lost = 0, False
        self._desks: list[Desk] = []

    @classmethod
    @asynccontextmanager
    async def opened(cls) -> AsyncIterator[Self]:
        recorder = Recorder()
        with TemporaryDirectory() as folder:
            async with accounts_rig(Path(folder), around=recorder.around) as rig:
                on = cls(rig, recorder)
                on._desks = [await rig.desk() for _ in range(3)]
                on.venue = on._desks[0].venue(VenueName.OSTIUM)
                recorder.bodies.clear()
                yield on

    def _intent(self, **changes: Any) -> IntentSpec:
        self._orders += 1
        order = self._rig.opening(**changes) | {"trader": changes.get("trader", self._rig.users[0])}
        return IntentSpec(
            intent_id=f"trade-{self._orders}",
            business="accounts",
            subject=f"trade-{self._orders}",
            venue=VenueName.OSTIUM,
            kind="open",
            step=0,
            order=order,
        )

    async def order(self) -> IntentSpec:
        return self._intent()

    async def bad_orders(self) -> dict[str, IntentSpec]:
        return {
            "more than the wallet holds": self._intent(collateral_usdc="1001"),
            "leverage above the market's": self._intent(leverage="60"),
            "not a number": self._intent(collateral_usdc="NaN"),
            "nobody's delegate": self._intent(trader="0x" + "ab" * 20),
        }

    def restarted(self) -> OrderVenue:
        return self._desks[1].venue(VenueName.OSTIUM)

    def _open(self) -> list[int]:
        read, user = self._rig.venue.read, self._rig.users[0]
        return [place for place in range(10) if read("storage", "getOpenTrade", user, 9, place)["leverage"]]

    def executed(self) -> int:
        return len(self._open())

    def state(self) -> Any:
        return self._open(), [self._rig.evm.balance(one) for one in self._rig.users], self._rig.pending()

    def sent(self) -> list[str]:
        asked = (body if isinstance(body, list) else [body] for _, body in self._recorder.json())
        return [one["params"][0] for batch in asked for one in batch if one.get("method") == self._CALL]

    def disturb(self, fault: str) -> None:
        self._is_lost = fault in self.lost_requests
        self._rig.evm.fault(fault, self._CALL, times=-1)

    def cut_off(self) -> None:
        self._rig.evm.fault("http_500", ".*", times=-1)

    def heal(self) -> None:
        self._rig.evm.faults.clear()

    async def later(self, seconds: float) -> None:
        """The keeper settles what waits; a number that was lost is used by somebody else who has the key."""
        if self._is_lost and not self.executed():
            agent = LocalEvmKey.from_hex(AGENT).address
            self._rig.evm.twin.node.rpc("anvil_impersonateAccount", agent)
            self._rig.evm.transact(agent, self._rig.evm.usdc, "transfer(address,uint256)", agent, 0)
            self._is_lost = False
        self._rig.settle()
        await self._rig.evm.clock.sleep(max(seconds, 1.0))
