"""The desk of managed accounts, by the settings: the chain, the venue's contracts, both keys, prices and a second source."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal

from evenkeel.clock import Clock
from evenkeel.errors import UNREAD, OperatorError
from evenkeel.settings.secrets import Keeper, key_of
from evenkeel.settings.settings import Settings
from state.accounts.many import OSTIUM
from state.accounts.models import DeploymentState
from state.accounts.store import ACCOUNTS
from state.models import Fence
from state.store import Store
from strategy.accounts.share import ChargeState
from strategy.accounts.stops import StopRules
from tasks.accounts.alerts import ACCOUNTS_WATCH
from tasks.accounts.booking import AccountsBookkeeper
from tasks.accounts.trading import CHARGES
from tasks.accounts.watching import TickReport, Where, tick
from tasks.desk import Desk, opened_ledger
from tasks.health import CountedTransport
from tasks.lanes import LedgerLanes
from venues.evm.fees import GWEI, FeeCaps
from venues.evm.pages import Cutoff
from venues.evm.pulls import IsOwed, Token, TokenPulls
from venues.evm.rpc import EvmNodes, EvmRpc
from venues.evm.sender import Chain
from venues.hyperliquid.client import HyperliquidClient
from venues.ostium.graph import Subgraph
from venues.ostium.prices import Prices
from venues.ostium.validator import DelegateRules, Limits
from venues.ostium.venue import OstiumVenue, find_contracts
from venues.ratebudget import RateBudget
from venues.signers.local import LocalEvmKey
from venues.signers.protocol import EvmSigner

USDC_DECIMALS = 6


@dataclass
class AccountsDesk:
    """What one process trades for users with."""

    desk: Desk
    where: Where
    prices: Prices
    second: SecondPrices
    graph: Subgraph | None = None
    """Compared with the books, and never booked from; None where none is set."""
    mids: dict[int, Decimal] = field(default_factory=dict)
    """Of the markets that trade now, USD, as of the last tick."""
    is_open: dict[str, bool] = field(default_factory=dict)
    """By market, whether it trades now; those whose hours could be read at the last tick."""
    watch: str = ACCOUNTS_WATCH
    closely_s: float = 2.0
    """Seconds between ticks while an order is under way or a stop is near."""
    _agents: dict[str, str] | None = None
    _stop_rules: dict[str, StopRules] = field(default_factory=dict)

    async def tick(self, fence: Fence | None = None) -> TickReport:
        """Read the price list, then watch everything once. Raises UNREAD where the chain cannot be read. The second source is
        read where an opening or a close is under way, which are judged by it when they are signed anew.
        """
        if any(one.kind in ("open", "close") for one in self.desk.store.unfinished_intents(ACCOUNTS)):
            await self.second.refresh()
        self._agents, self._stop_rules = None, {}
        try:
            quotes = await self.prices.now()
        except UNREAD:
            quotes = {}  # stops stay where they are: they stand at the venue
        names = self.desk.settings.ostium.markets
        self.is_open = {names[number]: quote.is_open for number, quote in quotes.items() if number in names}
        self.mids = {number: quote.mid for number, quote in quotes.items() if quote.is_open}
        return await tick(self.desk, self.where, self.mids, self.rules, fence)

    def rules(self, deployment_id: str) -> StopRules:
        """How stops are set for a deployment: its agent's rules, as of this tick."""
        accounts = self.desk.store.accounts
        if self._agents is None:
            self._agents = accounts.agents_of_deployments()
        agent = self._agents[deployment_id]
        if agent not in self._stop_rules:
            self._stop_rules[agent] = StopRules.model_validate(accounts.agent(agent).rules.get("stops", {}))
        return self._stop_rules[agent]


class SecondPrices:
    """Hyperliquid's oracle prices of the same coins, as of the last reading: what an opening's price is judged by."""

    FRESH_MS = 60_000

    def __init__(self, client: HyperliquidClient, clock: Clock, markets: dict[int, str]) -> None:
        self._client = client
        self._clock = clock
        self._coins = {number: name.partition("/")[0] for number, name in markets.items()}
        self._oracle: dict[str, Decimal] = {}
        self._at_ms: int | None = None

    async def refresh(self) -> None:
        """Read anew; what cannot be read stays as it was, and grows old."""
        try:
            meta, contexts = await self._client.meta_and_asset_ctxs()
        except UNREAD:
            return
        self._oracle = {
            asset.name: row.oracle_px
            for asset, row in zip(meta.universe, contexts, strict=True)
            if asset is not None and row is not None and row.oracle_px > 0 and not asset.is_delisted
        }
        self._at_ms = self._clock.now_ms()

    def of(self, pair: int) -> Decimal | None:
        """USD of a market, None where it is not known or older than a minute."""
        if self._at_ms is None or self._clock.now_ms() - self._at_ms > self.FRESH_MS:
            return None
        return self._oracle.get(self._coins.get(pair, ""))


