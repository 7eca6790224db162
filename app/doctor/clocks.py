"""Whether our clock agrees with the venues': orders expire, nonces age and funding settles by theirs."""

from __future__ import annotations

from app.doctor.frame import Installation, Verdict, check, fail, ok, warn
from tasks.carry.mark import UNDERLYING

GROUP = "clock"
WARN_MS = 1_000
FAIL_MS = 5_000
BLOCK_BEHIND_MS = 30_000
"""A confirmed block is stamped in whole seconds, some seconds in the past."""


@check(GROUP, "against Hyperliquid")
async def hyperliquid(installation: Installation) -> Verdict:
    """The moment of an order book must lie between our asking and its arrival."""
    clock, client = installation.clock, installation.venues.short.client
    await clock.refresh()
    asked_ms = clock.now_ms()
    book = await client.l2_book(UNDERLYING)
    await clock.refresh()
    skew_ms = max(asked_ms - book.time, 0) or min(clock.now_ms() - book.time, 0)
    detail = f"our clock is {abs(skew_ms)} ms {'ahead of' if skew_ms > 0 else 'behind'} Hyperliquid's"
    advice = (
        "start time synchronisation on this host (for example `timedatectl set-ntp true`): orders are signed with an "
        "expiry by our clock"
    )
    if abs(skew_ms) > FAIL_MS:
        return fail(detail, advice)
    return warn(detail, advice) if abs(skew_ms) > WARN_MS else ok(detail)


@check(GROUP, "against Solana")
async def solana(installation: Installation) -> Verdict:
    """The stamp of the newest confirmed block. A halted chain looks like a clock that is ahead: the slots show which."""
    clock, rpc = installation.clock, installation.venues.long.rpc
    slot = await rpc.get_slot("confirmed")
    stamp = await rpc.read("getBlockTime", [slot])
    if stamp is None:
        return warn(f"slot {slot} has no time stamp", "run again in a minute")
    await clock.refresh()
    behind_ms = clock.now_ms() - int(stamp) * 1000
    if behind_ms < -FAIL_MS:
        return fail(
            f"our clock is {-behind_ms / 1000:.0f} s behind the newest block",
            "start time synchronisation on this host",
        )
    if behind_ms > BLOCK_BEHIND_MS:
        return fail(
            f"the newest confirmed block is {behind_ms / 1000:.0f} s old",
            "if slots do not advance (see below) the chain or this node stands still: do not enter; else set this host's clock",
        )
    return ok(f"the newest confirmed block is {behind_ms / 1000:.1f} s old")
