"""Prices of the tokens that we trade, from Asgard's list of all tokens."""

from __future__ import annotations

from decimal import Decimal

from venues.asgard.client import AsgardClient
from venues.asgard.mints import BY_MINT
from venues.reading import Oddity

SOURCE = "asgard /token-metadata"


async def known_prices(client: AsgardClient) -> dict[str, Decimal]:
    """Return USD per token by our symbols, selected by mint. A token without a price is left out, and so is one whose
    decimals are not what we know: that one is named. Raises UNREAD.
    """
    prices: dict[str, Decimal] = {}
    odd: list[Oddity] = []
    for info in await client.token_metadata():
        known = BY_MINT.get(info.mint)
        if known is None or not info.price or info.price <= 0:
            continue
        if info.decimals == known.decimals:
            prices[known.symbol] = info.price
        else:
            odd.append(Oddity(SOURCE, known.symbol, "decimals", str(info.decimals), lost=True))
    client.oddities.add(SOURCE, odd)
    return prices
