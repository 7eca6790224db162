"""Who signed: recovery with the SDK's own functions, agents, and the nonce set of each signer."""

from __future__ import annotations

import time
from typing import Any

from hyperliquid.utils import signing as sdk

from twins.hyperliquid.account import Agent
from twins.hyperliquid.engine import Engine
from twins.hyperliquid.errors import ActionRefused, BadRequest

NONCES_KEPT = 100
PAST_MS = 2 * 86_400_000
FUTURE_MS = 86_400_000

AGENT_SIGN_TYPES = [
    {"name": "hyperliquidChain", "type": "string"},
    {"name": "agentAddress", "type": "address"},
    {"name": "agentName", "type": "string"},
    {"name": "nonce", "type": "uint64"},
]
BUILDER_SIGN_TYPES = [
    {"name": "hyperliquidChain", "type": "string"},
    {"name": "maxFeeRate", "type": "string"},
    {"name": "builder", "type": "address"},
    {"name": "nonce", "type": "uint64"},
]
USER_SIGNED: dict[str, tuple[list[dict[str, str]], str]] = {
    "usdSend": (sdk.USD_SEND_SIGN_TYPES, "UsdSend"),
    "spotSend": (sdk.SPOT_TRANSFER_SIGN_TYPES, "SpotSend"),
    "withdraw3": (sdk.WITHDRAW_SIGN_TYPES, "Withdraw"),
    "usdClassTransfer": (sdk.USD_CLASS_TRANSFER_SIGN_TYPES, "UsdClassTransfer"),
    "sendAsset": (sdk.SEND_ASSET_SIGN_TYPES, "SendAsset"),
    "approveAgent": (AGENT_SIGN_TYPES, "ApproveAgent"),
    "approveBuilderFee": (BUILDER_SIGN_TYPES, "ApproveBuilderFee"),
    "userDexAbstraction": (sdk.USER_DEX_ABSTRACTION_SIGN_TYPES, "UserDexAbstraction"),
    "userSetAbstraction": (sdk.USER_SET_ABSTRACTION_SIGN_TYPES, "UserSetAbstraction"),
}
USER_SIGNED_NONCE = {"usdSend": "time", "spotSend": "time", "withdraw3": "time"}


def recover(body: dict[str, Any], is_mainnet: bool = False) -> str:
    """Return the address (lower case) that signed the body of `/exchange`. Any other text or network recovers another
    address.

    Raises BadRequest where signature or action cannot be decoded at all.
    """
    action, signature = body["action"], body["signature"]
    kind = action["type"]
    try:
        if kind in USER_SIGNED:
            action = dict(action)  # the SDK's function overwrites hyperliquidChain in place
            if kind == "approveAgent":
                action.setdefault("agentName", "")
            fields, primary = USER_SIGNED[kind]
            primary = f"HyperliquidTransaction:{primary}"
            found = sdk.recover_user_from_user_signed_action(action, signature, fields, primary, is_mainnet)
        else:
            found = sdk.recover_agent_or_user_from_l1_action(
                action,
                signature,
                body.get("vaultAddress"),
                body["nonce"],
                body.get("expiresAfter"),
                is_mainnet,
            )
    except Exception as error:  # eth-account raises a dozen unrelated classes for a signature that is none
        raise BadRequest from error
    return str(found).lower()


class Nonces:
    """Per signer: the 100 highest used; a new one exceeds the smallest of a full set, is unused, and near
    the present.

    The window is (T - 2 days, T + 1 day). T is world time; an unmodified client that stamps with its own
    wall clock is
    served as well, since the world's clock need not be the wall's (`accept_wall_clock`).
    """

    def __init__(self, accept_wall_clock: bool = True) -> None:
        self.accept_wall_clock = accept_wall_clock
        self._used: dict[str, set[int]] = {}

    def use(self, signer: str, nonce: int, now_ms: int) -> None:
        used = self._used.setdefault(signer, set())
        if nonce in used:
            raise ActionRefused(f"Invalid nonce: duplicate nonce {nonce}")
        clocks = [now_ms, int(time.time() * 1000)] if self.accept_wall_clock else [now_ms]
        if not any(clock - PAST_MS < nonce < clock + FUTURE_MS for clock in clocks):
            raise ActionRefused(f"Invalid nonce: {nonce} is outside of the window around {now_ms}")
        if len(used) >= NONCES_KEPT and nonce <= min(used):
            raise ActionRefused(f"Invalid nonce: {nonce} is not above the smallest kept nonce {min(used)}")
        used.add(nonce)
        while len(used) > NONCES_KEPT:
            used.remove(min(used))


def owner_of_l1(engine: Engine, signer: str) -> str:
    """Return the account that an L1 action acts for: the signer's own, or its master's where it is a living agent."""
    master = engine.masters.get(signer)
    if master is not None:
        agent = engine.accounts[master].agents.get(signer)
        if agent is not None and agent.valid_until_ms > engine.now_ms:
            return master
    elif signer in engine.accounts:
        return signer
    raise ActionRefused(f"User or API Wallet {signer} does not exist.")


def owner_of_user_signed(engine: Engine, signer: str) -> str:
    if signer not in engine.accounts:
        raise ActionRefused(f"Must deposit before performing actions. User: {signer}")
    return signer


EXTRA_AGENTS = 3
AGENT_LIFE_MS = 90 * 86_400_000
AGENT_MAX_LIFE_MS = 180 * 86_400_000


def register_agent(
    engine: Engine, master: str, agent: str, name: str | None, valid_until_ms: int | None = None
) -> None:
    """Approve an agent; without a name, or with a name in use, it replaces the earlier one. 90 days unless
    given.

    A name may end in ` valid_until <ms>` (at most 180 days ahead). A retired agent address is never taken
    again here.
    """
    account = engine.accounts[master]
    if name and " valid_until " in name:
        name, _, until = name.rpartition(" valid_until ")
        try:
            valid_until_ms = min(int(until), engine.now_ms + AGENT_MAX_LIFE_MS)
        except ValueError as error:
            raise ActionRefused("Invalid agent name") from error
    name = name or None
    taken = engine.masters.get(agent)
    if agent in engine.accounts or agent in engine.retired_agents or (taken and taken != master):
        raise ActionRefused("Extra agent already used.")
    for other in [one for one in account.agents.values() if one.name == name or one.address == agent]:
        del account.agents[other.address]
        del engine.masters[other.address]
        if other.address != agent:
            engine.retired_agents.add(other.address)
    named = sum(1 for one in account.agents.values() if one.name is not None)
    if name is not None and named >= EXTRA_AGENTS:
        raise ActionRefused(
            f"Too many extra agents for cumulative volume traded. Current limit is {EXTRA_AGENTS}"
        )
    until_ms = valid_until_ms if valid_until_ms is not None else engine.now_ms + AGENT_LIFE_MS
    account.agents[agent] = Agent(agent, name, until_ms)
    engine.masters[agent] = master
