"""What the commands of managed accounts do: each answers what it found or did, JSON-able, money as text."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from decimal import Decimal
from typing import Any

from app.accounts import agents
from app.accounts.limits import Asked, agent_named, refuse_unusable, store_deployment
from evenkeel.errors import Bug, OperatorError
from evenkeel.settings.settings import Settings
from state.accounts.many import HYPERLIQUID, OSTIUM
from state.accounts.models import AccountTrade, Deployment, DeploymentState, TradeState
from state.store import Store
from strategy.accounts.share import ChargeState
from tasks.accounts.asked import (
    Entry,
    Opening,
    Side,
    Traded,
    close_for_user,
    open_for_user,
    withdraw_for_user,
)
from tasks.accounts.booking import DESK
from tasks.accounts.desk import AccountsDesk, accounts_desk
from tasks.accounts.hyperliquid.booking import coin_of
from tasks.accounts.trading import CHARGES, collect_all
from tasks.desk import make_clock
from venues.evm.pulls import TokenPulls
from venues.ostium.venue import OstiumVenue

BY_OPERATOR = "asked for by the operator"
MOST_SHARE = Decimal("0.5")
"""As `collector.share` is bounded."""
_ONE_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
LEAST_ALLOWANCE_USDC = Decimal("0.10")
"""The oracle fee of a close, which is taken from the wallet before anything comes back."""


@contextmanager
def ledger(settings: Settings) -> Iterator[Store]:
    """The ledger of these settings, without a venue or a key."""
    store = Store.open(settings.database.url, make_clock(settings))
    try:
        yield store
    finally:
        store.close()


@asynccontextmanager
async def opened_desk(settings: Settings) -> AsyncIterator[AccountsDesk]:
    """The desk of these settings, with its ledger. Raises as `accounts_desk` does."""
    with ledger(settings) as store:
        await store.clock.refresh()
        async with accounts_desk(settings, store.clock, store) as desk:
            yield desk


async def add_agent(
    settings: Settings, name: str, share: Decimal | None, venue: str = OSTIUM
) -> dict[str, Any]:
    """Store an agent with the key of these settings."""
    if venue not in (OSTIUM, HYPERLIQUID):
        raise OperatorError(f"--venue {venue!r} is neither {OSTIUM} nor {HYPERLIQUID}")
    if not _ONE_WORD.fullmatch(name):
        raise OperatorError(
            f"agent {name!r} is not 1 to 40 letters, digits, . _ and -, the first a letter or digit"
        )
    if share is not None and not 0 <= share <= MOST_SHARE:
        raise OperatorError(
            f"--share {share} is not from 0 to {MOST_SHARE}: it is a part of the profit, 0.1 is 10 %"
        )
    if venue == HYPERLIQUID:
        with ledger(settings) as store:
            return agents.add_agent(
                settings, store, name, settings.collector.share if share is None else share
            )
    async with opened_desk(settings) as desk:
        agent = desk.desk.store.accounts.add_agent(
            name,
            OSTIUM,
            _ostium(desk).address,
            settings.collector.share if share is None else share,
            settings.collector.fee_model,
            {},
        )
        return {"agent_id": agent.agent_id, "key_address": agent.key_address, "share": str(agent.share)}


async def deploy(settings: Settings, account: str, agent: str, asked: Asked = Asked()) -> dict[str, Any]:
    """Store that a user lets an agent trade, and read at its venue whether he does. Nothing is stored where the venue cannot
    be asked.
    """
    wallet = wallet_of(account)
    with ledger(settings) as store:
        venue = agent_named(store, agent).venue
        refuse_unusable(asked)
        if venue == HYPERLIQUID:
            if asked != Asked():
                raise OperatorError(
                    f"{agent} is on Hyperliquid, where users open by themselves: leave out collateral, leverage and slippage"
                )
            row, missing = await agents.deploy(settings, store, wallet, agent)
            return _deployment(row) | {"missing": missing}
    async with opened_desk(settings) as desk:
        stored = store_deployment(settings, desk.desk.store, wallet, agent, asked)
        return await check_on(desk, stored.deployment_id)


def wallet_of(account: str) -> str:
    """An address in lower case. Raises OperatorError for what is none."""
    wallet = account.lower()
    if len(wallet) != 42 or not wallet.startswith("0x") or set(wallet[2:]) - set("0123456789abcdef"):
        raise OperatorError(f"{account!r} is no wallet: give 0x and 40 hex digits")
    if not int(wallet, 16):
        raise OperatorError(f"{account} is nobody's wallet")
    return wallet


def is_held(store: Store, deployment_id: str) -> bool:
    """Whether the operator paused a deployment, and nobody has activated it since: its user cannot."""
    moves = [
        one
        for one in store.transitions("deployment", deployment_id)
        if one.note == BY_OPERATOR or (one.to_state == DeploymentState.ACTIVE != one.from_state)
    ]
    return bool(moves) and moves[-1].note == BY_OPERATOR


async def check(settings: Settings, deployment_id: str) -> dict[str, Any]:
    """Read a deployment at its venue; activate it where everything is there."""
    with ledger(settings) as store:
        if _venue_of(store, deployment_id) == HYPERLIQUID:
            row, missing = await agents.check(settings, store, deployment_id)
            return _deployment(row) | {"missing": missing}
    async with opened_desk(settings) as desk:
        return await check_on(desk, deployment_id)


async def check_on(desk: AccountsDesk, deployment_id: str) -> dict[str, Any]:
    """The same at a desk that is open."""
    accounts = desk.desk.store.accounts
    row = accounts.deployment(deployment_id)
    agent = accounts.agent(row.agent_id)
    venue, pulls = _ostium(desk), _pulls(desk)
    delegate, free, may_pull = await asyncio.gather(
        venue.delegate_of(row.account), venue.free_usdc(row.account), pulls.may_take(row.account)
    )
    missing = []
    if delegate != agent.key_address:
        missing.append(f"setDelegate({agent.key_address}) by {row.account}; the chain says {delegate}")
    if free < LEAST_ALLOWANCE_USDC:
        missing.append(f"USDC, and approve({venue.contracts.storage}); {free} USDC can be taken")
    if not may_pull:
        missing.append(f"approve({pulls.address}) for the share of profits")
    accounts.note_seen(
        deployment_id, {"delegate": delegate, "free_usdc": str(free), "may_pull_units": may_pull}
    )
    if row.state is DeploymentState.REVOKED and delegate == agent.key_address:
        row = accounts.move_deployment(deployment_id, DeploymentState.PAUSED, "named delegate again")
    if not missing and row.state is DeploymentState.PAUSED:
        row = accounts.move_deployment(deployment_id, DeploymentState.ACTIVE, "the chain shows it")
    elif delegate != agent.key_address and row.state is DeploymentState.ACTIVE:
        row = accounts.move_deployment(deployment_id, DeploymentState.REVOKED, f"the delegate is {delegate}")
    return _deployment(row) | {"missing": missing}


async def pause(settings: Settings, deployment_id: str) -> dict[str, Any]:
    """Open nothing more for a user."""
    with ledger(settings) as store:
        _venue_of(store, deployment_id)  # refuses one that there is not
        return _deployment(pause_in(store, deployment_id, BY_OPERATOR))


def pause_in(store: Store, deployment_id: str, why: str) -> Deployment:
    """The same in a ledger that is open; a deployment that is paused or was revoked stays so."""
    row = store.accounts.deployment(deployment_id)
    if row.state is DeploymentState.ACTIVE:
        return store.accounts.move_deployment(deployment_id, DeploymentState.PAUSED, why)
    store.accounts.remark(row, why)
    return row


def listed(settings: Settings) -> dict[str, Any]:
    """Deployments, trades that are not over, charges that are not paid."""
    with ledger(settings) as store:
        accounts = store.accounts
        live = (TradeState.PENDING, TradeState.OPEN, TradeState.CLOSING, TradeState.STALE)
        return {
            "deployments": [_deployment(row) for row in accounts.deployments(venue=None)],
            "trades": [_trade(settings, row) for row in accounts.trades(*live, venue=None)],
            "charges": _charges(store, ChargeState.DUE, ChargeState.OUTSTANDING, ChargeState.STATEMENT),
        }


async def open_trade(
    settings: Settings,
    deployment_id: str,
    market: str,
    side: str,
    collateral: Decimal,
    leverage: Decimal,
    slippage_bps: int,
    name: str,
    take_profit: Decimal | None = None,
    *,
    limit: Decimal | None = None,
    stop_entry: Decimal | None = None,
) -> dict[str, Any]:
    """Open one trade at the market's price of now, or have a limit or stop order wait for its price; with a take profit at the
    venue where one is given.
    """
    with ledger(settings) as store:
        if _venue_of(store, deployment_id) == HYPERLIQUID:
            raise OperatorError(
                f"{deployment_id} is on Hyperliquid: users open there by themselves, and its agent guards and closes"
            )
    if side not in ("long", "short"):
        raise OperatorError(f"side {side!r} is neither long nor short")
    if limit is not None and stop_entry is not None:
        raise OperatorError("--limit and --stop-entry are two kinds of order: give one")
    entry = Entry.LIMIT if limit is not None else Entry.MARKET if stop_entry is None else Entry.STOP
    asked = Opening(
        deployment=deployment_id,
        market=market,
        side=Side(side),
        entry=entry,
        price=stop_entry if limit is None else limit,
        collateral_usdc=collateral,
        leverage=leverage,
        slippage_bps=slippage_bps,
        take_profit=take_profit,
        name=name,
    )
    async with opened_desk(settings) as desk:
        return _traded(settings, desk, await open_for_user(desk, asked))


async def close_trade(settings: Settings, trade: str, share: Decimal, slippage_bps: int) -> dict[str, Any]:
    """Close a trade or a part of it at the market's price of now."""
    with ledger(settings) as store:
        row = next((one for one in store.accounts.trades(venue=HYPERLIQUID) if one.name == trade), None)
        if row is not None:
            why = await agents.close_trade(settings, store, row, share, slippage_bps)
            return _trade(settings, store.accounts.trade(trade)) | {"why": why}
    async with opened_desk(settings) as desk:
        return _traded(settings, desk, await close_for_user(desk, trade, share, slippage_bps))


