"""What each item of an attribution is called and means, in words a newcomer follows."""

from __future__ import annotations

from decimal import Decimal

ITEM_NAMES: dict[str, str] = {
    "funding": "funding",
    "lending": "lending interest",
    "borrow": "borrow interest",
    "staking": "staking",
    "price_long": "price, long leg",
    "price_short": "price, short leg",
    "basis": "basis",
    "lst_basis": "LST peg",
    "fees_hyperliquid": "Hyperliquid fees",
    "fees_asgard": "Asgard fees",
    "fees_dex": "DEX fees",
    "slippage_long": "slippage, long leg",
    "slippage_short": "slippage, short leg",
    "liquidation": "liquidation",
    "gas": "gas",
    "tips": "tips",
}

ITEM_MEANINGS: dict[str, str] = {
    "funding": "hourly payments of the perpetual to the short",
    "lending": "interest on the tokens lent out",
    "borrow": "interest on the USDC owed",
    "staking": "more SOL per LST token",
    "price_long": "SOL moved times the SOL exposure held",
    "price_short": "the same move on the short; cancels the long",
    "basis": "perpetual's premium to SOL, sold and bought back",
    "lst_basis": "LST premium or discount to redemption",
    "fees_hyperliquid": "trading fees of the short",
    "fees_asgard": "protocol fees of the margin position",
    "fees_dex": "pool fees of the swaps, where known separately",
    "slippage_long": "swaps against the price at that moment",
    "slippage_short": "fills against the mid when the order was sent",
    "liquidation": "collateral and margin seized beyond their debt",
    "gas": "Solana base and priority fees",
    "tips": "tips to block builders",
}

GROUPS: dict[str, tuple[str, ...]] = {
    "carry": ("funding", "lending", "borrow", "staking"),
    "price, basis and peg": ("price_long", "price_short", "basis", "lst_basis"),
    "costs": (
        "fees_hyperliquid",
        "fees_asgard",
        "fees_dex",
        "slippage_long",
        "slippage_short",
        "liquidation",
        "gas",
        "tips",
    ),
}
"""Every item once: what the position is held for, what the hedge should cancel, and what trading cost."""


def signed_usd(value: Decimal) -> str:
    """Return USD with its sign and two digits; four where two would hide a small amount."""
    digits = 4 if 0 < abs(value) < Decimal("0.005") else 2
    text = f"{value:+,.{digits}f}"
    return text if text.strip("+-0.,") else f"{0:.2f}"
