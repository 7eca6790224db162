"""Whether managed accounts can be traded for: the chain and contracts, gas for a hundred sends, and what each user allows."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial

from app.doctor.frame import Installation, Verdict, check, fail, ok, warn
from evenkeel.errors import OperatorError
from state.accounts.many import HYPERLIQUID, OSTIUM
from state.accounts.models import DeploymentState
from strategy.accounts.conditions import (
    AGENT,
    ALLOWANCE,
    COLLECTOR,
    NO_GAS,
    SENDS,
    judge_allowance,
    judge_key,
)
from tasks.accounts.desk import AccountsDesk, accounts_desk
from tasks.accounts.hyperliquid.desk import keys_of
from tasks.accounts.standing import read_account, read_key, was_active
from tasks.accounts.trading import CHARGES, ostium_of

GROUP = "managed accounts"
OFF, AGENTS_OFF = "off (ostium.enabled is false)", "off (agents.enabled is false)"
MOST_NAMED = 5


@dataclass
class _Opened:
    """What the checks found, read once: the desk cannot stay open between them."""

    chain_id: int
    contracts: tuple[str, ...]
    keys: dict[str, Verdict] = field(default_factory=dict)
    users: list[str] = field(default_factory=list)
    count: int = 0


async def _read(installation: Installation) -> _Opened:
    """Open the desk, which checks chain, code, keys and wallet, and read keys and users. Raises OperatorError, UNREAD."""
    async with AsyncExitStack() as stack:
        desk = await stack.enter_async_context(
            accounts_desk(installation.settings, installation.clock, installation.store)
        )
        at = desk.where.contracts
        found = _Opened(
            await desk.where.rpc.chain_id(), (at.trading, at.storage, at.callbacks, at.pairs, at.usdc)
        )
        for name, venue in ((AGENT, OSTIUM), (COLLECTOR, CHARGES)):
            found.keys[name] = await _key(desk, name, venue)
        await _users(desk, found)
        return found


async def _key(desk: AccountsDesk, name: str, venue: str) -> Verdict:
    address = str(getattr(desk.desk.venue(venue), "address", ""))
    seen = await read_key(desk.desk, desk.where, venue, address)
    finding = judge_key(name, seen)[NO_GAS, name]
    if finding is None:
        return ok(f"{address} can pay for {SENDS} transactions and more")
    advice = f"send ETH on chain {desk.desk.settings.ostium.at.chain_id} to {address}"
    return fail(finding.text, advice) if finding.critical else warn(finding.text, advice)


async def _users(desk: AccountsDesk, found: _Opened) -> None:
    accounts, venue = desk.desk.store.accounts, ostium_of(desk.desk)
    for row in accounts.deployments(DeploymentState.ACTIVE, DeploymentState.PAUSED):
        found.count += 1
        if not was_active(desk.desk.store, row):
            found.users.append(
                f"{row.deployment_id}: its user has not signed all yet (`evenkeel accounts check`)"
            )
            continue
        agent = accounts.agent(row.agent_id)
        delegate, fee = (
            await venue.delegate_of(row.account),
            await venue.oracle_fee(_market(row.limits["pairs"])),
        )
        if delegate != agent.key_address:
            found.users.append(f"{row.deployment_id}: the chain's delegate of {row.account} is {delegate}")
        finding = judge_allowance(row.deployment_id, await read_account(desk.desk, row.account), Decimal(fee))
        if (said := finding[ALLOWANCE, row.deployment_id]) is not None:
            found.users.append(f"{row.deployment_id}: {said.text}")


def _market(pairs: list[int]) -> int:
    return min(int(one) for one in pairs)


async def _found(installation: Installation) -> _Opened | Verdict:
    if not installation.settings.ostium.enabled:
        return ok(OFF)
    try:
        return await installation.once(GROUP, partial(_read, installation))
    except OperatorError as wrong:
        return fail(str(wrong), 'docs/accounts.md, "Steps", says what is set and how')


@check(GROUP, "chain and contracts")
async def contracts(installation: Installation) -> Verdict:
    """The chain's number, code at each address, both keys, and the platform's wallet."""
    found = await _found(installation)
    if isinstance(found, Verdict):
        return found
    wallet = installation.settings.collector.platform_wallet
    return ok(f"chain {found.chain_id}, {len(found.contracts)} contracts; charges are paid to {wallet}")


@check(GROUP, "gas of the agent")
async def agent(installation: Installation) -> Verdict:
    """Whether the key that trades can pay for a hundred transactions; fewer than five are a failure."""
    found = await _found(installation)
    return found if isinstance(found, Verdict) else found.keys[AGENT]


@check(GROUP, "gas of the collector")
async def collector(installation: Installation) -> Verdict:
    """The same of the key that pulls charges."""
    found = await _found(installation)
    return found if isinstance(found, Verdict) else found.keys[COLLECTOR]


@check(GROUP, "users")
async def users(installation: Installation) -> Verdict:
    """Whether every user still names the agent and allows what an order and his charges take."""
    found = await _found(installation)
    if isinstance(found, Verdict):
        return found
    if found.users:
        more = f"; and {len(found.users) - MOST_NAMED} more" if len(found.users) > MOST_NAMED else ""
        return warn(
            f"{'; '.join(found.users[:MOST_NAMED])}{more}", "ask these users; nothing is opened for them"
        )
    return ok(f"{found.count} deployments name the agent and allow enough")


@check(GROUP, "agents on Hyperliquid")
async def agents(installation: Installation) -> Verdict:
    """Whether the agents' secret is that of the stored agents, and every user's agent is approved, as it was read last."""
    if not installation.settings.agents.enabled:
        return ok(AGENTS_OFF)
    try:
        made_of = keys_of(installation.settings).fingerprint
    except OperatorError as wrong:
        return fail(str(wrong), 'docs/accounts.md, "Accounts on Hyperliquid", says what is set and how')
    accounts = installation.store.accounts
    foreign = [
        one.agent_id for one in accounts.agents() if one.venue == HYPERLIQUID and one.key_address != made_of
    ]
    if foreign:
        advice = "set the secret that they were made with: no other signs for their users"
        return fail(f"agents of another secret than the settings': {', '.join(foreign)}", advice)
    live = accounts.deployments(DeploymentState.ACTIVE, DeploymentState.PAUSED, venue=HYPERLIQUID)
    bare = [one.deployment_id for one in live if not one.seen.get("approved")]
    if bare:
        more = f" and {len(bare) - MOST_NAMED} more" if len(bare) > MOST_NAMED else ""
        return warn(
            f"no agent of ours is approved by {', '.join(bare[:MOST_NAMED])}{more}",
            "`evenkeel accounts check DEPLOYMENT` says which address the user approves",
        )
    return ok(f"{len(live)} deployments, each with its agent approved")
