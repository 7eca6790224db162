"""Users' accounts on Hyperliquid for a test: the twin, users with their own keys, and the desk as the settings open it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from hyperliquid.utils import signing as sdk

from evenkeel.settings.settings import Settings
from state.accounts.many import HYPERLIQUID
from state.accounts.models import AccountTrade, DeploymentState, TradeState
from state.store import Store
from tasks.accounts.hyperliquid.desk import HyperliquidAccountsDesk, hyperliquid_accounts_desk, keys_of
from tasks.accounts.watching import TickReport
from tests.databases import make_ledger
from tests.integration.hyperliquid_rig import SteppedClock
from tests.worlds import flat_world
from twins.faults import App, Fault, FaultMiddleware, FaultPlan
from twins.http import served
from twins.hyperliquid.app import HyperliquidTwin
from twins.world import World

SECRET = "e5" * 32
"""Its bytes are no text: those of 5e are the marks under a line of a traceback."""
SOL = 5


@dataclass
class Person:
    """A user with his own key: what he does, he does as any client of the venue's would."""

    twin: HyperliquidTwin
    key: str
    nonces: Any = field(default_factory=lambda: itertools.count(1))

    @property
    def address(self) -> str:
        return str(Account.from_key(self.key).address).lower()

    def act(self, action: dict[str, Any]) -> Any:
        """Sign an action by himself and have the venue carry it out."""
        self.twin.engine.catch_up()
        nonce = self.twin.engine.now_ms + next(self.nonces)
        signature = sdk.sign_l1_action(Account.from_key(self.key), action, None, nonce, None, False)
        body = {
            "action": action,
            "nonce": nonce,
            "signature": signature,
            "vaultAddress": None,
            "expiresAfter": None,
        }
        answer = self.twin.exchange.handle(body)
        assert answer["status"] == "ok", answer
        return answer["response"]

    def trade(
        self, *, is_buy: bool, size: str, price: str, reduce_only: bool = False, asset: int = SOL
    ) -> Any:
        """An order at the market within a price."""
        order = {
            "a": asset,
            "b": is_buy,
            "p": price,
            "s": size,
            "r": reduce_only,
            "t": {"limit": {"tif": "Ioc"}},
        }
        [row] = self.act({"type": "order", "orders": [order], "grouping": "na"})["data"]["statuses"]
        assert "filled" in row, row
        return row["filled"]

    def stop(self, trigger: str, size: str, *, is_buy: bool = False, asset: int = SOL) -> Any:
        """A stop of his own."""
        kind = {"trigger": {"isMarket": True, "triggerPx": trigger, "tpsl": "sl"}}
        order = {"a": asset, "b": is_buy, "p": trigger, "s": size, "r": True, "t": kind}
        [row] = self.act({"type": "order", "orders": [order], "grouping": "na"})["data"]["statuses"]
        return row["resting"]["oid"]

    def resting(self) -> list[dict[str, Any]]:
        """His orders that rest or wait, as the venue lists them."""
        self.twin.engine.catch_up()
        return [one.frontend() for one in self.twin.engine.read(self.address).open_orders.values()]

    def cancel(self, oid: int, asset: int = SOL) -> None:
        [row] = self.act({"type": "cancel", "cancels": [{"a": asset, "o": oid}]})["data"]["statuses"]
        assert row == "success", row

    def move_stop(self, oid: int, trigger: str) -> None:
        """Change an order that waits, as the venue's page does."""
        old = next(one for one in self.resting() if one["oid"] == oid)
        kind = {"trigger": {"isMarket": True, "triggerPx": trigger, "tpsl": "sl"}}
        order = {
            "a": SOL,
            "b": old["side"] == "B",
            "p": trigger,
            "s": old["sz"].removesuffix(".0"),
            "r": True,
            "t": kind,
        }
        self.act({"type": "batchModify", "modifies": [{"oid": oid, "order": order}]})

    def cash(self) -> Decimal:
        """What the venue's own books say of his cash: deposits, fills, fees and funding; flat accounts only."""
        self.twin.engine.catch_up()
        assert not self.twin.engine.read(self.address).positions
        return self.twin.engine.read(self.address).raw_usd


