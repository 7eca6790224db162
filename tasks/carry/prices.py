"""What may be signed on Solana, from settings, and the price that its swaps are held against."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from decimal import Decimal

from evenkeel.clock import Clock
from evenkeel.errors import EvenkeelError, NotUnderstood
from evenkeel.settings.settings import Settings
from evenkeel.types import VenueName
from state.store import Store
from tasks.carry.mark import UNDERLYING
from venues.asgard.approving import PriceSource, StoredPrice
from venues.asgard.mints import LONG_ASSETS, TOKENS
from venues.hyperliquid.venue import HyperliquidVenue

APART = Decimal("0.1")
"""Share by which two prices of SOL of one moment never differ while both are read right."""
LEDGER_TIMEOUT_S = 1.0
"""Wall seconds that the last resort gives a ledger that may well be gone."""


def sol_price_of(venue: HyperliquidVenue) -> PriceSource:
    """USD per SOL as Hyperliquid's oracle states it, which knows nothing of Asgard's builder. Raises NotUnderstood where
    the mark beside it contradicts it: no swap is judged by one price that is wrong.
    """

    async def price() -> Decimal:
        found = await venue.market.context(UNDERLYING)
        if abs(found.oracle_px / found.mark_px - 1) > APART:
            text = f"metaAndAssetCtxs: an oracle price of {found.oracle_px:.6g} beside a mark of {found.mark_px:.6g}"
            raise NotUnderstood(VenueName.HYPERLIQUID, text)
        return found.oracle_px

    return price


def stored_price_of(store: Store) -> StoredPrice:
    """USD per token as the ledger knew it last: Hyperliquid's oracle price of SOL times the pool's redemption rate."""

    def stored_price(asset: str) -> tuple[int, Decimal] | None:
        sol = store.last_price("hyperliquid", UNDERLYING, "oracle")
        if sol is None:
            return None
        rate = store.last_price("solana", asset, "redemption") if TOKENS[asset].is_lst else None
        return sol.at_ms, sol.price_usd * (
            rate.price_usd if rate else 1
        )  # a staked token is never worth less

    return stored_price


async def prices_without_ledger(settings: Settings, clock: Clock) -> StoredPrice:
    """The same for the last resort: whatever can still be read of the ledger within a moment. Never raises, never waits on."""
    found: dict[str, tuple[int, Decimal]] = {}

    def read(store: Store) -> None:
        known = {asset: stored_price_of(store)(asset) for asset in LONG_ASSETS}
        found.update({asset: price for asset, price in known.items() if price is not None})

    await within_a_moment(settings, clock, read)
    return found.get


async def within_a_moment(settings: Settings, clock: Clock, read: Callable[[Store], None]) -> None:
    """Let `read` take from the ledger what can still be read of it, in a thread that is given `LEDGER_TIMEOUT_S`. Never
    raises.
    """

    def reading() -> None:
        try:
            store = Store.open(settings.database.url, clock)
            try:
                read(store)
            finally:
                store.close()
        except EvenkeelError:
            return

    reader = threading.Thread(
        target=reading, daemon=True
    )  # nobody waits for one that hangs, not even the end of the process
    reader.start()
    await asyncio.to_thread(reader.join, LEDGER_TIMEOUT_S)
