"""How exposure moves: in somebody else's transaction, once for each fill, each reversal and each hedge's increment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal

from sqlalchemy import Connection, select, update

from state.database import fetch_one, insert_new, table_of, values_of
from state.hedging.amounts import ZERO, minus, plus, price_of
from state.hedging.models import Exposure, ExposureTable, FillRow, HedgeFill

EXPOSURES = table_of(ExposureTable)
BUY, SELL = "buy", "sell"
LEAST_PRICED_USD = Decimal("0.01")
"""A fill of less does not say what a share is worth: its amounts are what rounding left of them, and anybody can make it."""


def locked(db: Connection, symbol: str, now_ms: int) -> Exposure:
    """Return a symbol's row, nobody else's until the commit; a new one where there is none."""
    mine = select(EXPOSURES).where(EXPOSURES.c.symbol == symbol).with_for_update()
    found = fetch_one(db, Exposure, mine)
    if found is None:
        insert_new(db, EXPOSURES, values_of(Exposure(symbol=symbol, updated_ms=now_ms)))
        found = fetch_one(db, Exposure, mine)
    assert found is not None
    return found


def with_fills(row: Exposure, fills: Iterable[FillRow]) -> Exposure:
    """Return the row after fills on chain; a reversal's figures are below 0 and undo what they were."""
    bought, sold, price, at_ms = row.chain_bought, row.chain_sold, row.price_usd, row.price_ms
    for fill in fills:
        if fill.side == BUY:
            bought = plus(bought, fill.shares)
        else:
            sold = plus(sold, fill.shares)
        says_price = price is None or fill.usdc >= LEAST_PRICED_USD
        if fill.reversal_of is None and fill.at_ms >= at_ms and says_price:
            price, at_ms = price_of(fill.usdc, fill.shares), fill.at_ms
    values = {"chain_bought": bought, "chain_sold": sold, "price_usd": price, "price_ms": at_ms}
    return _summed(row.model_copy(update=values))


def with_hedges(row: Exposure, hedges: Iterable[HedgeFill]) -> Exposure:
    """Return the row after increments of hedges."""
    bought, sold = row.hedge_bought, row.hedge_sold
    for one in hedges:
        if one.side == BUY:
            bought = plus(bought, one.qty)
        else:
            sold = plus(sold, one.qty)
    return _summed(row.model_copy(update={"hedge_bought": bought, "hedge_sold": sold}))


def _summed(row: Exposure) -> Exposure:
    chain = minus(row.chain_bought, row.chain_sold)
    return row.model_copy(update={"open_shares": plus(chain, minus(row.hedge_bought, row.hedge_sold))})


def move_by_fills(db: Connection, fills: Iterable[FillRow], now_ms: int) -> None:
    """Move each symbol's exposure by its fills."""
    by_symbol: dict[str, list[FillRow]] = defaultdict(list)
    for fill in fills:
        by_symbol[fill.symbol].append(fill)
    for symbol in sorted(by_symbol):
        _store(db, with_fills(locked(db, symbol, now_ms), by_symbol[symbol]), now_ms)


def move_by_hedge(db: Connection, hedge: HedgeFill, now_ms: int) -> None:
    """Move a symbol's exposure by an increment of its hedge."""
    _store(db, with_hedges(locked(db, hedge.symbol, now_ms), [hedge]), now_ms)


def _store(db: Connection, row: Exposure, now_ms: int) -> None:
    values = values_of(row) | {"updated_ms": now_ms}
    del values["symbol"]
    db.execute(update(EXPOSURES).where(EXPOSURES.c.symbol == row.symbol).values(**values))


def signed(shares: Decimal, side: str) -> Decimal:
    """Return shares as they count: bought above 0, sold below."""
    return shares if side == BUY else minus(ZERO, shares)
