"""One order's settlement, booked: the trade, the money, the account's sums and the charge, in one transaction, once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from evenkeel.errors import Bug
from state.accounts.models import (
    AccountTrade,
    AccountTradeTable,
    ChargeRow,
    ChargeTable,
    Deployment,
    DeploymentTable,
    SettlementRow,
    SettlementTable,
    TradeState,
)
from state.columns import plain_json
from state.database import AnyFence, fetch, fetch_one, insert_new, log_move, table_of, values_of

TRADES = table_of(AccountTradeTable)
SETTLEMENTS = table_of(SettlementTable)
CHARGES = table_of(ChargeTable)
DEPLOYMENTS = table_of(DeploymentTable)
_TRADE = select(TRADES).where(TRADES.c.name == bindparam("name")).with_for_update()
_LIVE = select(SETTLEMENTS).where(
    SETTLEMENTS.c.chain == bindparam("chain"),
    SETTLEMENTS.c.order_id == bindparam("order_id"),
    SETTLEMENTS.c.is_live,
)
_DEPLOYMENT = select(DEPLOYMENTS).where(DEPLOYMENTS.c.deployment_id == bindparam("its_id")).with_for_update()
_OF_ORDER = select(CHARGES).where(
    CHARGES.c.chain == bindparam("chain"),
    CHARGES.c.order_id == bindparam("order_id"),
    CHARGES.c.state != "REVERSED",
)
ZERO, ONE = Decimal(0), Decimal(1)
SUMS = ("result_usdc", "high_water_usdc")
MONEY = (
    "result_usdc",
    "paid_usdc",
    "collateral_usdc",
    "asset_qty",
    "open_price",
    "best_price",
    "leverage",
    "stop",
)
REVERSED = "REVERSED"
"""The state of a charge whose settlement the chain took back before anything was pulled."""


@dataclass(frozen=True)
class SettledOrder:
    """What the venue's keeper did with one order, and the money that moved in the order's and the keeper's transaction.

    `kind`: opened, added, closed, open cancelled, close cancelled; of an order that waits for its price, placed and withdrawn;
    topped up, collateral removed, removal refused. `paid_usdc` reached the wallet; below zero it left it. `fee_usdc` was pulled
    with the order and not given back. What an opening makes of a trade stands in `opened`, and so does what an open one becomes
    by more of it (added); in `moved` what any other does: `usdc` more (or less) is paid for it, and it has this `place`,
    `leverage` or `stop`. An opening of a user's own that was cancelled is of no `trade`, and names the `account`.
    """

    chain: str
    order_id: str
    trade: str
    kind: str
    block: int
    block_hash: str
    transaction: str
    log_index: int
    at_ms: int
    why: str = ""
    price: Decimal | None = None
    share: Decimal | None = None
    paid_usdc: Decimal = ZERO
    fee_usdc: Decimal = ZERO
    opened: dict[str, Any] | None = None
    moved: dict[str, Any] | None = None
    account: str = ""
    left_qty: Decimal | None = None
    """Of the asset, where the venue says what is left: a share of it need not be a number of so many digits."""


@dataclass(frozen=True)
class Owed:
    """What a settlement makes due, and the account's sums after it."""

    base_usdc: Decimal
    usdc: Decimal
    state: str
    result_usdc: Decimal
    high_water_usdc: Decimal


OwedFor = Callable[[Deployment, Decimal], Owed | None]
"""What is owed by a deployment for a profit or loss."""


def settle(
    db: Connection,
    order: SettledOrder,
    owed_for: OwedFor,
    share_of: Callable[[Deployment], Decimal],
    now_ms: int,
) -> SettlementRow | None:
    """Book it; None where it is booked already. Raises Bug for a trade that is not stored, or figures that contradict it."""
    if fetch_one(db, SettlementRow, _LIVE, chain=order.chain, order_id=order.order_id) is not None:
        return None
    if not order.trade:
        if order.kind != "open cancelled":
            raise Bug(f"order {order.order_id} is {order.kind}, and of no trade")
        insert_new(db, SETTLEMENTS, _row(order, order.account, -order.fee_usdc, {}))
        return fetch_one(db, SettlementRow, _LIVE, chain=order.chain, order_id=order.order_id)
    trade = fetch_one(db, AccountTrade, _TRADE, name=order.trade)
    if trade is None:
        raise Bug(f"order {order.order_id} is of the trade {order.trade!r}, which is not stored")
    changes, profit = _effect(trade, order)
    deployment = _deployment(db, trade)
    before = {name: getattr(trade, name) for name in changes}
    if deployment is not None:
        before["of_account"] = {name: getattr(deployment, name) for name in SUMS}
    values = _row(order, trade.account, profit, plain_json(before))
    if not insert_new(db, SETTLEMENTS, values):
        return None
    change_trade(db, trade, now_ms, f"order {order.order_id}: {order.kind}", **changes)
    if profit is not None and deployment is not None:
        _charge(db, deployment, order, profit, owed_for, share_of, now_ms)
    return fetch_one(db, SettlementRow, _LIVE, chain=order.chain, order_id=order.order_id)