async def cancel_order(settings: Settings, trade: str) -> dict[str, Any]:
    """Cancel the order of a trade that waits for its price."""
    async with opened_desk(settings) as desk:
        return _traded(settings, desk, await withdraw_for_user(desk, trade))


async def collect(settings: Settings) -> dict[str, Any]:
    """Pull every charge that is due."""
    async with opened_desk(settings) as desk:
        paid = await collect_all(desk.desk)
        return {"paid": paid, "charges": _charges(desk.desk.store)}


async def flatten(settings: Settings, reason: str, within_s: float) -> dict[str, Any]:
    """Close every trade that an agent opened."""
    if not settings.ostium.enabled and settings.agents.enabled:
        return {
            "flat": True,
            "trades": {},
            "left": [],
        }  # what is held there users opened, and their stops go on guarding it
    from flows.accounts.flatten import flatten_trades

    async with opened_desk(settings) as desk:
        return (await flatten_trades(desk, reason, within_s)).model_dump(mode="json")


async def hand_back(settings: Settings, trade: str) -> dict[str, Any]:
    """Let the desk set the stop of a trade again that its user had moved; it is never loosened."""
    with ledger(settings) as store:
        row = next((one for one in store.accounts.trades(venue=None) if one.name == trade), None)
        if row is None:
            raise OperatorError(f"there is no trade {trade!r}: `evenkeel accounts list`")
        if row.deployment_id is None:
            raise OperatorError(f"trade {trade} was opened by its user: its stop is his")
        if row.venue == HYPERLIQUID:  # one of the agent's is placed beside what he has there
            why = "the stop is handed back"
            return _trade(settings, store.accounts.change_trade(trade, why, stop=None, stop_by=DESK))
        return _trade(settings, store.accounts.change_trade(trade, "the stop is handed back", stop_by=DESK))


