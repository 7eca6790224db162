"""Fills of an account, booked: trades that begin, grow and end, with the true result of each end, once, in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from evenkeel.types import Forced
from state.accounts.many import HYPERLIQUID
from state.accounts.models import AccountTrade, Deployment, Origin, SettlementRow, TradeState
from state.accounts.settling import Owed, OwedFor, SettledOrder
from state.accounts.store import ACCOUNTS, ENDED
from state.store import Store
from strategy.accounts.fills import Change, Did
from strategy.accounts.share import ChargeState
from tasks.accounts.booking import owed_by
from venues.hyperliquid.models import WireLedgerUpdate, WireUserFunding

HELD_BEFORE = "held"
"""Begins the number of a trade that was there when its account came to us: it is guarded, and nothing is owed of it."""
UNIT = Decimal("0.000001")
ZERO = Decimal(0)
BACKSTOP_MS = 5_000
"""How far the record of a margin that was taken may lie from the fills that closed what it stood behind."""


@dataclass
class Seen:
    """What beside the fills says what became of an account's trades. `leverage`: by coin, of what is held now."""

    chain: str
    account: str
    deployment: Deployment | None
    markets: Mapping[str, int]
    leverage: Mapping[str, Decimal]
    funding: Sequence[WireUserFunding] = ()
    ledger: Sequence[WireLedgerUpdate] = ()
    ours: Mapping[str, str] = field(default_factory=dict)
    """By client order id, or the venue's number of an order: which kind of intent of ours it is of."""


def coin_of(trade: AccountTrade) -> str:
    """The market of a trade, by the number that it has here."""
    return (trade.trade_id or "::").split(":")[1]


def signed_qty(trade: AccountTrade) -> Decimal:
    """What a trade holds, below zero for a short."""
    return trade.asset_qty if trade.is_long else -trade.asset_qty


def live_by_coin(trades: Iterable[AccountTrade]) -> dict[str, AccountTrade]:
    """The trades that have not ended, by their market: there is one of each at most."""
    return {coin_of(one): one for one in trades if one.state not in ENDED}


def book(store: Store, changes: Sequence[Change], seen: Seen) -> list[SettlementRow]:
    """Book what an account's fills did; what is booked already changes nothing. Inside of the caller's transaction."""
    accounts, found = store.accounts, list[SettlementRow]()
    for change in changes:
        live = live_by_coin(accounts.trades(account=seen.account, venue=HYPERLIQUID))
        trade = live.get(change.coin)
        if change.did is Did.OPENED:
            order = _opened(store, change, seen)
        elif trade is None:
            continue  # of a trade that was over before anybody here followed it
        elif change.did is Did.ADDED:
            order = _added(trade, change, seen)
        else:
            order = _closed(store, trade, change, seen)
        row = accounts.settle(order, _owed(store, order.trade))
        if row is None:
            continue
        found.append(row)
        if change.did is Did.CLOSED and row.why.startswith("stop") and change.share != 1:
            # It has fired and is gone, and the rest is without one.
            accounts.change_trade(order.trade, "the stop has fired for a part", stop=None)
    return found


def adopt(
    store: Store, coin: str, szi: Decimal, entry_px: Decimal, leverage: Decimal, at_ms: int, seen: Seen
) -> AccountTrade:
    """Store a trade that is held already, as the venue shows it: it is guarded from now on, and nothing is owed of it."""
    collateral = (abs(szi) * entry_px / leverage).quantize(UNIT)
    row = _trade(store, f"{HELD_BEFORE}:{coin}:{at_ms}", coin, szi > 0, leverage, seen).model_copy(
        update={
            "state": TradeState.OPEN,
            "collateral_usdc": collateral,
            "paid_usdc": collateral,
            "asset_qty": abs(szi),
            "open_price": entry_px,
            "opened_ms": at_ms,
        }
    )
    return store.accounts.add_trade(row)


def _trade(
    store: Store, trade_id: str, coin: str, is_long: bool, leverage: Decimal, seen: Seen
) -> AccountTrade:
    now = store.clock.now_ms()
    is_ours = seen.deployment is not None
    return AccountTrade(
        name=f"hl-{seen.account[2:]}-{trade_id.replace(':', '-')}",
        chain=seen.chain,
        venue=HYPERLIQUID,
        account=seen.account,
        deployment_id=seen.deployment.deployment_id if is_ours and seen.deployment else None,
        origin=Origin.USER,
        state=TradeState.PENDING,
        trade_id=of_account(trade_id, seen),
        pair=seen.markets[coin],
        is_long=is_long,
        leverage=leverage,
        created_ms=now,
        updated_ms=now,
    )


def of_account(ident: str, seen: Seen) -> str:
    """Return what names a trade or change among those of every account: two that trade with each other have one fill's number,
    and two that are read at one moment one time.
    """
    return f"{ident}:{seen.account}"


