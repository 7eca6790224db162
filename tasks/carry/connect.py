"""The connections to both venues, without a ledger: what every desk has, and all that the last resort needs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import httpx

from evenkeel.clock import Clock
from evenkeel.errors import OperatorError
from evenkeel.settings.settings import Settings
from evenkeel.types import VenueName
from tasks.budgets import HYPERLIQUID_LARGEST_WEIGHT, HYPERLIQUID_WEIGHT_LIMIT, shared_budget
from tasks.carry.hosts import ASGARD, HYPERLIQUID, SOLANA, SOLANA_SECOND
from tasks.carry.mark import UNDERLYING
from tasks.carry.prices import sol_price_of
from tasks.health import CallLog, CountedTransport
from tasks.keys import hyperliquid_validator, open_keys, open_keys_to_close
from tasks.solana_rules import rules_as_they_stand
from venues.asgard.client import AsgardClient
from venues.asgard.on_chain import OnChain
from venues.asgard.venue import AsgardVenue
from venues.hyperliquid.client import HyperliquidClient
from venues.hyperliquid.stream import PriceStream
from venues.hyperliquid.venue import HyperliquidVenue
from venues.jsonrpc import SHUT_OUT_STATUS
from venues.reading import Oddities
from venues.shared import SharedReads
from venues.solana.failover import FailoverRpc
from venues.solana.lenders.reader import LenderAccounts
from venues.solana.rpc import SolanaRpc
from venues.solana.rules.common import Rules


@dataclass(frozen=True)
class Venues:
    """Both venues with our keys. `warnings` are what is to be said against those keys; `without_key` and `unidentified`, of the
    kill switch alone, are the venues without theirs (`tasks.keys.Keys`).
    """

    long: AsgardVenue
    short: HyperliquidVenue
    health: CallLog
    oddities: Oddities
    warnings: tuple[str, ...]
    without_key: Mapping[str, str] = field(default_factory=dict)
    unidentified: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Connections:
    """What every account of a process shares: clients without a key, their request budgets, and how their servers answered."""

    hyperliquid: HyperliquidClient
    rpc: SolanaRpc
    second_rpc: SolanaRpc | None
    asgard: AsgardClient
    stream: PriceStream | None
    """Not connected before somebody lets it run."""
    health: CallLog
    oddities: Oddities
    on_chain: bool = True
    """Whether lending positions of several accounts are read from their lenders' accounts."""

    def share(self, shared: SharedReads) -> None:
        """Read what is everybody's once for all accounts."""
        self.hyperliquid.shared = self.rpc.shared = shared
        if self.second_rpc is not None:
            self.second_rpc.shared = SharedReads(shared.clock, shared.fresh_ms)
        rpc = self.rpc
        if self.second_rpc is not None:
            rpc = FailoverRpc(self.rpc, self.second_rpc, shared.clock)
        on_chain = OnChain(LenderAccounts(rpc, shared.clock), shared.clock, self.oddities)
        self.asgard.share(shared, on_chain if self.on_chain else None)


@asynccontextmanager
async def open_connections(
    settings: Settings, clock: Clock, *, to_close: bool = False
) -> AsyncIterator[Connections]:
    """Connect to both venues and the chain; nothing is asked of them yet. With `to_close` a key of Asgard's that cannot be read
    only makes us slower; else it raises OperatorError.
    """
    health, oddities = CallLog(clock), Oddities()
    try:
        api_key = settings.secret("asgard")
    except OperatorError:
        if not to_close:
            raise
        api_key = None  # slower, but a way out
    async with AsyncExitStack() as opened:
        health.budgets[HYPERLIQUID] = budget = shared_budget(
            settings,
            settings.hyperliquid.url,
            settings.hyperliquid.weight_per_minute,
            clock,
            burst=max(
                HYPERLIQUID_LARGEST_WEIGHT,
                HYPERLIQUID_WEIGHT_LIMIT - settings.hyperliquid.weight_per_minute,
            ),
        )
        hyperliquid = HyperliquidClient(
            settings.hyperliquid.url,
            clock,
            budget=budget,
            http=await opened.enter_async_context(
                httpx.AsyncClient(
                    timeout=settings.hyperliquid.timeout_s,
                    trust_env=False,
                    transport=CountedTransport(HYPERLIQUID, health),
                )
            ),
            oddities=oddities,
        )
        rpc = _solana_rpc(settings, settings.solana.rpc_url, clock, health, oddities, SOLANA)
        opened.push_async_callback(rpc.close)
        second_rpc = None
        if settings.solana.second_rpc_url:
            url = settings.solana.second_rpc_url
            second_rpc = _solana_rpc(settings, url, clock, health, oddities, SOLANA_SECOND)
            opened.push_async_callback(second_rpc.close)
        asgard = AsgardClient(
            settings.asgard.url,
            clock,
            api_key=api_key.get_secret_value() if api_key else None,
            timeout_s=settings.asgard.timeout_s,
            budget=shared_budget(
                settings, settings.asgard.url, settings.asgard.requests_per_minute, clock, burst=2
            ),
            transport=CountedTransport(ASGARD, health),
            oddities=oddities,
        )
        opened.push_async_callback(asgard.close)
        stream = PriceStream(settings.hyperliquid.url, clock, (UNDERLYING,), oddities)
        yield Connections(
            hyperliquid,
            rpc,
            second_rpc,
            asgard,
            stream if settings.hyperliquid.stream else None,
            health,
            oddities,
            settings.asgard.read_on_chain,
        )


async def venues_on(
    connected: Connections, settings: Settings, clock: Clock, known: Mapping[str, str] | None = None
) -> Venues:
    """Both venues for the account of these settings. Raises OperatorError where a key or an address is missing.

    `known` is the kill switch's, the addresses that the ledger knows: there one key suffices.
    """
    keys = await (open_keys(settings) if known is None else open_keys_to_close(settings, known))
    short = HyperliquidVenue(
        connected.hyperliquid,
        keys.hyperliquid,
        keys.account,
        clock,
        expires_after_ms=int(settings.hyperliquid.order_life_s * 1000),
        validator=hyperliquid_validator(settings, keys.account),
    )
    long = AsgardVenue(
        connected.asgard,
        connected.rpc,
        keys.solana,
        clock,
        sol_price=sol_price_of(short),
        second_rpc=connected.second_rpc,
        rules=Rules() if VenueName.ASGARD in keys.without_key else rules_as_they_stand(settings),
    )
    return Venues(
        long, short, connected.health, connected.oddities, keys.warnings, keys.without_key, keys.unidentified
    )


@asynccontextmanager
async def open_venues(
    settings: Settings, clock: Clock, to_close: Mapping[str, str] | None = None
) -> AsyncIterator[Venues]:
    """Connect both venues for one account; nothing is asked of them yet. Raises OperatorError where a key or an address is
    missing. `to_close` is the kill switch's (`venues_on`).
    """
    async with open_connections(settings, clock, to_close=to_close is not None) as connected:
        yield await venues_on(connected, settings, clock, to_close)


def _solana_rpc(
    settings: Settings, url: str, clock: Clock, health: CallLog, oddities: Oddities, name: str
) -> SolanaRpc:
    return SolanaRpc(
        url,
        clock,
        timeout_s=settings.solana.timeout_s,
        budget=shared_budget(settings, url, settings.solana.requests_per_minute, clock),
        transport=CountedTransport(name, health, SHUT_OUT_STATUS),
        oddities=oddities,
    )
