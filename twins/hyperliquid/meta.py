"""The listed perpetuals with their margin tiers: the venue's asset numbering, where SOL is 5 behind a
delisted slot.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from twins.hyperliquid.numbers import num


@dataclass(frozen=True)
class Asset:
    """One slot of the universe. `reference_px` is the standing oracle price of the coins that the
    world does not move.
    """

    index: int
    name: str
    sz_decimals: int
    max_leverage: int
    margin_table_id: int
    impact_usd: int
    reference_px: Decimal
    delisted: bool = False


UNIVERSE = (
    Asset(0, "BTC", 5, 40, 56, 20_000, Decimal("110000")),
    Asset(1, "ETH", 4, 25, 55, 20_000, Decimal("4300")),
    Asset(2, "ATOM", 2, 5, 5, 6_000, Decimal("4.5")),
    Asset(3, "MATIC", 1, 20, 20, 6_000, Decimal("0.37"), delisted=True),
    Asset(4, "DYDX", 1, 5, 5, 6_000, Decimal("0.6")),
    Asset(5, "SOL", 2, 20, 54, 6_000, Decimal("0")),
)
BY_NAME = {asset.name: asset for asset in UNIVERSE}

MARGIN_TABLES: dict[int, tuple[str, tuple[tuple[Decimal, int], ...]]] = {
    54: ("tiered 20x (2)", ((Decimal(0), 20), (Decimal(70_000_000), 10))),
    55: ("tiered 25x", ((Decimal(0), 25), (Decimal(100_000_000), 15))),
    56: ("tiered 40x", ((Decimal(0), 40), (Decimal(150_000_000), 20))),
}


def tiers(asset: Asset) -> tuple[tuple[Decimal, int], ...]:
    """Return (lower bound of notional in USD, max leverage) per tier. A table id below 50 is one tier with that
    leverage.
    """
    if asset.margin_table_id in MARGIN_TABLES:
        return MARGIN_TABLES[asset.margin_table_id][1]
    return ((Decimal(0), asset.margin_table_id),)


def maintenance(asset: Asset, notional_usd: Decimal) -> Decimal:
    """Return the maintenance margin in USD: notional x 1/(2 x max leverage of the tier) - deduction (docs:
    trading/margin-tiers).
    """
    rate = deduction = Decimal(0)
    for lower, leverage in tiers(asset):
        tier_rate = Decimal(1) / (2 * leverage)
        if notional_usd <= lower and lower > 0:
            break
        deduction += lower * (tier_rate - rate)
        rate = tier_rate
    return notional_usd * rate - deduction


def maintenance_rate(asset: Asset, notional_usd: Decimal) -> Decimal:
    found = tiers(asset)[0][1]
    for lower, leverage in tiers(asset):
        if notional_usd > lower:
            found = leverage
    return Decimal(1) / (2 * found)


def max_leverage_at(asset: Asset, notional_usd: Decimal) -> int:
    return int(1 / (2 * maintenance_rate(asset, notional_usd)))


def meta() -> dict[str, Any]:
    """Return the body of `{"type": "meta"}`."""
    universe = []
    for asset in UNIVERSE:
        row: dict[str, Any] = {
            "szDecimals": asset.sz_decimals,
            "name": asset.name,
            "maxLeverage": asset.max_leverage,
            "marginTableId": asset.margin_table_id,
        }
        if asset.delisted:
            row["isDelisted"] = True
        universe.append(row)
    tables: list[list[Any]] = []
    for table_id, (description, rows) in MARGIN_TABLES.items():
        margin_tiers = [{"lowerBound": num(lower), "maxLeverage": leverage} for lower, leverage in rows]
        tables.append([table_id, {"description": description, "marginTiers": margin_tiers}])
    return {"universe": universe, "marginTables": tables, "collateralToken": 0}


def spot_meta() -> dict[str, Any]:
    """Return the body of `{"type": "spotMeta"}`: the quote token, and no spot market (the twin trades perpetuals only)."""
    usdc = {
        "name": "USDC",
        "szDecimals": 8,
        "weiDecimals": 8,
        "index": 0,
        "tokenId": USDC_TOKEN_ID,
        "isCanonical": True,
        "evmContract": None,
        "fullName": None,
        "deployerTradingFeeShare": "0.0",
    }
    return {"universe": [], "tokens": [usdc]}


USDC_TOKEN_ID = "0x6d1e7cde53ba9467b783cb7c530ce054"