def _row(order: SettledOrder, account: str, profit: Decimal | None, before: dict[str, Any]) -> dict[str, Any]:
    row = SettlementRow(
        chain=order.chain,
        order_id=order.order_id,
        trade=order.trade or None,
        account=account,
        kind=order.kind,
        why=order.why,
        price=order.price,
        share=order.share,
        paid_usdc=order.paid_usdc,
        fee_usdc=order.fee_usdc,
        profit_usdc=profit,
        block=order.block,
        block_hash=order.block_hash,
        transaction=order.transaction,
        log_index=order.log_index,
        at_ms=order.at_ms,
        before=before,
    )
    return {name: value for name, value in values_of(row).items() if name != "id"}


def _effect(trade: AccountTrade, order: SettledOrder) -> tuple[dict[str, Any], Decimal | None]:
    """What becomes of the trade, and the realised result: of a close, and of a fee that bought nothing."""
    if order.kind == "opened":
        if trade.state not in (TradeState.PENDING, TradeState.STALE):
            raise Bug(f"trade {trade.name} is {trade.state} and was opened by order {order.order_id}")
        opened = order.opened or {}
        return {"state": TradeState.OPEN, "opened_ms": order.at_ms, "open_price": order.price, **opened}, None
    if order.kind == "added":
        return dict(order.opened or {}), None
    if order.kind == "open cancelled":
        result = -order.fee_usdc
        return {
            "state": TradeState.FAILED,
            "result_usdc": trade.result_usdc + result,
            "closed_ms": order.at_ms,
        }, result
    if order.kind == "close cancelled":
        result = -order.fee_usdc
        state = TradeState.OPEN if trade.state is TradeState.CLOSING else trade.state
        return {"state": state, "result_usdc": trade.result_usdc + result}, result
    if order.moved is not None:
        return _moved(trade, order, order.moved)
    if order.kind == "removal refused":
        return {"result_usdc": trade.result_usdc - order.fee_usdc}, -order.fee_usdc
    if order.kind == "withdrawn":
        result = order.paid_usdc - trade.paid_usdc
        return {
            "state": TradeState.FAILED,
            "result_usdc": trade.result_usdc + result,
            "paid_usdc": ZERO,
            "closed_ms": order.at_ms,
        }, result
    if order.kind != "closed" or order.share is None:
        raise Bug(f"order {order.order_id} is {order.kind!r}, which no trade knows")
    result = order.paid_usdc - trade.paid_usdc * order.share - order.fee_usdc
    left = ONE - order.share
    changes = {
        "paid_usdc": trade.paid_usdc - trade.paid_usdc * order.share,
        "collateral_usdc": trade.collateral_usdc * left,
        "asset_qty": trade.asset_qty * left if order.left_qty is None else order.left_qty,
        "result_usdc": trade.result_usdc + result,
        "state": TradeState.CLOSED if not left else TradeState.OPEN,
    }
    return changes | ({} if left else {"closed_ms": order.at_ms}), result


def _moved(
    trade: AccountTrade, order: SettledOrder, moved: dict[str, Any]
) -> tuple[dict[str, Any], Decimal | None]:
    """What was paid for a trade has changed: nothing is realised but a fee."""
    changes = {name: value for name, value in moved.items() if name != "usdc"}
    changes["paid_usdc"] = trade.paid_usdc + moved["usdc"]
    if order.kind == "placed":
        if trade.state not in (TradeState.PENDING, TradeState.STALE):
            raise Bug(f"trade {trade.name} is {trade.state} and its order was placed by {order.order_id}")
        return changes, None
    changes["collateral_usdc"] = trade.collateral_usdc + moved["usdc"]
    if not order.fee_usdc:
        return changes, None
    return changes | {"result_usdc": trade.result_usdc - order.fee_usdc}, -order.fee_usdc


def change_trade(
    db: Connection, trade: AccountTrade, now_ms: int, why: str, fence: AnyFence = None, **values: Any
) -> None:
    """Change a trade's row and note a move of its state."""
    new = TradeState(values.get("state", trade.state))
    db.execute(update(TRADES).where(TRADES.c.name == trade.name).values(**values, updated_ms=now_ms))
    if new is not trade.state:
        log_move(db, "trade", trade.name, trade.state, new, note=why, at_ms=now_ms, fence=fence)


