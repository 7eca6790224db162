"""What an opening would have to bid on Solana now: asked for the accounts that it writes, never for the chain alone, which
is nearly free in every block.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable

from venues.asgard.building import AsgardBuild, locks_of
from venues.asgard.legs import usdc_banks
from venues.asgard.venue import AsgardVenue
from venues.solana.fees import quote

OPENING_UNITS = 600_000
"""Compute units that a leveraged opening plausibly asks for; the fee is charged on the limit, used or not."""

NO_CAP = 10**15
"""Lamports: more than any limit can be set to."""


async def fee_for(long: AsgardVenue, accounts: Iterable[str], units: int = OPENING_UNITS) -> int:
    """Return the lamports of a transaction that writes to our wallet and these accounts, however dear: it is judged by the
    limits, and Asgard chooses what is bid. Raises UNREAD.
    """
    wanted = [long.wallet, *sorted(set(accounts) - {long.wallet})]
    return (await quote(long.rpc, wanted, units, NO_CAP)).fee_lamports


async def least_fee(long: AsgardVenue, disabled_protocols: Collection[int]) -> int:
    """Return the same for an opening with the lender whose USDC is cheapest to write to: every opening borrows it. Raises
    UNREAD.
    """
    banks = usdc_banks(await long.known_markets())
    asked = [[bank] for protocol, bank in sorted(banks.items()) if protocol not in disabled_protocols]
    return min(await asyncio.gather(*(fee_for(long, one) for one in asked or [[]])))


async def fee_of(long: AsgardVenue, build: AsgardBuild) -> int:
    """Return the same for the dearest transaction of a build, by all that it writes and its own unit limit. Raises UNREAD."""
    locks = locks_of(build)
    return max(
        await asyncio.gather(*(fee_for(long, one.accounts, one.units or OPENING_UNITS) for one in locks))
    )
