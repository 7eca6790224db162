"""What the desk's page of hedging says: what is open of each symbol, orders, fills, what was earned, by the ledger alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from analytics.hedging.buckets import Bucket
from app.hedging.actions import order_row
from app.pages.reader import Ledger
from app.pages.rows import alert_row, pause_row
from state.hedging.amounts import EXACT, price_of
from state.hedging.models import FillRow
from tasks.admin import ALL
from tasks.hedging.calendar import NO_CALENDAR
from tasks.hedging.orders import BLOCKED, UNCLEAR
from tasks.hedging.passing import OPEN_TOO_LONG, PAUSED, REMOVED, UNREAD_CHAIN
from tasks.hedging.reading import QUARANTINED, REORGANISED
from tasks.hedging.rebalancing.carrying import STUCK, TO_BRIDGE, summary_of, waiting_rebalances
from tasks.hedging.rebalancing.proposing import PROPOSED
from tasks.hedging.reconciling import DIFFERS
from tasks.hedging.running.earned import Earned
from tasks.hedging.running.silence import HEARTBEAT, SILENT, UNWATCHED, last_good_ms, silent_s
from tasks.hedging.running.sole import SHARED
from tasks.hedging.schwab_login import WARNINGS

if TYPE_CHECKING:
    from analytics.hedging.pnl import Pnl

KINDS = frozenset(
    {
        UNWATCHED, NO_CALENDAR, BLOCKED, UNCLEAR, OPEN_TOO_LONG, PAUSED, REMOVED, UNREAD_CHAIN, QUARANTINED, REORGANISED,
        DIFFERS, SILENT, SHARED, PROPOSED, STUCK, TO_BRIDGE, *(kind for _, kind, _ in WARNINGS),
    }
)  # fmt: skip
"""Alerts of hedging; the page of alerts has every other too."""
NEWEST = 25
MOST_SHOWN = 10


@dataclass
class HedgingWork:
    """What is read for the page each time; what was earned is made beside it, a minute apart at least."""

    earned: Earned = field(default_factory=Earned)

    def shown(self, ledger: Ledger) -> dict[str, Any]:
        """Return everything that the page shows. Raises EvenkeelError where the ledger cannot be read."""
        return hedging_page(ledger, self.earned)

    def makers(self, ledger: Ledger) -> list[Callable[[Ledger], object]]:
        """Return what is to be made now, each a call that may take seconds."""
        return [lambda ledger: self.earned.make(ledger.store)] if self.earned.is_due(ledger.store) else []


def hedging_page(ledger: Ledger, earned: Earned) -> dict[str, Any]:
    """Return the page: `symbols`, `orders` and `fills` newest first, `earned` (None before it was made), how passes go."""
    store, settings = ledger.store, ledger.settings.hedging
    found, now_ms = earned.found, store.clock.now_ms()
    alerts = [one for one in store.alerts(open_only=True) if one.kind in KINDS]
    alerts.sort(key=lambda row: (-row.severity.rank, row.at_ms))
    last = next((one for one in store.heartbeats() if one.name == HEARTBEAT), None)
    detail: dict[str, Any] = (last.detail or {}) if last is not None else {}
    good_ms = last_good_ms(store)
    return {
        "at_ms": now_ms,
        "enabled": settings.enabled,
        "broker": settings.broker,
        "market": detail.get("market"),
        "seconds_since_tick": None if good_ms is None else max(0, now_ms - good_ms) / 1000,
        "silent": good_ms is not None and silent_s(store, settings, good_ms) is not None,
        "streams": detail.get("streams") or {},
        "chains": [
            {
                "chain": one.chain,
                "block": one.next_block - 1,
                "behind": max(0, one.newest - one.next_block + 1),
            }
            for one in store.hedging.cursors()
        ],
        "alerts": [alert_row(one) for one in alerts],
        "pauses": [pause_row(one) for one in store.active_pauses() if one.scope in (ALL, settings.broker)],
        "symbols": _symbols(ledger, detail.get("holds") or {}),
        "orders": [
            order_row(one, store.hedging.hedges(intent_id=one.intent_id))
            for one in store.hedging.orders(most=NEWEST)
        ],
        "fills": [_fill(one) for one in store.hedging.newest_fills(NEWEST)],
        "rebalances": _rebalances(ledger),
        "earned": None if found is None else _earned(found),
        "earned_ms": earned.made_ms,
    }


def _rebalances(ledger: Ledger) -> list[dict[str, Any]]:
    """Every one that is open and the newest of the others; `waits_for` says what a person has to do of it."""
    store = ledger.store.hedging
    rows = {one.name: one for one in (*store.rebalances(open_only=True), *store.rebalances(most=MOST_SHOWN))}
    waits = waiting_rebalances(ledger.store)
    newest = sorted(rows.values(), key=lambda one: (one.state.is_over, -one.created_ms))
    return [
        {**summary_of(one), "at_ms": one.created_ms, "waits_for": waits.get(one.name, "")} for one in newest
    ]


def _symbols(ledger: Ledger, holds: dict[str, str]) -> list[dict[str, Any]]:
    """Each symbol that was ever filled or is set, what is open first."""
    store, configured = ledger.store.hedging, ledger.settings.hedging.symbols
    now_ms, blocked = ledger.clock.now_ms(), store.blocked()
    known = {one.symbol: one for one in store.exposures()}
    orders = {one.subject: one for one in store.open_orders()}
    rows = []
    for symbol in {*configured, *known}:
        exposure = known.get(symbol) or store.exposure(symbol)
        oldest = store.oldest_open(symbol) if exposure.open_shares else None
        price = exposure.price_usd
        why = [blocked[symbol].why] if symbol in blocked else []
        why += [holds[symbol]] if symbol in holds and holds[symbol] not in why else []
        why += [] if symbol in configured else ["not in the settings: shown, not hedged"]
        rows.append(
            {
                "symbol": symbol,
                "open_shares": str(exposure.open_shares),
                "open_usd": None if price is None else EXACT.multiply(exposure.open_shares, price),
                "price_usd": None if price is None else str(price),
                "open_since_ms": None if oldest is None else oldest.at_ms,
                "seconds_open": None if oldest is None else max(0, now_ms - oldest.at_ms) / 1000,
                "order": orders[symbol].intent_id if symbol in orders else "",
                "why": "; ".join(why),
            }
        )
    return sorted(rows, key=lambda row: (-abs(row["open_usd"] or Decimal(0)), row["symbol"]))


def _fill(one: FillRow) -> dict[str, Any]:
    return {
        "key": f"{one.transaction}:{one.log_index}",
        "transaction": one.transaction,
        "at_ms": one.at_ms,
        "symbol": one.symbol,
        "side": one.side,
        "shares": str(one.shares),
        "usdc": one.usdc,
        "price_usd": str(price_of(one.usdc, one.shares)) if one.shares else None,
    }


def _earned(found: Pnl) -> dict[str, Any]:
    waits = found.exposure
    return {
        "buckets": {bucket.label: found.earned(bucket) for bucket in Bucket},
        "realised_usd": found.realised_usd,
        "fees_usd": found.fees_usd,
        "traded_usd": found.chain_usdc,
        "median_s": None if waits.median_ms is None else waits.median_ms / 1000,
        "worst_s": None if waits.worst_ms is None else waits.worst_ms / 1000,
        "symbols": [
            {
                "symbol": one.symbol,
                "trades": len(one.rows),
                "traded_usd": one.chain_usdc,
                "realised_usd": one.realised_usd,
                **{bucket.label: one.buckets[bucket] for bucket in Bucket},
            }
            for one in found.symbols.values()
        ],
    }