def _charge(
    db: Connection,
    deployment: Deployment,
    order: SettledOrder,
    profit: Decimal,
    owed_for: OwedFor,
    share_of: Callable[[Deployment], Decimal],
    now_ms: int,
) -> None:
    owed = owed_for(deployment, profit)
    result = deployment.result_usdc + profit
    sums = {
        "result_usdc": result,
        "high_water_usdc": max(deployment.high_water_usdc, result),
        "updated_ms": now_ms,
    }
    db.execute(
        update(DEPLOYMENTS).where(DEPLOYMENTS.c.deployment_id == deployment.deployment_id).values(**sums)
    )
    if owed is None:
        return
    row = ChargeRow(
        charge_id=f"{order.chain}/{order.order_id}/{order.block_hash[2:10]}",
        chain=order.chain,
        order_id=order.order_id,
        deployment_id=deployment.deployment_id,
        account=deployment.account,
        base_usdc=owed.base_usdc,
        share=share_of(deployment),
        usdc=owed.usdc,
        state=owed.state,
        created_ms=now_ms,
        updated_ms=now_ms,
    )
    if insert_new(db, CHARGES, values_of(row)):
        log_move(
            db, "charge", row.charge_id, "", owed.state, note=f"of {owed.base_usdc}", at_ms=now_ms, fence=None
        )


def _deployment(db: Connection, trade: AccountTrade) -> Deployment | None:
    """Whose the trade is; None for one that a user opened outside of any."""
    if trade.deployment_id is None:
        return None
    found = fetch_one(db, Deployment, _DEPLOYMENT, its_id=trade.deployment_id)
    if found is None:
        raise Bug(f"trade {trade.name} is of the deployment {trade.deployment_id!r}, which is not stored")
    return found


def take_back(db: Connection, row: SettlementRow, now_ms: int) -> ChargeRow | None:
    """Undo a settlement that the chain took back: a row with the opposite figures, the trade and the sums as they were, and its
    charge. Return the charge where it was collected already: the money is somebody else's then, and a person has to decide.
    Settlements are taken back from the newest on.
    """
    opposite = {
        name: None if (value := getattr(row, name)) is None else -value
        for name in ("paid_usdc", "fee_usdc", "profit_usdc")
    }
    values = values_of(row) | opposite | {"is_live": False, "reversal_of": row.id, "before": {}}
    del values["id"]
    db.execute(update(SETTLEMENTS).where(SETTLEMENTS.c.id == row.id).values(is_live=False))
    db.execute(SETTLEMENTS.insert().values(**values))
    if row.trade is None:
        return None
    trade = fetch_one(db, AccountTrade, _TRADE, name=row.trade)
    if trade is None:
        raise Bug(f"settlement {row.id} is of the trade {row.trade!r}, which is not stored")
    change_trade(db, trade, now_ms, f"block {row.block} is no part of the chain any more", **_as_it_was(row))
    if (sums := row.before.get("of_account")) is not None:
        mine = DEPLOYMENTS.c.deployment_id == trade.deployment_id
        old = {name: Decimal(sums[name]) for name in SUMS}
        db.execute(update(DEPLOYMENTS).where(mine).values(**old, updated_ms=now_ms))
    charge = fetch_one(db, ChargeRow, _OF_ORDER, chain=row.chain, order_id=row.order_id)
    if charge is None or charge.transaction is not None:
        return charge
    mine = CHARGES.c.charge_id == charge.charge_id
    db.execute(update(CHARGES).where(mine).values(state=REVERSED, updated_ms=now_ms))
    log_move(
        db, "charge", charge.charge_id, charge.state, REVERSED, note="taken back", at_ms=now_ms, fence=None
    )
    return None


def _as_it_was(row: SettlementRow) -> dict[str, Any]:
    """The trade's columns that a settlement changed, with their values of before."""
    found = dict[str, Any]()
    for name, value in row.before.items():
        if name == "state":
            found[name] = TradeState(value)
        elif name != "of_account":
            found[name] = Decimal(value) if name in MONEY and value is not None else value
    return found


def live_from(db: Connection, chain: str, block: int) -> list[SettlementRow]:
    """The settlements that were booked of these blocks and on, the newest first."""
    query = (
        select(SETTLEMENTS)
        .where(SETTLEMENTS.c.chain == chain, SETTLEMENTS.c.block >= block, SETTLEMENTS.c.is_live)
        .order_by(SETTLEMENTS.c.block.desc(), SETTLEMENTS.c.log_index.desc())
    )
    return fetch(db, SettlementRow, query)
