"""The desk of hedging, by the settings: the chain's node, the order book, the broker with its key, and whose account it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal

from evenkeel.clock import Clock
from evenkeel.errors import UNREAD, OperatorError
from evenkeel.sealing import Sealer
from evenkeel.settings.hedging import Hedging
from evenkeel.settings.secrets import key_of
from evenkeel.settings.settings import Settings
from state.hedging.amounts import ZERO, minus, plus
from state.hedging.moving import BUY
from state.hedging.store import HEDGING
from state.store import Store
from tasks.desk import Desk
from tasks.health import CountedTransport
from tasks.hedging.booking import HedgingBookkeeper
from tasks.hedging.desk import HedgingDesk, markets_of
from tasks.hedging.schwab_login import SchwabLogin
from venues.alpaca.client import Access, AlpacaClient
from venues.alpaca.sign_in import ClientCredentials
from venues.alpaca.updates import TradeUpdates
from venues.alpaca.venue import AlpacaVenue, capabilities
from venues.broker import Broker
from venues.broker_rules import OrderRules
from venues.dry_run.venue import CAPABILITIES, DryRunVenue
from venues.evm.heads import NewBlocks
from venues.evm.pages import Cutoff
from venues.evm.rpc import EvmNodes, EvmRpc
from venues.raindex.fills import OrderBook
from venues.raindex.reader import RaindexReader
from venues.ratebudget import RateBudget
from venues.reading import Oddities
from venues.schwab.client import SchwabClient
from venues.schwab.models import VENUE as SCHWAB
from venues.schwab.oauth import App, SchwabOauth
from venues.schwab.venue import CAPABILITIES as SCHWAB_CAPABILITIES
from venues.schwab.venue import SchwabVenue

RAINDEX = "raindex"


@asynccontextmanager
async def hedging_desk(settings: Settings, clock: Clock, store: Store) -> AsyncIterator[HedgingDesk]:
    """Open it. Raises OperatorError in one line: switched off, a key that is missing, another chain, a ledger of another
    account; UNREAD where the chain cannot be asked.
    """
    hedging = settings.hedging
    if not hedging.enabled:
        raise OperatorError(
            "hedging is off: set hedging.enabled = true once chain, broker and symbols are set"
        )
    async with AsyncExitStack() as stack:
        desk = Desk(settings, clock, store, {}, {HEDGING: HedgingBookkeeper()})
        rpc = _rpc(hedging, clock, desk)
        stack.push_async_callback(rpc.close)
        if (chain_id := await rpc.chain_id()) != hedging.chain.chain_id:
            raise OperatorError(
                f"hedging.chain.chain_id is {hedging.chain.chain_id}, its node is of chain {chain_id}"
            )
        broker, account, login = await _broker(hedging, clock, desk, stack)
        desk.venues[broker.name] = broker
        store.hedging.bind_account(broker.name, account)
        at = HedgingDesk(desk, broker, reader_of(hedging, rpc), hedging, account, login=login)
        at.blocks = NewBlocks(hedging.chain.ws_url) if hedging.chain.ws_url else None
        if isinstance(broker, AlpacaVenue) and hedging.alpaca.updates:
            at.updates = _updates(broker.client)
        yield at


def reader_of(hedging: Hedging, rpc: EvmRpc) -> RaindexReader:
    """Return who reads the order book of the settings."""
    chain = hedging.chain
    book = OrderBook(chain.name, chain.orderbook, chain.owner, chain.usdc, markets_of(hedging))
    return RaindexReader(rpc, book, Cutoff.of(chain.cutoff))


def _updates(client: AlpacaClient) -> TradeUpdates:
    """Return the stream of the account's orders, on the host that takes them."""
    return TradeUpdates(
        client.url, client.url.replace("http", "ws", 1) + "/stream", client.access, client.sign_in
    )


def order_rules(hedging: Hedging) -> tuple[dict[str, Decimal], dict[str, str]]:
    """Return the most of one order by symbol, and what the broker calls those that have another name there."""
    most = {symbol: one.most_shares for symbol, one in hedging.symbols.items()}
    renamed = {symbol: one.broker_symbol for symbol, one in hedging.symbols.items() if one.broker_symbol}
    return most, renamed


