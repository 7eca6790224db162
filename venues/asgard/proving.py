"""Whether a close would be taken now: everything is done but signing, and what else a transaction needs is asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from pydantic import ValidationError

from evenkeel.clock import Clock
from evenkeel.errors import NOT_NOW, OperatorError, VenueRefused
from evenkeel.legs import WayOut
from evenkeel.types import Built
from venues.solana.rpc import SolanaRpc
from venues.solana.rules.simulation import WOULD_FAIL

STANDSTILL_READINGS = 5
"""Of the height, a second apart: a chain that has not grown over them takes no transaction."""


async def way_out(build: Callable[[], Awaitable[Built]], rpc: SolanaRpc, wallet: str, clock: Clock) -> WayOut:
    """Build and judge, then check that the wallet holds the fees, that no program refused where our node has played it
    through, and that the chain makes blocks.
    """
    try:
        height, read_ms = await rpc.get_block_height("processed"), clock.now_ms()
        note = (await build()).note
        fees = int(note["fee_lamports"]) + int(note["tip_lamports"])
        lamports = await _lamports(rpc, wallet, fees)
        await clock.sleep(max(1.0 - (clock.now_ms() - read_ms) / 1000, 0.0))
        if not await _grows(rpc, clock, height):
            return WayOut(provable=False, reason="Solana makes no blocks", answered=False)
    except NOT_NOW as error:
        return WayOut(provable=False, reason=str(error), answered=False)
    except (VenueRefused, OperatorError, ValidationError) as error:
        return WayOut(provable=False, reason=str(error).partition("\n")[0])
    if lamports < fees:
        what = f"the wallet holds {lamports} lamports, the fees are {fees}: send SOL to {wallet}"
        return WayOut(provable=False, reason=what)
    played = str(note["checks"].get("simulation", ""))
    if played.startswith(WOULD_FAIL):
        return WayOut(provable=False, reason=f"in simulation: {played}")
    return WayOut(provable=True)


async def _grows(rpc: SolanaRpc, clock: Clock, height: int) -> bool:
    for _ in range(STANDSTILL_READINGS):
        if await rpc.get_block_height("processed") > height:
            return True
        await clock.sleep(1.0)
    return False


async def _lamports(rpc: SolanaRpc, wallet: str, fees: int) -> int:
    """What the wallet holds; enough where that one figure cannot be read now."""
    try:
        return await rpc.get_balance(wallet)
    except NOT_NOW:
        return fees
