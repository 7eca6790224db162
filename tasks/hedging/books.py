"""What hedged market making earned, by the rows of the ledger: fills that the chain still has, hedges' increments, fees."""

from __future__ import annotations

from pathlib import Path

from analytics.hedging.pnl import Fee, Pnl, Trade, pnl
from analytics.hedging.report import as_csv, as_json, as_markdown
from state.hedging.models import FillRow, HedgeFill
from state.hedging.store import HEDGING
from state.store import Store
from strategy.hedging.rebalancing import USDC


def books_of(store: Store, symbol: str | None = None) -> Pnl:
    """Return the books of all symbols, or of one, computed anew from all their rows. A fill that the chain took back is none;
    what hedged it stays, as shares that the broker opened.
    """
    trades = trades_of(store, symbol)
    of_moves = {USDC} if symbol is None else set()
    symbols = sorted({trade.symbol for trade in trades} | of_moves)
    return pnl(trades, [fee for one in symbols for fee in _fees(store, one)])


def trades_of(store: Store, symbol: str | None = None) -> list[Trade]:
    """Return fills that the chain still has, and increments of hedges, each in order of time."""
    fills, hedges = store.hedging.fills(symbol), store.hedging.hedges(symbol)
    trades = [_of_fill(place, fill) for place, fill in enumerate(fills)]
    return trades + [_of_hedge(hedge) for hedge in hedges]


def key_of_fill(fill: FillRow) -> str:
    """Return the name of a fill: its transaction and the place of its log."""
    return f"{fill.transaction}:{fill.log_index}"


def key_of_hedge(hedge: HedgeFill) -> str:
    """Return the name of an increment: its order, and how much of it was filled then."""
    return f"{hedge.intent_id}:{hedge.cumulative.normalize():f}"


def keys_meant(store: Store, found: Pnl, key: str) -> list[str]:
    """Return the trades that a name means: itself, a transaction's fills, an order's increments by our number or the broker's.

    Empty where nothing is called so.
    """
    wanted = key.strip().lower()
    trades = [row.trade for row in found.rows()]
    orders = {one.intent_id for one in store.hedging.hedges() if one.order_ref.lower() == wanted}
    return [
        trade.key
        for trade in trades
        if trade.key.lower() == wanted
        or (owner := trade.key.rpartition(":")[0]).lower() == wanted
        or owner in orders
    ]


def write_books(found: Pnl, folder: Path) -> list[Path]:
    """Write table, page, sums and picture into a folder; without a trade there is no picture. Takes 1 to 3 s of CPU."""
    from analytics.hedging.charts import save_pnl_chart

    folder.mkdir(parents=True, exist_ok=True)
    pictures = save_pnl_chart(found, folder / "pnl") if found.symbols else []
    texts = {
        "pnl.csv": as_csv(found),
        "pnl.md": as_markdown(found, "pnl.svg" if pictures else None),
        "pnl.json": as_json(found),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [*(folder / name for name in texts), *pictures]


def _of_fill(place: int, fill: FillRow) -> Trade:
    return Trade(
        key=key_of_fill(fill),
        symbol=fill.symbol,
        at_ms=fill.at_ms,
        source="chain",
        venue=fill.chain,
        side="buy" if fill.side == "buy" else "sell",
        shares=fill.shares,
        usdc=fill.usdc,
        sequence=place,
    )


def _of_hedge(hedge: HedgeFill) -> Trade:
    return Trade(
        key=key_of_hedge(hedge),
        symbol=hedge.symbol,
        at_ms=hedge.at_ms,
        source="broker",
        venue=hedge.venue,
        side="buy" if hedge.side == "buy" else "sell",
        shares=hedge.qty,
        usdc=hedge.usd,
        sequence=hedge.id or 0,
    )


def _fees(store: Store, symbol: str) -> list[Fee]:
    return [
        Fee(fee.at_ms, fee.kind, fee.amount_usd, symbol, fee.intent_id or fee.fee_key)
        for fee in store.fees(HEDGING, symbol)
        if fee.amount_usd is not None
    ]
