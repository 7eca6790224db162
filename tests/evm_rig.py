"""A chain of a test: one node a process, put back after each test; a ledger; adapters and desks on the world's clock."""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from evenkeel.settings.settings import Settings
from evenkeel.types import IntentSpec, Receipt
from state.models import Intent
from state.store import Store
from tasks.booking import Prepared
from tasks.desk import Desk
from tasks.lanes import LedgerLanes
from tests.databases import make_ledger
from twins.clock import TwinClock
from twins.evm.deploying import deploy, transact
from twins.evm.node import BASE_FEE_WEI, Node, NoNode
from twins.evm.twin import VENUE, EvmTwin
from twins.faults import App, Fault, FaultMiddleware, FaultPlan
from twins.http import served
from twins.series import ModelSeries
from twins.world import World
from venues.evm.fees import GWEI, FeeCaps
from venues.evm.pulls import Token, TokenPulls
from venues.evm.rpc import EvmNodes, EvmRpc
from venues.evm.sender import Chain
from venues.signers.local import LocalEvmKey

OUT = Path(__file__).parents[1] / "out"
START_MS, CHAIN_ID = 1_767_225_600_000, 421_614
COLLECTOR = "0x" + "5a" * 32
CHARGES, PLATFORM = "charges", "0x" + "77" * 20
MILLION = 1_000_000


@cache
def node() -> Node:
    """This process's node; skips where none can be had."""
    try:
        found = Node(OUT, CHAIN_ID, START_MS - 3_600_000)
    except NoNode as missing:
        pytest.skip(f"no EVM node: {missing}")
    atexit.register(found.close)
    return found


class ChainClock:
    """The world's time: whoever waits moves it on, or lets it pass where it flows."""

    def __init__(self, clock: TwinClock) -> None:
        self._clock = clock

    def now_ms(self) -> int:
        return self._clock.now_ms()

    async def sleep(self, seconds: float) -> None:
        if self._clock.stepped:
            self._clock.advance_to(self._clock.now_ms() + seconds * 1000)
        await asyncio.sleep(0 if self._clock.stepped else seconds / self._clock.speed)

    async def refresh(self) -> None:
        """It is the venue's own."""


class NoRows:
    """A business that books nothing beside the intent."""

    receipt_type = Receipt

    def admit(self, db: Any, spec: IntentSpec) -> None:
        """Every subject is open."""

    async def prepare(self, intent: Intent, receipt: Receipt, *, final: bool) -> Prepared:
        return Prepared(receipt, None)