def _traded(settings: Settings, desk: AccountsDesk, found: Traded) -> dict[str, Any]:
    """The trade as it stands, and why it is not as it was asked for."""
    return _trade(settings, desk.desk.store.accounts.trade(found.trade)) | {"why": found.why}


def _venue_of(store: Store, deployment_id: str) -> str:
    """Where a deployment's agent trades. Raises OperatorError for one that there is not."""
    found = next(
        (one for one in store.accounts.deployments(venue=None) if one.deployment_id == deployment_id), None
    )
    if found is None:
        raise OperatorError(f"there is no deployment {deployment_id!r}: `evenkeel accounts list`")
    return store.accounts.agent(found.agent_id).venue


def _market(settings: Settings, row: AccountTrade) -> str:
    if row.venue == HYPERLIQUID:
        return coin_of(row)
    return settings.ostium.markets.get(row.pair, str(row.pair))


def _ostium(desk: AccountsDesk) -> OstiumVenue:
    venue = desk.desk.venue(OSTIUM)
    if not isinstance(venue, OstiumVenue):
        raise Bug("the desk's venue of trades is another one")
    return venue


def _pulls(desk: AccountsDesk) -> TokenPulls:
    venue = desk.desk.venue(CHARGES)
    if not isinstance(venue, TokenPulls):
        raise Bug("the desk's venue of charges is another one")
    return venue


def _deployment(row: Deployment) -> dict[str, Any]:
    return {
        "deployment_id": row.deployment_id,
        "account": row.account,
        "agent_id": row.agent_id,
        "state": row.state.value,
        "result_usdc": str(row.result_usdc),
        "seen": row.seen,
    }


def _trade(settings: Settings, row: AccountTrade) -> dict[str, Any]:
    return {
        "name": row.name,
        "market": _market(settings, row),
        "is_long": row.is_long,
        "state": row.state.value,
        "trade_id": row.trade_id,
        "paid_usdc": str(row.paid_usdc),
        "leverage": str(row.leverage),
        "open_price_usd": None if row.open_price is None else str(row.open_price),
        "stop_usd": None if row.stop is None else str(row.stop),
        "result_usdc": str(row.result_usdc),
    }


def _charges(store: Store, *states: str) -> list[dict[str, Any]]:
    return [
        {
            "charge_id": row.charge_id,
            "base_usdc": str(row.base_usdc),
            "usdc": str(row.usdc),
            "state": row.state,
            "why": row.why,
            "transaction": row.transaction,
        }
        for row in store.accounts.charges(*states)
    ]
