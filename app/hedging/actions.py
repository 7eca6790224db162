"""What the commands of hedged market making do: each answers what it found or did, JSON-able, money as text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from evenkeel.clock import SystemClock, WorldClock
from evenkeel.errors import OperatorError
from evenkeel.settings.settings import Settings
from state.hedging.amounts import price_of, total
from state.hedging.models import FillRow, HedgeFill
from state.models import Intent
from state.store import Store

if TYPE_CHECKING:
    from analytics.hedging.pnl import Pair


def _clock(settings: Settings) -> SystemClock | WorldClock:
    return WorldClock(settings.clock.world_url) if settings.clock.world_url else SystemClock()


@contextmanager
def open_ledger(settings: Settings) -> Iterator[Store]:
    """The ledger of these settings, closed at the end."""
    store = Store.open(settings.database.url, _clock(settings))
    try:
        yield store
    finally:
        store.close()


def status(settings: Settings) -> dict[str, Any]:
    """What is open of each symbol, also of one that the settings name no more; where reading stands; what is in the way."""
    with open_ledger(settings) as store:
        now_ms, hedging = store.clock.now_ms(), store.hedging
        blocked = hedging.blocked()
        configured = settings.hedging.symbols
        known = {one.symbol: one for one in hedging.exposures()}
        rows = []
        for symbol in sorted({*configured, *known}):
            exposure = known.get(symbol) or hedging.exposure(symbol)
            oldest, order = hedging.oldest_open(symbol), hedging.open_order(symbol)
            why = [blocked[symbol].why] if symbol in blocked else []
            why += [] if symbol in configured else ["not in the settings: watched, not hedged"]
            rows.append(
                {
                    "symbol": symbol,
                    "open_shares": str(exposure.open_shares),
                    "price_usd": None if exposure.price_usd is None else str(exposure.price_usd),
                    "open_s": None if oldest is None else (now_ms - oldest.at_ms) // 1000,
                    "order": None if order is None else order.intent_id,
                    "order_state": None if order is None else order.state.value,
                    "why": "; ".join(why),
                }
            )
        cursors = [
            {
                "chain": one.chain,
                "contract": one.contract,
                "next_block": one.next_block,
                "behind_blocks": max(0, one.newest - one.next_block + 1),
                "read_s": (now_ms - one.updated_ms) // 1000,
                "skipped": one.skipped,
            }
            for one in hedging.cursors()
        ]
        quarantined = [
            f"{one.transaction}:{one.log_index} of {one.symbol or 'no known symbol'}: {one.why}"
            for one in hedging.quarantine()
        ]
        alerts = [
            {"kind": one.kind, "subject": one.subject, "text": one.text}
            for one in store.open_alerts_of(*(str(row["symbol"]) for row in rows), "hedging")
        ]
    return {
        "enabled": settings.hedging.enabled,
        "broker": settings.hedging.broker,
        "symbols": rows,
        "cursors": cursors,
        "quarantined": quarantined,
        "alerts": alerts,
    }


def fills(settings: Settings, symbol: str, limit: int) -> dict[str, Any]:
    """The newest fills on chain, in order."""
    with open_ledger(settings) as store:
        found = store.hedging.fills(_known(store, settings, symbol))
    return {"fills": [fill_row(one) for one in found[-limit:]], "all": len(found)}


def orders(settings: Settings, symbol: str, limit: int) -> dict[str, Any]:
    """The newest hedges, in order, with what is filled of each."""
    with open_ledger(settings) as store:
        found = store.hedging.orders(_known(store, settings, symbol), limit)
        return {
            "orders": [
                order_row(one, store.hedging.hedges(intent_id=one.intent_id)) for one in reversed(found)
            ]
        }


def trace(settings: Settings, key: str) -> dict[str, Any]:
    """The pairs of a hedge or a fill. Raises OperatorError where nothing is called so."""
    from tasks.hedging.books import books_of, keys_meant

    with open_ledger(settings) as store:
        found = books_of(store)
        meant = keys_meant(store, found, key)
    if not meant:
        raise OperatorError(
            f"no fill and no hedge is called {key}: see `evenkeel hedging fills` and `evenkeel hedging orders`"
        )
    pairs = {(pair.opener.key, pair.closer.key): pair for one in meant for pair in found.pairs_of(one)}
    paired = total(pair.shares for pair in pairs.values())
    return {
        "key": key,
        "trades": meant,
        "paired_shares": str(paired),
        "pairs": [_pair(one) for one in pairs.values()],
    }


def pnl(settings: Settings, out_dir: Path | None) -> dict[str, Any]:
    """Sums of the books, and where table, page and picture were written."""
    from analytics.hedging.report import as_dict
    from tasks.hedging.books import books_of, write_books

    with open_ledger(settings) as store:
        found = books_of(store)
    files = [str(path) for path in write_books(found, out_dir)] if out_dir is not None else []
    return as_dict(found) | {"files": files}


async def run(settings: Settings, *, once: bool) -> dict[str, Any]:
    """Make passes until it is ended; or one. Raises LostRace where another process hedges in this account."""
    from app.hedging.serving import hedge_until_ended

    return (await hedge_until_ended(settings, once=once)).model_dump(mode="json")


async def backfill(settings: Settings, first: int | None) -> dict[str, Any]:
    """Read the chain up to the cutoff, and order nothing."""
    from flows.hedging.backfill import backfill_chain
    from flows.hedging.opened import open_hedging

    async with open_hedging(settings) as at:
        return (await backfill_chain(at, first)).model_dump(mode="json")


async def process_tx(settings: Settings, transaction: str) -> dict[str, Any]:
    """Account for one transaction, and show its fills. Raises OperatorError where it is none, or cannot be read yet."""
    from flows.hedging.backfill import read_transaction
    from flows.hedging.opened import open_hedging

    name = transaction.strip().lower()
    if len(name) != 66 or not name.startswith("0x") or set(name[2:]) - set("0123456789abcdef"):
        raise OperatorError(f"{transaction!r} is no transaction: give 0x and 64 hex digits")
    async with open_hedging(settings) as at:
        found = await read_transaction(at, name)
        rows = at.desk.store.hedging.fills(transaction=name)
    return {"fills": [fill_row(one) for one in rows], "new": found.fills, "block": found.block}


async def order_by_hand(
    settings: Settings, symbol: str, side: Literal["buy", "sell"], qty: Decimal
) -> dict[str, Any]:
    """Send one order, and show how it stands."""
    from flows.hedging.opened import open_hedging
    from tasks.hedging import by_hand
    from tasks.hedging.running.sole import sole

    async with open_hedging(settings) as at:
        what = f"the hedging in {at.account} at {at.broker.name}: end it first, so that one process orders"
        async with sole(at, what) as fence:
            intent = await by_hand.order_by_hand(at, symbol, side, qty, fence)
            return order_row(intent, at.desk.store.hedging.hedges(intent_id=intent.intent_id))


async def candidates(settings: Settings, hedge: str) -> dict[str, Any]:
    """The orders at the broker that may be an open hedge. Raises OperatorError where there is nothing to choose."""
    from flows.hedging.opened import open_hedging
    from tasks.hedging.choosing import candidates_of

    async with open_hedging(settings) as at:
        found = await candidates_of(at, hedge)
    rows = [one.model_dump(mode="json") for one in found.orders]
    return {"hedge": hedge, "orders": rows, "is_over": found.is_over}


async def choose(settings: Settings, hedge: str, order: str, reason: str) -> dict[str, Any]:
    """Take one of them for the hedge, or none, and show how it stands then."""
    from flows.hedging.opened import open_hedging
    from tasks.hedging.choosing import choose_order

    async with open_hedging(settings) as at:
        what = f"the hedging in {at.account} at {at.broker.name}: end it first, so that one process decides"
        async with at.desk.leases.exclusive(at.lease, what) as fence:
            intent = await choose_order(at, hedge, order, reason, fence)
            return order_row(intent, at.desk.store.hedging.hedges(intent_id=hedge))


async def settle(
    settings: Settings, symbol: str, reason: str, usd: Decimal | None, *, yes: bool
) -> dict[str, Any]:
    """Book what the broker has more or less of a symbol than the ledger says, and show what is open then."""
    from flows.hedging.opened import open_hedging
    from tasks.hedging import settling

    async with open_hedging(settings) as at:
        what = f"the hedging in {at.account} at {at.broker.name}: end it first, so that one process decides"
        async with at.desk.leases.exclusive(at.lease, what) as fence:
            found = await settling.settle(at, symbol, reason, usd, fence, yes=yes)
    return found.model_dump(mode="json")


def fill_row(one: FillRow) -> dict[str, Any]:
    """A fill as commands show it."""
    return {
        "key": f"{one.transaction}:{one.log_index}",
        "at": _iso(one.at_ms),
        "symbol": one.symbol,
        "side": one.side,
        "shares": str(one.shares),
        "usdc": str(one.usdc),
        "kind": one.kind,
        "block": one.block,
        "transaction": one.transaction,
    }


def order_row(one: Intent, increments: list[HedgeFill]) -> dict[str, Any]:
    """A hedge as commands show it."""
    filled, usd = total(each.qty for each in increments), total(each.usd for each in increments)
    return {
        "at": _iso(one.created_ms),
        "order": one.intent_id,
        "symbol": one.subject,
        "side": str(one.order.get("side", "")),
        "shares": str(one.order.get("qty", "")),
        "filled": str(filled),
        "price_usd": str(price_of(usd, filled)) if filled else None,
        "state": one.state.value,
        "broker": one.venue,
        "ref": increments[-1].order_ref if increments else "",
        "why": one.failure or "",
    }


def _pair(one: Pair) -> dict[str, Any]:
    return {
        "opener": one.opener.key,
        "closer": one.closer.key,
        "symbol": one.opener.symbol,
        "shares": str(one.shares),
        "realised_usd": str(one.realised_usd),
        "what": one.bucket.label,
        "open_s": str(Decimal(one.open_ms) / 1000),
    }


def _known(store: Store, settings: Settings, symbol: str) -> str | None:
    """The symbol that is meant, None for all. Raises OperatorError for one that neither settings nor ledger have."""
    if not symbol:
        return None
    known = sorted({*settings.hedging.symbols, *(one.symbol for one in store.hedging.exposures())})
    if symbol not in known:
        raise OperatorError(f"symbol {symbol!r} is not among {', '.join(known) or 'any: no symbol is set'}")
    return symbol


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
