"""Account modes: where the money of an account is shown, what a unified one refuses, and the abstraction of builder dexes.

In the pooled modes (`unifiedAccount`, `portfolioMargin`) one USDC balance backs spot and perpetuals. It is shown as spot:
`total` is the whole equity, unrealised gains included, `hold` the margin in use, and `tokenToAvailableAfterMaintenance`
the total less the maintenance margin. What the perpetuals' own state shows is the part that it has drawn: its value is
about the margin in use, nothing where nothing is held, and it is not the account's money.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from twins.hyperliquid.account import Account
from twins.hyperliquid.engine import Engine
from twins.hyperliquid.errors import ActionRefused, BadRequest
from twins.hyperliquid.margin import POOLED_MODES, Marks, margin_used, order_margin, state_of
from twins.hyperliquid.numbers import ZERO, lower_address, num

MODES = ("disabled", "unifiedAccount", "portfolioMargin")
DISABLED_WHEN_POOLED = "Action disabled when unified account is active"
SPOT_ONLY_WHEN_POOLED = "Unified account only supports sending assets through spot"
RATIO_STEP = Decimal("0.000000001")


def is_pooled(account: Account) -> bool:
    return account.abstraction in POOLED_MODES


def require_apart(account: Account, refusal: str = DISABLED_WHEN_POOLED) -> None:
    """Refuse what makes sense only where spot and perpetuals are two balances."""
    if is_pooled(account):
        raise ActionRefused(refusal)


def set_mode(engine: Engine, account: Account, mode: str) -> None:
    """Switch the mode: spot USDC joins the pool, and leaves it again except for what the perpetuals need."""
    pooled = mode in POOLED_MODES
    if pooled and not is_pooled(account):
        move(account, account.spot_usdc)
    elif is_pooled(account) and not pooled:
        orders = list(account.open_orders.values())
        free = state_of(account, account.raw_usd, account.positions, orders, engine.marks()).withdrawable
        move(account, -free)
    account.abstraction = mode
    account.record(engine.now_ms)


def move(account: Account, amount: Decimal) -> None:
    """Move USDC from spot to perpetuals (negative: back) without a row of the venue's ledger."""
    account.spot_usdc -= amount
    account.raw_usd += amount
    account.mode_moves_usd += amount


def spot_state(account: Account, marks: Marks) -> dict[str, Any]:
    """Return the body of `spotClearinghouseState`."""
    if not is_pooled(account):
        return {"balances": [_row(account.spot_usdc, ZERO)]}
    orders = list(account.open_orders.values())
    state = state_of(account, account.raw_usd, account.positions, orders, marks)
    total = account.spot_usdc + state.whole.account_value
    hold = state.whole.margin_used + order_margin(account, account.positions, orders)
    isolated = sum((margin_used(one, marks) for one in account.positions.values() if not one.is_cross), ZERO)
    body: dict[str, Any] = {
        "balances": [_row(total, hold)],
        "tokenToAvailableAfterMaintenance": [[0, num(max(ZERO, total - state.requirement - isolated))]],
    }
    if account.abstraction == "portfolioMargin":
        ratio = state.requirement / total if total > 0 else ZERO
        body |= {
            "portfolioMarginEnabled": True,
            "portfolioMarginRatio": num(ratio.quantize(RATIO_STEP)),
            "tokenToPortfolioBorrowRatio": [[0, "0.0"]],
            "tokenToPortfolioSupplyRatio": [],
        }
    return body


def _row(total: Decimal, hold: Decimal) -> dict[str, Any]:
    return {"coin": "USDC", "token": 0, "total": num(total), "hold": num(hold), "entryNtl": "0.0"}


def set_abstraction(engine: Engine, account: Account, action: dict[str, Any]) -> None:
    mode = action.get("abstraction")
    if _user(action) != account.address or mode not in MODES:
        raise ActionRefused("Abstraction transition not allowed")
    set_mode(engine, account, mode)


def set_dex_abstraction(engine: Engine, account: Account, action: dict[str, Any]) -> None:
    """Let the account's money follow it to builder-deployed dexes; the answer of `userDexAbstraction` until then is
    null.
    """
    if type(action.get("enabled")) is not bool:
        raise BadRequest
    if _user(action) != account.address:
        raise ActionRefused("Abstraction transition not allowed")
    require_apart(account)
    account.dex_abstraction = action["enabled"]


def _user(action: dict[str, Any]) -> str:
    found = lower_address(action.get("user"))
    if found is None:
        raise BadRequest
    return found
