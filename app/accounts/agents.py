"""What the commands of managed accounts do on Hyperliquid: who approves which agent, trades and their closes, and one watch."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

from app.accounts.limits import MOST_SLIPPAGE_BPS
from evenkeel.errors import LostRace, OperatorError
from evenkeel.settings.settings import Settings
from state.accounts.many import HYPERLIQUID
from state.accounts.models import AccountTrade, Agent, Deployment, DeploymentState
from state.store import Store
from strategy.accounts.stops import StopRules
from tasks.accounts.hyperliquid.desk import OFF, HyperliquidAccountsDesk, hyperliquid_accounts_desk, keys_of
from tasks.accounts.hyperliquid.reading import HELD
from tasks.accounts.hyperliquid.stops import close, generation_of
from tasks.accounts.watching import TickReport
from tasks.intents import Done
from venues.hyperliquid.equity import READABLE_MODES

WAIT_S, AGAIN_S = 20.0, 1.0
"""How long a command waits for a close's fills, and how often it asks."""


@asynccontextmanager
async def opened(settings: Settings, store: Store) -> AsyncIterator[HyperliquidAccountsDesk]:
    """The desk on a ledger that is open. Raises as `hyperliquid_accounts_desk` does."""
    await store.clock.refresh()
    async with hyperliquid_accounts_desk(settings, store.clock, store) as desk:
        yield desk


def add_agent(settings: Settings, store: Store, name: str, share: Decimal) -> dict[str, Any]:
    """Store an agent whose keys are made of these settings' secret, one for each account."""
    if not settings.agents.enabled:
        raise OperatorError(OFF)
    rules = {"stops": StopRules().model_dump(mode="json")}
    made_of = keys_of(settings).fingerprint
    row = store.accounts.add_agent(name, HYPERLIQUID, made_of, share, settings.collector.fee_model, rules)
    return {
        "agent_id": row.agent_id,
        "key_address": row.key_address,
        "share": str(row.share),
        "venue": HYPERLIQUID,
    }


async def deploy(settings: Settings, store: Store, wallet: str, agent: str) -> tuple[Deployment, list[str]]:
    """Store that a user's account is guarded, PAUSED until the venue shows that he approved its agent, and read whether he has.
    Raises OperatorError where another agent guards it: positions of one market are one there, whoever opened them.
    """
    name = f"{agent}-{wallet[2:]}"
    for other in store.accounts.deployments(
        DeploymentState.ACTIVE, DeploymentState.PAUSED, account=wallet, venue=HYPERLIQUID
    ):
        if other.deployment_id != name:
            raise OperatorError(
                f"{wallet} is guarded by {other.agent_id} ({other.deployment_id}): one agent an account"
            )
    async with opened(settings, store) as desk:
        _refuse_another_secret(settings, store.accounts.agent(agent))
        store.accounts.add_user(wallet)
        return await _checked(
            settings, desk, store.accounts.deploy(name, wallet, agent, {"generation": 1}).deployment_id
        )


async def check(settings: Settings, store: Store, deployment_id: str) -> tuple[Deployment, list[str]]:
    """Read a deployment at the venue, and activate it where the agent is approved and the account's mode can be read. One that
    was revoked gets an agent with another address first: an address whose approval has ended is never used again.
    """
    async with opened(settings, store) as desk:
        _refuse_another_secret(
            settings, store.accounts.agent(store.accounts.deployment(deployment_id).agent_id)
        )
        return await _checked(settings, desk, deployment_id)


def _refuse_another_secret(settings: Settings, agent: Agent) -> None:
    if keys_of(settings).fingerprint != agent.key_address:
        raise OperatorError(
            f"agent {agent.agent_id} is of another secret than the settings': its users' agents cannot be signed for"
        )


async def _checked(
    settings: Settings, desk: HyperliquidAccountsDesk, deployment_id: str
) -> tuple[Deployment, list[str]]:
    store, accounts = desk.desk.store, desk.desk.store.accounts
    row = await desk.reader.identify(accounts.deployment(deployment_id), TickReport())
    if row.state is DeploymentState.REVOKED:
        limits = {**row.limits, "generation": generation_of(store, deployment_id) + 1}
        accounts.set_limits(deployment_id, limits)
        accounts.note_seen(deployment_id, {})
        accounts.move_deployment(deployment_id, DeploymentState.PAUSED, "another agent is to be approved")
        row = await desk.reader.identify(accounts.deployment(deployment_id), TickReport())
    missing = []
    if not row.seen.get("approved"):
        name = settings.agents.agent_name
        missing.append(
            f"approveAgent({row.seen['agent']}, {name!r}) by {row.account}, on the venue's page or by any client"
        )
    if row.seen.get("mode") not in READABLE_MODES:
        missing.append(
            f"an account in one of the modes {', '.join(READABLE_MODES)}; it is in {row.seen.get('mode')!r}"
        )
    if not missing:
        await desk.read_prices()
        await desk.reader.begin(row.account, TickReport())
    if not missing and row.state is DeploymentState.PAUSED:
        row = accounts.move_deployment(deployment_id, DeploymentState.ACTIVE, "the venue shows it")
    return row, missing


async def close_trade(
    settings: Settings, store: Store, trade: AccountTrade, share: Decimal, slippage_bps: int
) -> str:
    """Close a share of a trade at the market, and wait until its fills are booked, by the watch or, where none runs, here.
    Return why it is not closed, "" where it is. Raises OperatorError for one that is not open.
    """
    if trade.state not in HELD or trade.deployment_id is None:
        raise OperatorError(f"trade {trade.name} is {trade.state}: there is nothing of it to close")
    if not share.is_finite() or not 0 < share <= 1:
        raise OperatorError(f"--share {share} is not above 0 and at most 1")
    if not 0 < slippage_bps <= MOST_SLIPPAGE_BPS:
        raise OperatorError(f"--slippage-bps {slippage_bps} is not from 1 to {MOST_SLIPPAGE_BPS}")
    async with opened(settings, store) as desk:
        end = await close(desk.desk, trade, share, slippage_bps)
        if not isinstance(end, Done):
            return str(end.reason)
        return await _booked(desk, trade)


async def _booked(desk: HyperliquidAccountsDesk, trade: AccountTrade) -> str:
    core = desk.desk
    until_ms = core.clock.now_ms() + int(WAIT_S * 1000)
    before = len(core.store.accounts.settlements(trade=trade.name))
    while core.clock.now_ms() < until_ms:
        await core.clock.sleep(AGAIN_S)
        try:
            async with core.exclusive(desk.watch, "the watch of the accounts") as fence:
                await desk.tick(fence)
        except LostRace:  # a watch runs, and books it
            pass
        if len(core.store.accounts.settlements(trade=trade.name)) > before:
            return ""
    return "it is closed at the venue, and its fills are not booked yet: `evenkeel accounts watch`"
