"""User-signed actions: money between accounts and out of the venue, agents, builder fees and the
account mode.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

from twins.hyperliquid.account import Account
from twins.hyperliquid.auth import register_agent
from twins.hyperliquid.engine import Engine
from twins.hyperliquid.errors import ActionRefused, BadRequest
from twins.hyperliquid.margin import state_of
from twins.hyperliquid.meta import USDC_TOKEN_ID
from twins.hyperliquid.modes import (
    SPOT_ONLY_WHEN_POOLED,
    is_pooled,
    move,
    require_apart,
    set_abstraction,
    set_dex_abstraction,
)
from twins.hyperliquid.numbers import ZERO, lower_address, num, usd

Action = dict[str, Any]
WITHDRAWAL_FEE_USD = Decimal(1)
ACTIVATION_FEE_USD = Decimal(1)
USDC = ("USDC", f"USDC:{USDC_TOKEN_ID}")


def amount_of(action: Action) -> Decimal:
    """Return the `amount` of an action in USD; BadRequest where it is no positive number of at most 6 decimals."""
    try:
        amount = Decimal(action["amount"])
    except (KeyError, TypeError, InvalidOperation) as error:
        raise BadRequest from error
    if (
        not isinstance(action["amount"], str)
        or not amount.is_finite()
        or amount <= 0
        or amount != usd(amount)
    ):
        raise BadRequest
    return amount


def address_of(action: Action, key: str) -> str:
    found = lower_address(action.get(key))
    if found is None:
        raise BadRequest
    return found


def free_usd(engine: Engine, account: Account) -> Decimal:
    """Return what may leave the perp account now."""
    orders = list(account.open_orders.values())
    return state_of(account, account.raw_usd, account.positions, orders, engine.marks()).withdrawable


def withdraw(engine: Engine, account: Account, action: Action) -> None:
    """Withdraw: the whole amount leaves at once; the fee is part of it, and the row shows the two apart."""
    amount = amount_of(action)
    address_of(action, "destination")
    if amount <= WITHDRAWAL_FEE_USD or amount > free_usd(engine, account):
        raise ActionRefused("Insufficient balance for withdrawal")
    account.raw_usd -= amount
    delta = {
        "type": "withdraw",
        "usdc": num(amount - WITHDRAWAL_FEE_USD),
        "nonce": action["time"],
        "fee": num(WITHDRAWAL_FEE_USD),
    }
    engine.book_ledger(account, delta)


def usd_send(engine: Engine, account: Account, action: Action) -> None:
    require_apart(account)
    _send_perp(engine, account, amount_of(action), address_of(action, "destination"))


def _send_perp(engine: Engine, account: Account, amount: Decimal, destination: str) -> None:
    fee = ZERO if destination in engine.accounts else ACTIVATION_FEE_USD
    if destination == account.address or amount + fee > free_usd(engine, account):
        raise ActionRefused("Insufficient balance for withdrawal")
    account.raw_usd -= amount + fee
    receiver = engine.account(destination)
    receiver.raw_usd += amount
    delta = {
        "type": "internalTransfer",
        "usdc": num(amount),
        "user": account.address,
        "destination": destination,
        "fee": num(fee),
    }
    engine.book_ledger(account, delta)
    engine.book_ledger(receiver, dict(delta))


def class_transfer(engine: Engine, account: Account, action: Action) -> None:
    """Move USDC between the perp and the spot balance of one account."""
    require_apart(account)
    amount, to_perp = amount_of(action), action.get("toPerp")
    if type(to_perp) is not bool:
        raise BadRequest
    available = account.spot_usdc if to_perp else free_usd(engine, account)
    if amount > available:
        raise ActionRefused("Insufficient balance for token transfer")
    account.raw_usd += amount if to_perp else -amount
    account.spot_usdc += -amount if to_perp else amount
    engine.book_ledger(account, {"type": "accountClassTransfer", "usdc": num(amount), "toPerp": to_perp})


def spot_send(engine: Engine, account: Account, action: Action) -> None:
    require_apart(account)
    _send_spot(engine, account, action)


def _send_spot(engine: Engine, account: Account, action: Action) -> None:
    """Send spot USDC. What a pooled account sends comes out of its pool, and what it is sent goes into it."""
    amount, destination = amount_of(action), address_of(action, "destination")
    if action.get("token") not in USDC:
        raise ActionRefused("Insufficient balance for token transfer")
    fee = ZERO if destination in engine.accounts else ACTIVATION_FEE_USD
    available = free_usd(engine, account) if is_pooled(account) else account.spot_usdc
    if destination == account.address or amount + fee > available:
        raise ActionRefused("Insufficient balance for token transfer")
    if is_pooled(account):
        move(account, -amount - fee)
    account.spot_usdc -= amount + fee
    receiver = engine.account(destination)
    receiver.spot_usdc += amount
    if is_pooled(receiver):
        move(receiver, amount)
    delta = {
        "type": "spotTransfer",
        "token": "USDC",
        "amount": num(amount),
        "usdcValue": num(amount),
        "user": account.address,
        "destination": destination,
        "fee": num(fee),
        "nativeTokenFee": "0.0",
        "nonce": action["time"],
        "feeToken": "USDC",
    }
    engine.book_ledger(account, delta)
    engine.book_ledger(receiver, dict(delta))


def send_asset(engine: Engine, account: Account, action: Action) -> None:
    """Move USDC between the perp ("") and spot ("spot") balances of this or another account."""
    source, target = action.get("sourceDex"), action.get("destinationDex")
    if action.get("token") not in USDC or source not in ("", "spot") or target not in ("", "spot"):
        raise ActionRefused("Insufficient balance for token transfer")
    if source == "":
        require_apart(account, SPOT_ONLY_WHEN_POOLED)
    destination = address_of(action, "destination")
    if destination != account.address:
        if source != target:
            raise ActionRefused("Insufficient balance for token transfer")
        timed = {**action, "time": action["nonce"]}
        (usd_send if source == "" else _send_spot)(engine, account, timed)
    elif source != target:
        class_transfer(engine, account, {**action, "toPerp": target == ""})


def approve_agent(engine: Engine, account: Account, action: Action) -> None:
    name = action.get("agentName")
    if name is not None and not isinstance(name, str):
        raise BadRequest
    register_agent(engine, account.address, address_of(action, "agentAddress"), name)


def approve_builder(engine: Engine, account: Account, action: Action) -> None:
    rate = action.get("maxFeeRate")
    if not isinstance(rate, str) or not rate.endswith("%"):
        raise BadRequest
    account.builder_fees[address_of(action, "builder")] = rate


USER_ACTIONS: dict[str, Callable[[Engine, Account, Action], None]] = {
    "withdraw3": withdraw,
    "usdSend": usd_send,
    "usdClassTransfer": class_transfer,
    "spotSend": spot_send,
    "sendAsset": send_asset,
    "approveAgent": approve_agent,
    "approveBuilderFee": approve_builder,
    "userSetAbstraction": set_abstraction,
    "userDexAbstraction": set_dex_abstraction,
}
