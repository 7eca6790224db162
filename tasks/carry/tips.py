"""The tip of a Solana transaction, cut to what the wallet can pay: a tip that cannot be paid keeps the close from landing."""

from __future__ import annotations

import asyncio

from evenkeel.errors import UNREAD
from venues.asgard.venue import AsgardVenue

RENT_EXEMPT_LAMPORTS = 890_880
"""What an account without data must keep (it is being lowered: an older, higher figure is safe)."""
PLAIN_CLOSE_LAMPORTS = 150_000
"""Left for the fees of a close without a tip: twice and more what one costs on an ordinary day."""
LEAST_TIP_LAMPORTS = 1_000
"""Less than this no block engine looks at (https://docs.jito.wtf/lowlatencytxnsend/)."""
TIMEOUT_S = 2.0
"""Wall seconds for the question: a close does not wait for it."""


async def affordable_tip(long: AsgardVenue, wanted_lamports: int) -> int:
    """Return the tip, or as much of it as the wallet holds beyond rent and fees. Where that cannot be read: the tip."""
    if wanted_lamports <= 0:
        return 0
    try:
        async with asyncio.timeout(TIMEOUT_S):
            held = await long.rpc.get_balance(long.wallet)
    except (*UNREAD, TimeoutError):
        return wanted_lamports
    spare = held - RENT_EXEMPT_LAMPORTS - PLAIN_CLOSE_LAMPORTS
    return 0 if spare < LEAST_TIP_LAMPORTS else min(wanted_lamports, spare)
