"""What rebalancing works with: the hedging desk, the broker's account with wallets, and the key of our vaults' owner."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal

from evenkeel.clock import Clock
from evenkeel.errors import NotUnderstood, OperatorError
from evenkeel.settings.rebalancing import Rebalancing
from evenkeel.settings.secrets import key_of
from evenkeel.settings.settings import Settings
from state.store import Store
from strategy.hedging.decision import ROUGH
from strategy.hedging.rebalancing import USDC, USDC_DECIMALS
from tasks.hedging.desk import HedgingDesk
from tasks.hedging.opening import hedging_desk
from tasks.lanes import LedgerLanes
from venues.alpaca.client import Access, AlpacaClient
from venues.alpaca.conversions import Conversions
from venues.alpaca.moves import NAME as MOVES
from venues.alpaca.moves import AlpacaMoves, Bounds
from venues.alpaca.transfers import AlpacaTransfers
from venues.alpaca.venue import AlpacaVenue
from venues.evm.fees import GWEI, FeeCaps
from venues.evm.sender import Chain
from venues.evm.wrapping import MovedToken, TokenMoves
from venues.raindex.reader import CONVERT
from venues.raindex.vaults import Vault, VaultMoves
from venues.signers.local import LocalEvmKey

VAULTS, TOKENS = "raindex-vaults", "raindex-tokens"
ROOM = Decimal("1.05")
"""Of a bound in shares, for a wrapper whose worth changes."""


@dataclass
class RebalanceDesk:
    """The hedging desk and the four adapters by which anything is moved. `wallet` is our address on both chains."""

    at: HedgingDesk
    settings: Rebalancing
    transfers: AlpacaTransfers
    moves: AlpacaMoves
    conversions: Conversions
    vaults: VaultMoves
    tokens: TokenMoves

    @property
    def wallet(self) -> str:
        return self.vaults.address

    @property
    def lease(self) -> str:
        """The name of the right to move anything between this account and the chain."""
        return f"rebalance:{self.at.lease}"

    def token(self, scope: str) -> str:
        """The token in a scope's vault."""
        return self.at.settings.chain.usdc if scope == USDC else self.at.settings.symbols[scope].token

    def made(self, scope: str) -> str:
        """The token that the issuer makes of a symbol, and takes back."""
        return self.settings.assets.get(scope) or self.token(scope)

    def decimals(self, scope: str) -> int:
        """Of a scope's token."""
        return USDC_DECIMALS if scope == USDC else self.at.settings.symbols[scope].decimals

    def named(self, scope: str) -> str:
        """What the broker calls a symbol."""
        return self.at.settings.symbols[scope].broker_symbol or scope

    @property
    def is_by_journal(self) -> bool:
        """Whether another account of the broker has the wallets."""
        return bool(self.settings.wallet_account)


def refuse_other_brokers(settings: Settings) -> None:
    """Raise OperatorError in one line where these settings rebalance nothing."""
    hedging = settings.hedging
    if not hedging.rebalance.enabled:
        raise OperatorError(
            "rebalancing is off: set hedging.rebalance.enabled = true once vaults and wallets are set"
        )
    if hedging.broker != "alpaca-broker":
        raise OperatorError(
            f"hedging.broker is {hedging.broker}, and only alpaca-broker moves shares and USDC to tokens"
        )


