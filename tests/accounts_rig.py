"""Users, an agent and a venue of a test: the venue's contracts on a real node, and a keeper that answers when asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from evenkeel.settings.settings import Settings
from state.accounts.many import OSTIUM
from state.accounts.models import DeploymentState
from state.accounts.store import ACCOUNTS
from state.store import Store
from strategy.accounts.share import FeeModel
from tasks.accounts.booking import AccountsBookkeeper
from tasks.accounts.desk import owed_in
from tasks.accounts.trading import CHARGES
from tasks.desk import Desk
from tasks.lanes import LedgerLanes
from tests.evm_rig import (
    CHAIN_ID,
    MILLION,
    PLATFORM,
    EvmRig,
    dollar_of_this_process,
    evm_rig,
    node,
    settle_fee,
)
from twins.evm.deploying import transact
from twins.ostium.deployment import Deployment, deployed
from twins.world import World
from venues.evm.fees import GWEI, FeeCaps
from venues.evm.pulls import Token, TokenPulls
from venues.evm.sender import Chain
from venues.ostium.validator import DelegateRules, Limits
from venues.ostium.venue import OstiumVenue, find_contracts
from venues.signers.local import LocalEvmKey

AGENT, COLLECTOR = "0x" + "a9" * 32, "0x" + "c0" * 32
SOL, PRICE = 9, Decimal(150)
WEI = 10**18
LIMITS = Limits(
    pairs=frozenset({0, SOL}),
    most_collateral_usdc=Decimal(500),
    most_leverage=Decimal(20),
    most_slippage_bps=300,
)


@dataclass
class AccountsRig:
    """`prices`: bid and ask of every market, USD, as the keeper takes them."""

    evm: EvmRig
    venue: Deployment
    bid: Decimal = PRICE
    ask: Decimal = PRICE
    settled: set[int] = field(default_factory=set)
    second_price: Decimal | None = PRICE
    world: World | None = None
    """Behind the second source of prices, where one is served."""
    works: bool = True
    """Whether a keeper who answers by himself does."""
    start: int = 0
    """The block before anything was done."""

    @property
    def users(self) -> list[str]:
        return self.evm.users

    def answer(self, order_id: int, *, is_open: bool = True) -> None:
        """Let the keeper settle an order by the prices of now."""
        mid = (self.bid + self.ask) / 2
        price, bid, ask = (int(one * WEI) if is_open else 0 for one in (mid, self.bid, self.ask))
        self.venue.send("prices", "answer", (order_id, price, bid, ask, False), sender=self.venue.keeper)
        self.settled.add(order_id)

    def pending(self) -> list[int]:
        """Orders of the users that wait for the keeper."""
        waiting = [
            int(one) for user in self.users for one in self.venue.read("storage", "getPendingOrderIds", user)
        ]
        return sorted(set(waiting) - self.settled)

    def settle(self, *, is_open: bool = True) -> int:
        """Let the keeper settle all that waits; return how many."""
        waiting = self.pending()
        for order_id in waiting:
            self.answer(order_id, is_open=is_open)
        self.evm.twin.node.rpc("anvil_mine", "0x3", "0x1")
        settle_fee(self.evm.twin.node)
        return len(waiting)

    def move(self, price: str, spread: str = "0") -> None:
        """The market goes there, for the keeper and the second source."""
        self.bid, self.ask = Decimal(price) - Decimal(spread), Decimal(price) + Decimal(spread)
        self.second_price = Decimal(price)
        if self.world is not None:
            self.world.overrides.sol_price = float(price)

    async def desk(self) -> Desk:
        """One process, on the ledger that all share."""
        evm, rpc = self.evm, self.evm.rpc()
        store = Store.open(evm.ledger, evm.clock)
        evm.stores.append(store)
        at = self.venue.at
        chain, caps, lanes = (
            Chain(CHAIN_ID, confirmations=2, wait_s=4),
            FeeCaps(GWEI // 2),
            LedgerLanes(store.lanes),
        )
        contracts = await find_contracts(rpc, at["trading"], at["storage"], at["usdc"])
        rules = DelegateRules(
            lambda trader: LIMITS if trader in self.users else None,
            lambda pair: self.second_price,
            Decimal("0.02"),
        )
        ostium = OstiumVenue(
            rpc,
            LocalEvmKey.from_hex(AGENT),
            lanes,
            chain,
            contracts,
            rules.validator(CHAIN_ID, at["trading"], caps),
            evm.clock,
        )
        token = Token(address=at["usdc"], decimals=6, wallet=PLATFORM, most_units=1_000 * MILLION)
        pulls = TokenPulls(
            CHARGES,
            token,
            rpc,
            LocalEvmKey.from_hex(COLLECTOR),
            lanes,
            chain,
            caps,
            evm.clock,
            owed_in(store),
        )
        keeper = AccountsBookkeeper(store.accounts, str(CHAIN_ID))
        return Desk(Settings(), evm.clock, store, {OSTIUM: ostium, CHARGES: pulls}, {ACCOUNTS: keeper})

    def opening(self, **changes: Any) -> dict[str, Any]:
        """100 USDC, 3 times, long SOL at the market."""
        return {
            "pair": SOL,
            "is_long": True,
            "collateral_usdc": "100",
            "leverage": "3",
            "price": str((self.bid + self.ask) / 2),
            "slippage_bps": 100,
        } | changes


@cache
def venue_of_this_process() -> Deployment:
    """Ostium on this process's node, deployed once, with everything that its users allow: each test puts back what it did."""
    real, usdc = node(), dollar_of_this_process()
    issuer, *users, keeper = [str(one) for one in real.rpc("eth_accounts")[:5]]
    venue = deployed(real, usdc, issuer, keeper)
    transact(real, issuer, usdc, "mint(address,uint256)", venue.at["vault"], 1_000_000 * MILLION)
    agent, collector = (LocalEvmKey.from_hex(key).address for key in (AGENT, COLLECTOR))
    for address in (agent, collector):
        real.rpc("anvil_setBalance", address, hex(10**18))
    for user in users:
        transact(real, user, usdc, "approve(address,uint256)", venue.at["storage"], 10_000 * MILLION)
        transact(real, user, usdc, "approve(address,uint256)", collector, 100 * MILLION)
        transact(real, user, venue.at["trading"], "setDelegate(address)", agent)
    return venue


@asynccontextmanager
async def accounts_rig(folder: Path, **options: Any) -> AsyncIterator[AccountsRig]:
    """Three users with 1,000 USDC each, who let the agent trade and the collector pull; an active deployment of the first."""
    venue = venue_of_this_process()
    async with evm_rig(folder, **options) as evm:
        node, agent = evm.twin.node, LocalEvmKey.from_hex(AGENT).address
        rig = AccountsRig(evm, venue, start=int(node.rpc("eth_blockNumber"), 16))
        accounts = (await rig.desk()).store.accounts
        for n, user in enumerate(evm.users):
            accounts.add_user(user)
            accounts.add_agent("trend", OSTIUM, agent, Decimal("0.1"), FeeModel.PER_TRADE, {})
            accounts.deploy(f"d{n}", user, "trend", LIMITS.model_dump(mode="json"))
            accounts.move_deployment(f"d{n}", DeploymentState.ACTIVE, "seen on chain")
        yield rig