def _opened(store: Store, change: Change, seen: Seen) -> SettledOrder:
    leverage = seen.leverage.get(change.coin, Decimal(1))
    trade_id = change.order_id.partition("/")[0]
    if change.order_id.count(":") != 2:  # the number of the fill cannot be read: it goes by what it did
        trade_id = f"{change.at_ms}:{change.coin}:{change.order}"
    row = store.accounts.add_trade(_trade(store, trade_id, change.coin, change.is_long, leverage, seen))
    collateral = (change.qty * change.price / leverage).quantize(UNIT)
    opened = {
        "collateral_usdc": collateral,
        "paid_usdc": collateral + change.fee,
        "asset_qty": change.qty,
        "leverage": leverage,
        "best_price": change.price,
    }
    return _order(change, seen, row.name, "", opened=opened)


def _added(trade: AccountTrade, change: Change, seen: Seen) -> SettledOrder:
    more = (change.qty * change.price / trade.leverage).quantize(UNIT)
    before = trade.open_price or change.price
    qty = trade.asset_qty + change.qty
    opened = {
        "collateral_usdc": trade.collateral_usdc + more,
        "paid_usdc": trade.paid_usdc + more + change.fee,
        "asset_qty": qty,
        "open_price": (before * trade.asset_qty + change.price * change.qty) / qty,
    }
    return _order(change, seen, trade.name, "", opened=opened)


def _closed(store: Store, trade: AccountTrade, change: Change, seen: Seen) -> SettledOrder:
    """The close's result is the venue's gain by price, with the funding since the last close, without the fees of both ways."""
    since = max(
        [
            trade.opened_ms or 0,
            *(one.at_ms for one in store.accounts.settlements(trade=trade.name) if one.kind == Did.CLOSED),
        ]
    )
    paid = [
        one.delta.usdc
        for one in seen.funding
        if one.delta.coin == change.coin and since < one.time <= change.at_ms
    ]
    funding = sum(paid, ZERO)
    taken = _taken(change, seen)
    margin = trade.collateral_usdc * change.share
    kind = seen.ours.get(change.cloid.lower()) or seen.ours.get(str(change.order), "")
    whose = {"stop": "stop", "close": "by the agent"}.get(kind, "by the user")
    parts = f"price {change.closed_pnl:f}, fees {-change.fee:f}"
    if change.builder_fee:
        parts += f" (of them {-change.builder_fee:f} to the builder of the user's page)"
    parts += f", funding {funding:f}" + (f", margin taken {-taken:f}" if taken else "")
    return _order(
        change,
        seen,
        trade.name,
        f"{change.forced or whose}: {parts}",
        paid_usdc=margin + change.closed_pnl + funding - taken,
    )


def _taken(change: Change, seen: Seen) -> Decimal:
    """The part of the margin that the venue's backstop kept for itself with this position."""
    if change.forced != Forced.BACKSTOP:
        return ZERO
    for row in seen.ledger:
        if row.delta.get("type") == "liquidation" and abs(row.time - change.at_ms) <= BACKSTOP_MS:
            value = _money(row.delta.get("accountValue"))
            notional = _money(row.delta.get("liquidatedNtlPos"))
            worth = change.qty * change.price
            return (value * min(worth / notional, Decimal(1))).quantize(UNIT) if notional else value
    return ZERO


def _money(text: Any) -> Decimal:
    try:
        return Decimal(str(text))
    except ArithmeticError:
        return ZERO


def _order(change: Change, seen: Seen, trade: str, why: str, **more: Any) -> SettledOrder:
    return SettledOrder(
        chain=seen.chain,
        order_id=of_account(change.order_id, seen),
        trade=trade,
        kind=change.did.value,
        block=change.at_ms,
        block_hash=change.hash or f"0x{change.at_ms:x}",
        transaction=change.hash,
        log_index=0,
        at_ms=change.at_ms,
        why=why,
        price=change.price,
        share=change.share if change.did is Did.CLOSED else None,
        left_qty=abs(change.leaves) if change.did is Did.CLOSED else None,
        fee_usdc=change.fee,
        **more,
    )


def _owed(store: Store, trade: str) -> OwedFor:
    """What is owed of a settlement: a statement, since no agent can move funds here, and nothing of what was held before."""
    by_terms = owed_by(store.accounts)
    row = next((one for one in store.accounts.trades(venue=HYPERLIQUID) if one.name == trade), None)
    is_held_before = row is not None and (row.trade_id or "").startswith(f"{HELD_BEFORE}:")

    def owed(deployment: Deployment, profit: Decimal) -> Owed | None:
        found = None if is_held_before else by_terms(deployment, profit)
        if found is None or found.state == ChargeState.WAIVED:
            return found
        return Owed(
            found.base_usdc, found.usdc, ChargeState.STATEMENT, found.result_usdc, found.high_water_usdc
        )

    return owed


def orders_of_ours(store: Store, trades: Iterable[AccountTrade]) -> dict[str, str]:
    """By client order id and by the venue's number: of which kind each order is that an agent of ours sent for these trades."""
    found: dict[str, str] = {}
    for trade in trades:
        for intent in store.intents_of(ACCOUNTS, trade.name):
            for attempt in store.attempts_of(intent.intent_id):
                if (cloid := attempt.key.get("cloid")) is not None:
                    found[str(cloid).lower()] = intent.kind
            if intent.result is not None:
                found[str(intent.result.get("ref"))] = intent.kind
    return found