@dataclass
class EvmRig:
    twin: EvmTwin
    faults: FaultPlan
    clock: ChainClock
    urls: list[str]
    ledger: str
    usdc: str
    issuer: str
    users: list[str]
    stores: list[Store] = field(default_factory=list)
    unowed: set[int] = field(default_factory=set)
    """Units that nobody owes."""

    def fault(self, kind: str, call: str = ".*", *, after: int = 0, times: int = 1, **args: Any) -> Fault:
        planned = Fault(VENUE, kind, call, after=after, times=times, args=args)
        self.faults.add(planned)
        return planned

    def calls(self, name: str) -> int:
        """How many requests called a method, whatever became of it."""
        return sum(1 for one in self.faults.calls if name in one["call"].split("+"))

    def transact(
        self, sender: str, to: str, signature: str, *values: Any, mine: bool = True
    ) -> dict[str, Any]:
        return transact(self.twin.node, sender, to, signature, *values, mine=mine)

    def balance(self, owner: str) -> int:
        """Units of USDC."""
        data = "0x70a08231" + owner[2:].rjust(64, "0")
        return int(self.twin.node.rpc("eth_call", {"to": self.usdc, "data": data}, "latest"), 16)

    def nonce(self, address: str) -> int:
        return int(self.twin.node.rpc("eth_getTransactionCount", address, "latest"), 16)

    def rpc(self) -> EvmRpc:
        """A client of this process's own, over one node or two."""
        nodes = [EvmRpc(url, self.clock) for url in self.urls]
        return nodes[0] if len(nodes) == 1 else EvmNodes(nodes[0], nodes[1], self.clock)

    def desk(self, rpc: EvmRpc | None = None, **caps: int) -> Desk:
        """One process: its own connections, turns and adapter, on the ledger that all share."""
        store = Store.open(self.ledger, self.clock, more={CHARGES: NoRows()})
        self.stores.append(store)
        token = Token(address=self.usdc, decimals=6, wallet=PLATFORM, most_units=1_000 * MILLION)
        pulls = TokenPulls(
            "arbitrum",
            token,
            rpc or self.rpc(),
            LocalEvmKey.from_hex(COLLECTOR),
            LedgerLanes(store.lanes),
            Chain(CHAIN_ID, confirmations=3),
            FeeCaps(caps.get("most_wei", GWEI // 2), caps.get("tip_wei", 0)),
            self.clock,
            lambda owner, units: units not in self.unowed,
        )
        return Desk(Settings(), self.clock, store, {"arbitrum": pulls}, {CHARGES: NoRows()})

    def pull(self, name: str, owner: str, units: int, step: int = 0) -> IntentSpec:
        return IntentSpec(
            intent_id=name,
            business=CHARGES,
            subject=name,
            venue="arbitrum",
            kind="pull",
            step=step,
            order={"owner": owner, "units": units},
        )


@cache
def dollar_of_this_process() -> str:
    """USDC on this process's node, deployed once: three users have 1,000 each and allow the collector all of it."""
    real = node()
    issuer, *users = [str(one) for one in real.rpc("eth_accounts")[:4]]
    usdc = deploy(real, "usdc", issuer)
    collector = LocalEvmKey.from_hex(COLLECTOR).address
    real.rpc("anvil_setBalance", collector, hex(10**18))
    for user in users:
        transact(real, issuer, usdc, "mint(address,uint256)", user, 1_000 * MILLION)
        transact(real, user, usdc, "approve(address,uint256)", collector, 1_000 * MILLION)
    return usdc


@cache
def series() -> ModelSeries:
    """The market behind every chain of this process: it knows no time of its own."""
    return ModelSeries(7, START_MS)


def settle_fee(real: Node) -> None:
    """Make a block at the fee that the chain asks for: those of a set-up let it fall."""
    real.rpc("anvil_setNextBlockBaseFeePerGas", hex(BASE_FEE_WEI))
    real.rpc("evm_mine")


@asynccontextmanager
async def evm_rig(
    folder: Path,
    *,
    nodes: int = 1,
    ledger: str | None = None,
    speed: float = 0,
    around: Callable[[App], App] = lambda app: app,
) -> AsyncIterator[EvmRig]:
    """A chain with a dollar on it; three users with 1,000 each, who allow the collector all of it. `speed`: world seconds a
    second; 0 for a world that only who waits moves on.
    """
    real, usdc = node(), dollar_of_this_process()
    kept = real.rpc("evm_snapshot")
    clock = TwinClock(START_MS, speed=speed, stepped=not speed)
    world = World(series(), clock)
    faults = FaultPlan()
    twin = EvmTwin(world, faults, real)
    app = around(FaultMiddleware(twin.app, faults, VENUE, twin.call_name, world.now_ms))
    issuer, *users = [str(one) for one in real.rpc("eth_accounts")[:4]]
    url = ledger or f"sqlite:///{folder / 'evm.db'}"
    make_ledger(url)
    settle_fee(real)
    async with served(app) as first, served(app) as second:
        rig = EvmRig(twin, faults, ChainClock(clock), [first, second][:nodes], url, usdc, issuer, users)
        try:
            yield rig
        finally:
            for store in rig.stores:
                store.close()
            await twin.close()
            real.rpc("evm_revert", kept)
