"""Where the meanings of carry's alerts are, in the words of the runbook (docs/runbook.md, which a test compares), and which of
them have a cause that accounts share.
"""

from __future__ import annotations

from pathlib import Path

from evenkeel.legs import LegSide

MEANINGS = Path(__file__).with_name("meanings.json")

OF_ALL_ACCOUNTS = frozenset(
    {
        *(f"{kind}:{leg}" for kind in ("liquidation", "half_distance", "near_exit", "stale") for leg in LegSide),
        "price_deviation", "price_gap", "carry", "funding_turned", "lst_peg", "fee_spike", "outage", "not_understood",
        "lender_liquidity", "market_state", "venue_clock", "disk_space", "swap_route", "breaker tripped", "not watched",
    }
)  # fmt: skip
"""Alerts whose cause lies outside of an account (a price, a venue, a lender, this host): of many accounts they are one
message.
"""
