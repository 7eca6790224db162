"""The account of hedged market making that a person reads and a program takes: Markdown, CSV and JSON of one result."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from analytics.hedging.buckets import Bucket
from analytics.hedging.pnl import Exposure, Pnl, SymbolPnl, bps

CENT = Decimal("0.01")
COLUMNS = (
    "symbol",
    "timestamp",
    "trade_type",
    "trade_id",
    "trade_direction",
    "quantity",
    "price_per_share",
    "amount_usd",
    "realized_pnl",
    "cumulative_pnl",
    "net_position_after",
    "venue",
)
"""The published table's columns, the exact amount and the venue; a fee has its name as type and no quantity."""


def as_dict(found: Pnl) -> dict[str, Any]:
    """Sums of all and of each symbol, money as text with every digit."""
    return {
        "realised_usd": str(found.realised_usd),
        **_buckets({bucket: found.earned(bucket) for bucket in Bucket}),
        "fees_usd": str(found.fees_usd),
        "open_usdc": str(found.open_usdc),
        "chain_usdc": str(found.chain_usdc),
        "spread_bps": _text(bps(found.earned(Bucket.SPREAD), found.chain_usdc)),
        "realised_bps": _text(bps(found.realised_usd, found.chain_usdc)),
        "exposure": _exposure(found.exposure),
        "fees": [
            {"at_ms": fee.at_ms, "what": fee.what, "usd": str(fee.usd), "symbol": fee.symbol, "key": fee.key}
            for fee in found.fees
        ],
        "symbols": [_symbol(one) for one in found.symbols.values()],
    }


def as_json(found: Pnl) -> str:
    """The same as text."""
    return json.dumps(as_dict(found), indent=2) + "\n"


def as_csv(found: Pnl) -> str:
    """Every trade and every fee in order of time."""
    rows: list[tuple[int, tuple[Any, ...]]] = []
    for row in found.rows():
        trade = row.trade
        rows.append(
            (
                trade.at_ms,
                (
                    trade.symbol,
                    _iso(trade.at_ms),
                    "ONCHAIN" if trade.source == "chain" else "OFFCHAIN",
                    trade.key,
                    trade.side.upper(),
                    f"{trade.shares:f}",
                    f"{row.price_usd:f}",
                    f"{trade.usdc:f}",
                    "" if row.realised_usd is None else f"{row.realised_usd:f}",
                    f"{row.cumulative_usd:f}",
                    f"{row.net_shares:f}",
                    trade.venue,
                ),
            )
        )
    for fee in found.fees:
        line = (fee.symbol or "", _iso(fee.at_ms), fee.what.upper(), fee.key, "", "", "", f"{-fee.usd:f}")
        rows.append((fee.at_ms, (*line, f"{-fee.usd:f}", "", "", "")))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(line for _, line in sorted(rows, key=lambda each: each[0]))
    return text.getvalue()


def as_markdown(found: Pnl, picture: str | None = None) -> str:
    """One page: what was earned by what, symbol by symbol, what is open, and how long fills waited for their hedge."""
    spread, volume = found.earned(Bucket.SPREAD), found.chain_usdc
    lines = [
        "# Hedged market making",
        "",
        f"Realised {_usd(found.realised_usd)} before fees of {_usd(found.fees_usd)}, on {_usd(volume)} traded on chain. "
        f"Spread earned {_usd(spread)}{_bps_of(spread, volume)}.",
        "",
        "| symbol | trades | on chain | spread | netting | directional | realised | open shares | cash of what is open |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for one in found.symbols.values():
        earned = " | ".join(_usd(one.buckets[bucket]) for bucket in Bucket)
        lines.append(
            f"| {one.symbol} | {len(one.rows)} | {_usd(one.chain_usdc)} | {earned} | {_usd(one.realised_usd)} "
            f"| {one.open_shares.normalize():f} | {_usd(one.open_usdc)} |"
        )
    earned = " | ".join(_usd(found.earned(bucket)) for bucket in Bucket)
    trades = sum(len(one.rows) for one in found.symbols.values())
    lines += [
        f"| all | {trades} | {_usd(volume)} | {earned} | {_usd(found.realised_usd)} | | {_usd(found.open_usdc)} |",
        "",
        "*Spread*: a fill that a hedge closed within five minutes. *Netting*: a fill that another fill closed. "
        "*Directional*: a hedge that came later, or shares that the broker opened.",
        "",
        _waited(found.exposure),
    ]
    if found.fees:
        lines += ["", "| fee | symbol | USD |", "| --- | --- | --: |"]
        kinds = sorted({(fee.what, fee.symbol or "") for fee in found.fees})
        for what, symbol in kinds:
            paid = sum(
                (fee.usd for fee in found.fees if (fee.what, fee.symbol or "") == (what, symbol)), Decimal(0)
            )
            lines.append(f"| {what} | {symbol} | {_usd(paid)} |")
    if picture:
        lines += ["", f"![What was earned, and how long fills lay open]({picture})"]
    return "\n".join(lines) + "\n"


def _symbol(one: SymbolPnl) -> dict[str, Any]:
    return {
        "symbol": one.symbol,
        "trades": len(one.rows),
        "realised_usd": str(one.realised_usd),
        **_buckets(one.buckets),
        "open_shares": str(one.open_shares),
        "open_usdc": str(one.open_usdc),
        "chain_usdc": str(one.chain_usdc),
        "exposure": _exposure(one.exposure),
    }


def _buckets(earned: dict[Bucket, Decimal]) -> dict[str, str]:
    return {f"{bucket.label}_usd": str(amount) for bucket, amount in earned.items()}


def _exposure(found: Exposure) -> dict[str, Any]:
    return {
        "fills": found.fills,
        "median_ms": found.median_ms,
        "worst_ms": found.worst_ms,
        "worst_key": found.worst_key,
    }


def _waited(found: Exposure) -> str:
    if found.median_ms is None or found.worst_ms is None:
        return "No fill has been hedged."
    return (
        f"From block to hedge fill, over {found.fills} fills: median {found.median_ms / 1000:,.1f} s, "
        f"worst {found.worst_ms / 1000:,.1f} s ({found.worst_key})."
    )


def _bps_of(earned: Decimal, of: Decimal) -> str:
    rate = bps(earned, of)
    return "" if rate is None else f" ({rate} bps of it)"


def _usd(amount: Decimal) -> str:
    shown = amount.quantize(CENT)
    return f"-${-shown:,}" if shown < 0 else f"${abs(shown):,}"


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else str(amount)


def _iso(at_ms: int) -> str:
    return (
        datetime.fromtimestamp(at_ms / 1000, tz=UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