@asynccontextmanager
async def rebalance_desk(settings: Settings, clock: Clock, store: Store) -> AsyncIterator[RebalanceDesk]:
    """Open it. Raises OperatorError in one line: switched off, another broker, a key that is missing or not the owner's; what
    `hedging_desk` raises; UNREAD where a wrapper does not say what it is worth.
    """
    refuse_other_brokers(settings)
    one = settings.hedging.rebalance
    secret = await asyncio.to_thread(key_of, "vaults", one.key_file)
    if secret is None:
        raise OperatorError(
            "no key of the vaults' owner: set EVENKEEL_VAULTS_KEY or hedging.rebalance.key_file"
        )
    signer = LocalEvmKey.from_hex(secret.get_secret_value())
    owner = settings.hedging.chain.owner
    if signer.address != owner:
        raise OperatorError(
            f"the vaults' key is of {signer.address}, and hedging.chain.owner is {owner}: give the owner's key"
        )
    async with AsyncExitStack() as stack:
        at = await stack.enter_async_context(hedging_desk(settings, clock, store))
        if not isinstance(at.broker, AlpacaVenue):
            raise OperatorError(f"{at.broker.name} moves nothing: rebalancing needs alpaca-broker")
        hedging = AlpacaTransfers(at.broker.client)
        transfers = hedging
        if one.wallet_account:
            client = _other_account(at.broker.client, one.wallet_account)
            stack.push_async_callback(client.close)
            transfers = AlpacaTransfers(client)
        rpc, desk = at.reader.rpc, at.desk
        chain = Chain(settings.hedging.chain.chain_id, one.confirmations)
        caps, lanes = FeeCaps(int(one.most_gas_gwei * GWEI)), LedgerLanes(store.lanes)
        ratios = {symbol: await ratio_of(at, symbol) for symbol in one.vaults if symbol != USDC}
        vaults = VaultMoves(
            VAULTS,
            settings.hedging.chain.orderbook,
            _vaults(at, one, ratios),
            rpc,
            signer,
            lanes,
            chain,
            caps,
            clock,
        )
        tokens = TokenMoves(
            TOKENS, _tokens(at, one, ratios), one.redemption_wallet, rpc, signer, lanes, chain, caps, clock
        )
        most = {symbol: bound for symbol, bound in one.most_shares.items() if symbol in one.vaults}
        named = {
            settings.hedging.symbols[symbol].broker_symbol or symbol: bound for symbol, bound in most.items()
        }
        bounds = Bounds(most=named | {USDC: one.most_usd, "USD": one.most_usd * ROOM}, wallet=signer.address)
        moves = AlpacaMoves(
            transfers,
            hedging,
            bounds,
            lambda: store.hedging.claimed_refs(MOVES),
            store.hedging.known_ref,
        )
        conversions = Conversions(transfers.client, one.most_usd)
        for venue in (vaults, tokens, moves, conversions):
            desk.venues[venue.name] = venue
        yield RebalanceDesk(at, one, transfers, moves, conversions, vaults, tokens)


async def ratio_of(at: HedgingDesk, symbol: str) -> Decimal:
    """Return how many shares a symbol's token is worth now; 1 of one that is not wrapped. Raises UNREAD."""
    one = at.settings.symbols[symbol]
    if not one.wrapped:
        return Decimal(1)
    raw = await at.reader.rpc.view(one.token, CONVERT.call(10**one.decimals))
    worth = Decimal(CONVERT.answer(raw)).scaleb(-one.decimals, ROUGH)
    if not Decimal("0.001") <= worth <= 1000:
        raise NotUnderstood(at.chain, f"{symbol}'s wrapper says that a token is worth {worth} shares")
    return worth


def _other_account(client: AlpacaClient, account: str) -> AlpacaClient:
    access = Access(client.access.key_id, client.access.secret, account)
    return AlpacaClient(
        client.url,
        client.url,
        access,
        client.clock,
        budget=client.budget,
        timeout_s=client.timeout_s,
        oddities=client.oddities,
    )


def _units(amount: Decimal, decimals: int) -> int:
    return int(amount.scaleb(decimals, ROUGH))


def _vaults(at: HedgingDesk, one: Rebalancing, ratios: dict[str, Decimal]) -> dict[str, Vault]:
    found: dict[str, Vault] = {}
    for scope, number in one.vaults.items():
        if scope == USDC:
            most = _units(one.most_usd * ROOM, USDC_DECIMALS)
            found[at.settings.chain.usdc] = Vault(vault_id=number, decimals=USDC_DECIMALS, most_units=most)
            continue
        symbol = at.settings.symbols[scope]
        most = _units(ROUGH.divide(one.most_shares[scope], ratios[scope]) * ROOM, symbol.decimals)
        found[symbol.token] = Vault(vault_id=number, decimals=symbol.decimals, most_units=most)
    return found


def _tokens(at: HedgingDesk, one: Rebalancing, ratios: dict[str, Decimal]) -> dict[str, MovedToken]:
    found: dict[str, MovedToken] = {}
    for scope in one.vaults:
        if scope == USDC:
            continue
        symbol = at.settings.symbols[scope]
        asset = one.assets.get(scope)
        widest = max(one.most_shares[scope], ROUGH.divide(one.most_shares[scope], ratios[scope]))
        token = MovedToken(decimals=symbol.decimals, most_units=_units(widest * ROOM, symbol.decimals))
        if asset is not None:
            found[symbol.token] = token.model_copy(update={"asset": asset})
        found[asset or symbol.token] = token
    return found
