"""The desk of users' accounts on Hyperliquid, and one tick of it: prices, orders under way, accounts in turns, stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal

import httpx

from evenkeel.clock import Clock
from evenkeel.errors import UNREAD, NotUnderstood, OperatorError
from evenkeel.settings.settings import Settings
from state.accounts.many import HYPERLIQUID
from state.accounts.models import AccountTrade, DeploymentState, TradeState
from state.accounts.store import ACCOUNTS
from state.models import Fence
from state.store import Store
from strategy.accounts.conditions import AGENT_ENDS, MODE, UNGUARDED, Finding, Judged
from strategy.accounts.stops import StopRules
from tasks.accounts.alerts import HYPERLIQUID_WATCH
from tasks.accounts.booking import USER, AccountsBookkeeper
from tasks.accounts.hyperliquid.reading import HELD, AccountReader
from tasks.accounts.hyperliquid.stops import HyperliquidStops, Market
from tasks.accounts.hyperliquid.turns import Every
from tasks.accounts.trading import side_by_side
from tasks.accounts.watching import TickReport, follow, trail
from tasks.budgets import HYPERLIQUID_LARGEST_WEIGHT, HYPERLIQUID_WEIGHT_LIMIT, shared_budget
from tasks.desk import Desk
from tasks.health import CountedTransport
from venues.hyperliquid.client import HyperliquidClient
from venues.hyperliquid.equity import READABLE_MODES
from venues.hyperliquid.managed import HyperliquidAgents
from venues.signers.derived import DerivedEvmKeys

ENDS_MS = 7 * 86_400_000
"""So long before an agent's approval ends a person hears of it."""
TICK_MS = 30_000
"""From one calm tick to the next."""
UNGUARDED_MS = 120_000
"""A trade may be without a stop for so long before somebody hears of it."""
OFF = "accounts on Hyperliquid are off: set agents.enabled = true"