def bought(user: Person, size: str = "5", leverage: int = 4) -> None:
    """He opens a long by himself."""
    user.act({"type": "updateLeverage", "asset": SOL, "isCross": True, "leverage": leverage})
    user.trade(is_buy=True, size=size, price="230")


@dataclass
class AgentsRig:
    """`desk` is the one process; whatever happens at the venue is done by the users."""

    world: World
    twin: HyperliquidTwin
    plan: FaultPlan
    settings: Settings
    clock: SteppedClock
    desk: HyperliquidAccountsDesk
    users: list[Person]

    @property
    def store(self) -> Store:
        return self.desk.desk.store

    def price(self, price: str) -> None:
        """The market goes there."""
        self.world.overrides.sol_price = float(price)

    def later(self, seconds: float) -> None:
        self.world.clock.advance_to(self.world.now_ms() + seconds * 1000)

    async def ticked(self, times: int = 1, apart_s: float = 10) -> TickReport:
        """Ticks, the last one's report."""
        report = TickReport()
        for _ in range(times):
            self.later(apart_s)
            report = await self.desk.tick()
        return report

    def trades(self, *states: TradeState) -> list[AccountTrade]:
        return self.store.accounts.trades(*states, venue=HYPERLIQUID)

    def only(self) -> AccountTrade:
        """The one trade that is not over."""
        [trade] = self.trades(TradeState.OPEN, TradeState.CLOSING, TradeState.STALE)
        return trade

    def fault(self, kind: str, call: str = "exchange:order", times: int = 1, **args: Any) -> None:
        self.plan.add(Fault("hyperliquid", kind, call, times=times, args=args))

    def calls(self, call: str) -> int:
        return sum(1 for row in self.plan.calls if row["call"] == call)

    def alerts(self) -> Counter[tuple[str, str]]:
        """Open alerts by kind and subject."""
        return Counter((row.kind, row.subject) for row in self.store.alerts(open_only=True))

    def revoke(self, user: Person) -> None:
        """The user approves another agent under the same name: ours is none of his any more."""
        self.twin.control(
            "approve_agent", {"master": user.address, "agent": "0x" + "9a" * 20, "name": "evenkeel"}
        )

    def agent(self, user: Person, generation: int = 1) -> str:
        return self.desk.agents.agent_of(user.address, generation)


@asynccontextmanager
async def agents_rig(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    users: int = 1,
    usdc: str = "1000",
    around: Callable[[App], App] = lambda app: app,
    **options: Any,
) -> AsyncIterator[AgentsRig]:
    """Users with 1,000 USDC each, who approved their agents and are deployed; SOL at 200; a desk that has ticked once."""
    world, plan = flat_world(), FaultPlan()
    twin = HyperliquidTwin(world, plan)
    clock = SteppedClock(world)
    ledger = f"sqlite:///{folder / 'evenkeel.db'}"
    make_ledger(ledger)
    app = FaultMiddleware(twin.app, plan, "hyperliquid", twin.call_name, world.now_ms)
    monkeypatch.setenv("EVENKEEL_AGENTS_KEY", SECRET)
    async with served(around(app)) as url:
        settings = Settings(
            database={"url": ledger},
            hyperliquid={"url": url, "timeout_s": 10.0},
            agents={"enabled": True, **options.pop("agents", {})},
        )
        store = Store.open(ledger, clock)
        try:
            async with hyperliquid_accounts_desk(settings, clock, store) as desk:
                people = [Person(twin, "0x" + f"{n + 1:02x}" * 32) for n in range(users)]
                fingerprint = keys_of(settings).fingerprint
                model = options.pop("fee_model", "PROFIT_SHARE")
                store.accounts.add_agent("guard", HYPERLIQUID, fingerprint, Decimal("0.1"), model, {})
                rig = AgentsRig(world, twin, plan, settings, clock, desk, people)
                for n, one in enumerate(people):
                    twin.control("fund", {"address": one.address, "usdc": usdc})
                    approved = {"master": one.address, "agent": rig.agent(one), "name": "evenkeel"}
                    twin.control("approve_agent", approved)
                    store.accounts.add_user(one.address)
                    store.accounts.deploy(f"d{n}", one.address, "guard", {"generation": 1})
                    store.accounts.move_deployment(f"d{n}", DeploymentState.ACTIVE, "seen at the venue")
                await rig.ticked()
                yield rig
        finally:
            store.close()
