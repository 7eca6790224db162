"""A user's statement, which adds up to what trades and shares changed in his wallet; the events of billing. By the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from evenkeel.clock import as_datetime
from state.accounts.many import HYPERLIQUID
from state.accounts.models import AccountTrade, SettlementRow
from state.accounts.store import ACCOUNTS
from state.store import Store
from strategy.accounts.share import ChargeState
from tasks.accounts.hyperliquid.booking import coin_of

ZERO, UNIT = Decimal(0), Decimal("0.000001")
LINE_FIELDS = ("at", "what", "trade", "market", "change_usdc", "sum_usdc", "transaction")
EVENT_FIELDS = (
    "occurred_at", "kind", "deployment_id", "account", "amount", "asset", "status", "base_usdc", "share", "trade", "order_id",
    "charge_id", "transaction", "why",
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One change of a wallet: below zero left it."""

    at_ms: int
    what: str
    trade: str
    pair: int | None
    change_usdc: Decimal
    transaction: str
    market: str = ""


def statement(store: Store, account: str, markets: dict[int, str]) -> dict[str, Any]:
    """Return what trades and shares changed in a wallet, in order of time, and the sum; orders that are under way are named and
    not counted, and so is what is owed. Money as text, USDC.
    """
    accounts = store.accounts
    with store.one_moment():
        trades = accounts.trades(account=account, venue=None)
        settled = [one for one in accounts.settlements(account=account) if one.is_live]
        charges = accounts.charges(account=account)
        unfinished = store.unfinished_intents(ACCOUNTS)
    lines = [line for trade in trades for line in _of_trade(trade, settled)]
    lines += [
        Line(one.at_ms, f"{one.kind}: {one.why}", "", None, one.paid_usdc - one.fee_usdc, one.transaction)
        for one in settled
        if one.trade is None
    ]
    lines += [
        Line(one.updated_ms, "share of profit", "", None, -one.usdc, one.transaction or "")
        for one in charges
        if one.state == ChargeState.COLLECTED
    ]
    lines.sort(key=lambda one: one.at_ms)
    rows, total = [], ZERO
    for one in lines:
        total += one.change_usdc
        rows.append(
            {
                "at": _time(one.at_ms),
                "what": one.what,
                "trade": one.trade,
                "market": one.market or ("" if one.pair is None else markets.get(one.pair, str(one.pair))),
                "change_usdc": f"{one.change_usdc:f}",
                "sum_usdc": f"{total:f}",
                "transaction": one.transaction,
            }
        )
    owed = [one.usdc for one in charges if one.state in (ChargeState.DUE, ChargeState.OUTSTANDING)]
    names = {one.name for one in trades}
    return {
        "account": account,
        "lines": rows,
        "total_usdc": f"{total:f}",
        "owed_usdc": f"{sum(owed, ZERO):f}",
        "stated_usdc": f"{sum((one.usdc for one in charges if one.state == ChargeState.STATEMENT), ZERO):f}",
        "under_way": sorted(f"{one.kind} of {one.subject}" for one in unfinished if one.subject in names),
    }


def _of_trade(trade: AccountTrade, settled: list[SettlementRow]) -> list[Line]:
    mine = [one for one in settled if one.trade == trade.name]
    if trade.venue == HYPERLIQUID:
        return [_of_margin(trade, one) for one in mine]
    # A result is what was paid out less its part of the deposit and the fee: so the part can be had from the books.
    parts = [one.paid_usdc - one.fee_usdc - (one.profit_usdc or ZERO) for one in mine if one.kind == "closed"]
    added = [one.paid_usdc for one in mine if one.kind in ("topped up", "collateral removed")]
    deposit = trade.paid_usdc + sum(parts, ZERO) + sum(added, ZERO)
    deposit = deposit.quantize(UNIT)  # parts of parts have more digits than the token
    was_placed = any(one.kind == "placed" for one in mine)
    found = []
    for one in mine:
        change = one.paid_usdc - one.fee_usdc
        if one.kind == "opened" and not was_placed:
            change = -deposit  # paid with the order, which has no settlement of its own
        what = f"{one.kind}: {one.why}" if one.why else one.kind
        found.append(Line(one.at_ms, what, trade.name, trade.pair, change, one.transaction))
    return found


def _of_margin(trade: AccountTrade, one: SettlementRow) -> Line:
    """What a match changed in an account: its fee, and of a close the gain by price and the funding."""
    change = one.paid_usdc - one.fee_usdc
    if one.share is not None:
        change -= Decimal(one.before["collateral_usdc"]) * one.share
    what = f"{one.kind}: {one.why}" if one.why else one.kind
    return Line(one.at_ms, what, trade.name, trade.pair, change, one.transaction, coin_of(trade))


def billing(store: Store, account: str = "") -> list[dict[str, Any]]:
    """Return the events of billing, of one account or all, oldest first. Money as text."""
    accounts = store.accounts
    with store.one_moment():
        charges = accounts.charges(account=account or None)
        trade_of = {(one.chain, one.order_id): one.trade for one in accounts.settlements() if one.is_live}
    return [
        {
            "occurred_at": _time(one.created_ms),
            "kind": "PROFIT_SHARE",
            "deployment_id": one.deployment_id,
            "account": one.account,
            "amount": f"{one.usdc:f}",
            "asset": "USDC",
            "status": one.state,
            "base_usdc": f"{one.base_usdc:f}",
            "share": f"{one.share:f}",
            "trade": trade_of.get((one.chain, one.order_id)) or "",
            "order_id": one.order_id,
            "charge_id": one.charge_id,
            "transaction": one.transaction or "",
            "why": one.why,
        }
        for one in charges
    ]


def _time(at_ms: int) -> str:
    return f"{as_datetime(at_ms):%Y-%m-%dT%H:%M:%SZ}"
