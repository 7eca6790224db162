"""Prices of the tokens that we trade, from Asgard's list of all tokens."""

from __future__ import annotations

from decimal import Decimal

from venues.asgard.client import AsgardClient
from venues.asgard.mints import BY_MINT
from venues.reading import Oddity

SOURCE = "asgard /token-metadata"


async def known_prices(client: AsgardClient) -> dict[str, Decimal]:
    """Return USD per token by our symbols, selected by mint. A token without a price is left out, and so is one whose
    decimals are not what we know, or that is listed with two prices: these are named. Raises UNREAD.
    """
    prices: dict[str, Decimal] = {}
    odd: list[Oddity] = []
    twice: set[str] = set()
    for info in await client.token_metadata():
        known = BY_MINT.get(info.mint)
        if known is None or not info.price or info.price <= 0:
            continue
        if info.decimals != known.decimals:
            odd.append(Oddity(SOURCE, known.symbol, "decimals", str(info.decimals), lost=True))
        elif prices.setdefault(known.symbol, info.price) != info.price:
            odd.append(Oddity(SOURCE, known.symbol, "price", "there twice, and differs", lost=True))
            twice.add(known.symbol)
    client.oddities.add(SOURCE, odd)
    return {symbol: price for symbol, price in prices.items() if symbol not in twice}