async def _broker(
    hedging: Hedging, clock: Clock, desk: Desk, stack: AsyncExitStack
) -> tuple[Broker, str, SchwabLogin | None]:
    """Return the broker, the name of its account, and the login where it wants one that ends."""
    most, renamed = order_rules(hedging)
    if hedging.broker == "dry-run":
        rules = OrderRules(most, CAPABILITIES, renamed)
        return _dry_run(hedging, rules, clock, desk.store), "dry-run", None
    if hedging.broker == "schwab":
        login = schwab_login(hedging, clock, desk.store, desk.oddities)
        stack.push_async_callback(login.aclose)
        schwab = SchwabClient(
            hedging.schwab.url,
            clock,
            login,
            budget=RateBudget(clock, hedging.schwab.requests_per_minute),
            oddities=desk.oddities,
            total_s=hedging.schwab.timeout_s,
        )
        stack.push_async_callback(schwab.aclose)
        rules = OrderRules(most, SCHWAB_CAPABILITIES, renamed)
        account = hedging.schwab.account
        venue = SchwabVenue(schwab, rules, lambda: desk.store.hedging.claims(SCHWAB), account=account)
        return venue, account, login
    section = hedging.alpaca
    key, secret = await asyncio.gather(
        asyncio.to_thread(key_of, "alpaca", section.key_file),
        asyncio.to_thread(key_of, "alpaca_secret", section.secret_file),
    )
    if key is None or secret is None:
        raise OperatorError(
            "no key of alpaca: set EVENKEEL_ALPACA_KEY and EVENKEEL_ALPACA_SECRET, or hedging.alpaca.key_file and secret_file"
        )
    access = Access(key.get_secret_value(), secret.get_secret_value(), section.account_id or None)
    sign_in = None
    if section.token_url:
        pair = (access.key_id, access.secret)
        sign_in = ClientCredentials(section.token_url, *pair, clock, access.venue, desk.oddities)
    client = AlpacaClient(
        section.url,
        section.data_url,
        access,
        clock,
        budget=RateBudget(clock, section.requests_per_minute),
        timeout_s=section.timeout_s,
        transport=CountedTransport(access.venue, desk.health),
        oddities=desk.oddities,
        sign_in=sign_in,
    )
    stack.push_async_callback(client.close)
    can = capabilities(is_broker=access.account_id is not None)
    account = section.account_id or await _alpaca_account(client, desk.store)
    return AlpacaVenue(client, OrderRules(most, can, renamed)), account, None


async def _alpaca_account(client: AlpacaClient, store: Store) -> str:
    """Return the account's id as the broker says it, else as the ledger has it: fills are read while the broker is away. Raises
    UNREAD where neither does.
    """
    try:
        return await client.account_id()
    except UNREAD:
        bound = store.hedging.bound_account()
        if bound is None or bound.venue != client.venue:
            raise
        return bound.account


def schwab_login(
    hedging: Hedging, clock: Clock, store: Store, oddities: Oddities | None = None
) -> SchwabLogin:
    """Return the login at Schwab. Raises OperatorError where a key is missing; whether somebody is logged in is not asked."""
    section = hedging.schwab
    key, secret = key_of("schwab", section.key_file), key_of("schwab_secret", section.secret_file)
    seal = key_of("token", section.token_key_file)
    if key is None or secret is None:
        raise OperatorError(
            "no key of schwab's app: set EVENKEEL_SCHWAB_KEY and EVENKEEL_SCHWAB_SECRET, or hedging.schwab.key_file and "
            "secret_file"
        )
    if seal is None:
        raise OperatorError(
            "no key that seals the login: set EVENKEEL_TOKEN_KEY or hedging.schwab.token_key_file (`openssl rand -hex 32`)"
        )
    app = App(key.get_secret_value(), secret.get_secret_value(), section.redirect_uri)
    sealer = Sealer(seal.get_secret_value())
    oauth = SchwabOauth(section.url, clock, app, oddities=oddities)
    return SchwabLogin(oauth, store.hedging, sealer, clock)


def _dry_run(hedging: Hedging, rules: OrderRules, clock: Clock, store: Store) -> DryRunVenue:
    async def price(symbol: str) -> Decimal | None:
        return store.hedging.exposure(symbol).price_usd

    def cash() -> Decimal:
        found = hedging.dry_run.cash_usd
        for one in store.hedging.hedges():
            found = minus(found, one.usd) if one.side == BUY else plus(found, one.usd)
        return found

    def held() -> dict[str, Decimal]:
        found = dict.fromkeys(hedging.symbols, hedging.dry_run.shares)
        for one in store.hedging.exposures():
            net = minus(one.hedge_bought, one.hedge_sold)
            found[one.symbol] = plus(found.get(one.symbol, ZERO), net)
        return found

    return DryRunVenue(rules, price, clock, cash=cash, held=held)


def _rpc(hedging: Hedging, clock: Clock, desk: Desk) -> EvmRpc:
    chain = hedging.chain

    def node(url: str) -> EvmRpc:
        budget = RateBudget(clock, chain.requests_per_minute)
        transport = CountedTransport(RAINDEX, desk.health)
        return EvmRpc(url, clock, budget=budget, timeout_s=chain.timeout_s, transport=transport)

    first = node(chain.rpc_url)
    return EvmNodes(first, node(chain.second_rpc_url), clock) if chain.second_rpc_url else first