@dataclass
class HyperliquidAccountsDesk:
    """What one process guards users' accounts on Hyperliquid with."""

    desk: Desk
    agents: HyperliquidAgents
    reader: AccountReader
    weight_per_tick: float
    mids: dict[int, Decimal] = field(default_factory=dict)
    """Mark prices of the markets that trade now, USD, as of the last tick: what stops are judged by there."""
    watch: str = HYPERLIQUID_WATCH
    closely_s: float = 10.0
    """Stops stand at the venue, where they fire by themselves; and each tick takes 20 of its weight for the prices alone."""
    _spent_ms: int | None = None
    """When a tick spent weight on accounts last."""
    _rules: dict[str, StopRules] = field(default_factory=dict)

    @property
    def stops(self) -> HyperliquidStops:
        """How stops are set there."""
        return self.reader.stops

    async def tick(self, fence: Fence | None = None) -> TickReport:
        """Watch once. Raises UNREAD where nothing of the venue could be read yet."""
        report = TickReport()
        try:
            await self.read_prices()
        except UNREAD:
            self.mids = {}  # stops stay where they are: they stand at the venue
            if not self.stops.markets:
                raise
        await follow(self.desk, report, fence)
        await self.read_accounts(report, fence)
        rows = self.desk.store.accounts.deployments(venue=HYPERLIQUID)
        self.stops.deployments = {one.deployment_id: one for one in rows}
        agents = self.desk.store.accounts.agents()
        self._rules = {one.agent_id: StopRules.model_validate(one.rules.get("stops", {})) for one in agents}
        await trail(self.desk, self.mids, self.rules, report, fence, self.stops)
        return report

    def rules(self, deployment_id: str) -> StopRules:
        """How stops are set for a deployment: its agent's rules, as of this tick."""
        return self._rules[self.stops.deployments[deployment_id].agent_id]

    async def read_accounts(self, report: TickReport, fence: Fence | None = None) -> None:
        """Read the accounts whose turn it is, side by side: those in doubt first, then whoever was read longest ago, as
        many as the weight of a tick allows, one at least.
        """
        now_ms = self.desk.clock.now_ms()
        since_ms = TICK_MS if self._spent_ms is None else max(0, now_ms - self._spent_ms)
        left, self._spent_ms = self.weight_per_tick * min(1.0, since_ms / TICK_MS), now_ms
        turn, waiting = list[str](), self._waiting()
        every = self.reader.every = Every.of(len(waiting), self.weight_per_tick, TICK_MS)
        for account in waiting:
            its = self.reader.turn(account)
            weight = its.weight(len(self._trades(account)), now_ms, every)
            if turn and weight > left:
                break
            turn.append(account)
            its.is_paid = its.reads_fills(now_ms, every)
            left -= weight
        self.reader.left = left

        async def one(account: str) -> None:
            await self.reader.read(account, report, fence)

        ends = await side_by_side(turn, one)
        for account, fault in ends.items():
            if fault is not None:
                report.faults[account] = fault
                self.reader.turn(account).read_ms = now_ms  # its turn comes again, and holds up no other

    def _waiting(self) -> list[str]:
        accounts = self.desk.store.accounts
        live = accounts.deployments(DeploymentState.ACTIVE, DeploymentState.PAUSED, venue=HYPERLIQUID)
        names = {one.account for one in live} | {
            one.account for one in accounts.trades(*HELD, venue=HYPERLIQUID)
        }
        return sorted(
            names, key=lambda one: (not self.reader.turn(one).comes_first, self.reader.turn(one).read_ms, one)
        )

    def _trades(self, account: str) -> list[AccountTrade]:
        return self.desk.store.accounts.trades(*HELD, account=account, venue=HYPERLIQUID)

    async def read_prices(self) -> None:
        """Read which markets there are, and their mark prices. Raises UNREAD."""
        meta, contexts = await self.agents.client.meta_and_asset_ctxs()
        markets, marks = dict[str, Market](), dict[int, Decimal]()
        for number, (asset, row) in enumerate(zip(meta.universe, contexts, strict=True)):
            if asset is None:
                continue
            markets[asset.name] = Market(number, asset.sz_decimals)
            if row is not None and row.mark_px > 0 and not asset.is_delisted:
                marks[number] = row.mark_px
        if not markets:
            raise NotUnderstood(HYPERLIQUID, "metaAndAssetCtxs lists no market that can be read")
        self.stops.markets.update(markets)
        self.mids = marks

    # --- what stands ---

    def judge(self) -> Judged:
        """What a person must know of the accounts, by what was read last; nothing is asked."""
        accounts, now_ms = self.desk.store.accounts, self.desk.clock.now_ms()
        found: Judged = {}
        for row in accounts.deployments(DeploymentState.ACTIVE, DeploymentState.PAUSED, venue=HYPERLIQUID):
            until, mode = row.seen.get("agent_until_ms"), row.seen.get("mode")
            found[AGENT_ENDS, row.deployment_id] = None
            if until is not None and int(until) - now_ms < ENDS_MS:
                days = max(0, (int(until) - now_ms) // 86_400_000)
                text = f"the approval of {row.account}'s agent ends in {days} days: then nobody guards his trades"
                found[AGENT_ENDS, row.deployment_id] = Finding(text=text)
            found[MODE, row.deployment_id] = None
            if mode is not None and mode not in READABLE_MODES:
                text = (
                    f"{row.account} is in the mode {mode}, in which a trade has no collateral of its own: its stops stay where "
                    "they are"
                )
                found[MODE, row.deployment_id] = Finding(text=text, critical=True)
        for trade in accounts.trades(TradeState.OPEN, venue=HYPERLIQUID):
            if trade.deployment_id is None:
                continue
            trouble = self.stops.troubles.get(trade.name, "")
            bare = trade.stop is None and trade.stop_by != USER and now_ms - trade.created_ms >= UNGUARDED_MS
            text = f"{trade.name} of {trade.account} has no stop of ours: {trouble or 'none could be placed yet'}"
            stands = trade.stop is None and trade.stop_by != USER and bool(trouble)
            found[UNGUARDED, trade.name] = Finding(text=text, critical=True) if bare or stands else None
        return found


@asynccontextmanager
async def hyperliquid_accounts_desk(
    settings: Settings, clock: Clock, store: Store
) -> AsyncIterator[HyperliquidAccountsDesk]:
    """Open it. Raises OperatorError in one line: switched off, or no secret of the agents' keys."""
    ours, venue = settings.agents, settings.hyperliquid
    if not ours.enabled:
        raise OperatorError(OFF)
    keys = await asyncio.to_thread(keys_of, settings)
    async with AsyncExitStack() as stack:
        desk = Desk(settings, clock, store, {}, {})
        room = HYPERLIQUID_WEIGHT_LIMIT - venue.weight_per_minute
        budget = shared_budget(
            settings, venue.url, venue.weight_per_minute, clock, burst=max(HYPERLIQUID_LARGEST_WEIGHT, room)
        )
        transport = CountedTransport(HYPERLIQUID, desk.health)
        http = httpx.AsyncClient(timeout=venue.timeout_s, trust_env=False, transport=transport)
        client = HyperliquidClient(
            venue.url,
            clock,
            budget=budget,
            http=await stack.enter_async_context(http),
            oddities=desk.oddities,
        )
        agents = HyperliquidAgents(client, keys, clock, expires_after_ms=int(venue.order_life_s * 1000))
        desk.venues[HYPERLIQUID] = agents
        desk.bookkeepers[ACCOUNTS] = AccountsBookkeeper(store.accounts, agents.chain)
        stops = HyperliquidStops(store, agents, ours.stop_slippage, ours.close_slippage_bps)
        yield HyperliquidAccountsDesk(desk, agents, AccountReader(store, agents, stops), ours.weight_per_tick)


def keys_of(settings: Settings) -> DerivedEvmKeys:
    """The secret out of which agents' keys are made. Raises OperatorError where there is none, or it is malformed."""
    secret = settings.secret("agents")
    if secret is None:
        raise OperatorError(
            "no secret of the agents: set EVENKEEL_AGENTS_KEY or agents.key_file (`openssl rand -hex 32`)"
        )
    return DerivedEvmKeys.from_hex(secret.get_secret_value())