@asynccontextmanager
async def accounts_desk(settings: Settings, clock: Clock, store: Store) -> AsyncIterator[AccountsDesk]:
    """Open it. Raises OperatorError in one line: switched off, no platform wallet, a key that is missing, another chain, an
    address without a contract; UNREAD where the chain cannot be asked.
    """
    at, venue = settings.ostium.at, settings.ostium
    if not venue.enabled:
        raise OperatorError(
            "managed accounts are off: set ostium.enabled = true once the venue is open again"
        )
    if not settings.collector.platform_wallet:
        raise OperatorError(
            "collector.platform_wallet is empty, and so is OSTIUM_PLATFORM_WALLET: name the wallet that charges are paid to; "
            "without it no deployment is activated"
        )
    agent, collector = await asyncio.gather(
        asyncio.to_thread(_key, settings, "ostium"), asyncio.to_thread(_key, settings, "collector")
    )
    if agent.address == collector.address:
        raise OperatorError(
            "the agent's key and the collector's are one: whoever has it could trade and pull; make two"
        )
    async with AsyncExitStack() as stack:
        desk = Desk(settings, clock, store, {}, {})
        rpc = _rpc(settings, clock, desk)
        stack.push_async_callback(rpc.close)
        chain_id = await rpc.chain_id()
        if chain_id != at.chain_id:
            raise OperatorError(
                f"ostium.network is {venue.network} ({at.chain_id}), its node is of chain {chain_id}"
            )
        contracts = await find_contracts(rpc, at.trading, at.storage, at.usdc)
        hyperliquid = HyperliquidClient(
            settings.hyperliquid.url, clock, timeout_s=settings.hyperliquid.timeout_s
        )
        stack.push_async_callback(hyperliquid.aclose)
        second = SecondPrices(hyperliquid, clock, venue.markets)
        prices = Prices(
            venue.prices_url, clock, venue.markets, timeout_s=venue.timeout_s, oddities=desk.oddities
        )
        stack.push_async_callback(prices.close)
        chain = Chain(chain_id, venue.confirmations)
        caps = FeeCaps(int(venue.most_gas_gwei * GWEI))
        lanes = LedgerLanes(store.lanes)
        rules = DelegateRules(lambda trader: limits_of(store, trader), second.of, venue.most_price_deviation)
        validator = rules.validator(chain_id, at.trading, caps)
        desk.venues[OSTIUM] = OstiumVenue(rpc, agent, lanes, chain, contracts, validator, clock)
        token = Token(
            address=at.usdc,
            decimals=USDC_DECIMALS,
            wallet=settings.collector.platform_wallet,
            most_units=int(settings.collector.most_usdc.scaleb(USDC_DECIMALS)),
        )
        desk.venues[CHARGES] = TokenPulls(
            CHARGES, token, rpc, collector, lanes, chain, caps, clock, owed_in(store)
        )
        desk.bookkeepers[ACCOUNTS] = AccountsBookkeeper(store.accounts, str(chain_id))
        where = Where(rpc, contracts, venue.start_block, Cutoff.of(venue.cutoff))
        graph = None
        if venue.subgraph_url:
            graph = Subgraph(venue.subgraph_url, clock, timeout_s=venue.timeout_s, oddities=desk.oddities)
            stack.push_async_callback(graph.close)
        yield AccountsDesk(desk, where, prices, second, graph)


@asynccontextmanager
async def open_accounts_desk(settings: Settings) -> AsyncIterator[AccountsDesk]:
    """The desk on this host's ledger and clock, closed at the end. Raises as `accounts_desk` does."""
    async with opened_ledger(settings) as store, accounts_desk(settings, store.clock, store) as desk:
        yield desk


def owed_in(store: Store) -> IsOwed:
    """Return what says whether an account owes a charge of just so many units."""

    def is_owed(owner: str, units: int) -> bool:
        to_pay = store.accounts.charges(ChargeState.DUE, ChargeState.OUTSTANDING, account=owner)
        return any(units == int(one.usdc.scaleb(USDC_DECIMALS)) for one in to_pay)

    return is_owed


def limits_of(store: Store, trader: str) -> Limits | None:
    """What a trader allows this key: the widest of his deployments that are not revoked; None for one who has none. Nothing is
    opened by those that are paused.
    """
    mine = store.accounts.deployments(DeploymentState.ACTIVE, DeploymentState.PAUSED, account=trader)
    if not mine:
        return None
    active = [one for one in mine if one.state is DeploymentState.ACTIVE]
    allowed = [Limits.model_validate(one.limits) for one in active or mine]
    return Limits(
        pairs=frozenset().union(*(one.pairs for one in allowed)),
        most_collateral_usdc=max(one.most_collateral_usdc for one in allowed),
        most_leverage=max(one.most_leverage for one in allowed),
        most_slippage_bps=max(one.most_slippage_bps for one in allowed),
        may_open=bool(active),
    )


def _key(settings: Settings, name: Keeper) -> EvmSigner:
    path = settings.ostium.key_file if name == "ostium" else settings.collector.key_file
    secret = key_of(name, path)
    if secret is None:
        raise OperatorError(f"no key of {name}: set EVENKEEL_{name.upper()}_KEY or {name}.key_file")
    return LocalEvmKey.from_hex(secret.get_secret_value())


def _rpc(settings: Settings, clock: Clock, desk: Desk) -> EvmRpc:
    venue = settings.ostium

    def node(url: str, host: str) -> EvmRpc:
        budget = RateBudget(clock, venue.requests_per_minute)
        transport = CountedTransport(host, desk.health)
        return EvmRpc(url, clock, budget=budget, timeout_s=venue.timeout_s, transport=transport)

    first = node(venue.rpc_url, OSTIUM)
    return EvmNodes(first, node(venue.second_rpc_url, OSTIUM), clock) if venue.second_rpc_url else first
