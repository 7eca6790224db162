"""How far a chain has come, and until when a transaction can land: heights of a node that something else bears out.

Providers answer a height with the slot, some 22 million above it. A limit from such an answer is never passed, and such a
height passes every limit at once. So a limit needs two readings, a height what time allows, and where heights are in doubt
finalized blocks are counted instead.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from evenkeel.errors import UNREAD, EvenkeelError, NotUnderstood
from venues.reading import Oddity
from venues.solana.answers import EpochInfo
from venues.solana.rpc import BLOCKHASH_LIFE_BLOCKS, SolanaRpc

FOREIGN_BLOCKHASH_MARGIN = 32
"""Blocks by which our node may lag behind the one whose blockhash the builder used."""
LIFE_WITH_MARGIN = BLOCKHASH_LIFE_BLOCKS + 2 * FOREIGN_BLOCKHASH_MARGIN
"""Blocks before its limit in which a transaction cannot have been built yet."""
APART_BLOCKS = 150
"""Two readings of one height that differ by more do not mean the same chain."""
MIN_BLOCK_MS = 100
"""A bound, no duration: half of the shortest slot that is planned. No height grows faster."""
LAG_BLOCKS = 1000
"""By which a node may lag behind the one that gave the limit, before the limit itself is in doubt."""
CHAIN_CLOCK_MS = 60_000
"""By which the time of a block may lie beside our clock, the time from the build to the blockhash included."""
SECOND_READING_S = 2.0
"""Wall seconds for a reading that only bears out another: the build in hand grows old meanwhile."""
COUNTED_SLOTS = (1500, 400)
"""How far back finalized blocks are counted."""


@dataclass(frozen=True, slots=True)
class Life:
    """The last height at which a transaction can land, and when its build began; None where that was not stored."""

    lvbh_max: int
    built_at_ms: int | None = None

    def allows(self, height: int, now_ms: int) -> bool:
        """Return whether the finalized height can be this one by now: no further beyond the limit than the chain can have
        come since the build, and no further before it than a transaction lives and a node lags.
        """
        if self.built_at_ms is None:
            return False
        beyond = height - self.lvbh_max
        most = max(0, now_ms - self.built_at_ms) // MIN_BLOCK_MS + BLOCKHASH_LIFE_BLOCKS
        return -(LIFE_WITH_MARGIN + LAG_BLOCKS) <= beyond <= most


@dataclass(frozen=True, slots=True)
class Passed:
    """A transaction can land no more. `words` say why, `beyond` for how many finalized blocks; a node that says what it
    knows must have come to `slot`, and a list of transactions is whole that goes back to `since_slot`.
    """

    words: str
    beyond: int
    slot: int
    since_slot: int


async def last_valid_height(rpc: SolanaRpc) -> int:
    """Return an upper bound for the last height at which the newest blockhash is accepted, from two readings of the node that
    agree; where only one can be had, from that one. Raises UNREAD.
    """
    readings: dict[str, int] = {}
    fault: EvenkeelError | None = None
    for method, read in _LIMITS.items():
        try:
            async with asyncio.timeout(SECOND_READING_S if readings else None):
                found = await read(rpc)
        except UNREAD as error:
            fault = fault or error
            continue
        except TimeoutError:
            continue
        agree = {name for name, other in readings.items() if abs(other - found) <= APART_BLOCKS}
        readings[method] = found
        if agree:
            agree.add(method)
            for name in _LIMITS:
                _note(rpc, name, None if name in agree else readings.get(name))
            return max(readings[name] for name in agree)
    if not readings:
        raise fault or NotUnderstood("solana rpc", f"no height at {rpc.host}")
    if len(readings) == 1:
        return next(iter(readings.values()))
    said = ", ".join(f"{name} {figure}" for name, figure in readings.items())
    raise NotUnderstood("solana rpc", f"last valid heights at {rpc.host} do not agree: {said}")


async def how_far(rpc: SolanaRpc, life: Life, now_ms: int) -> Passed | str:
    """Return the proof that by this node's chain a transaction can land no more, or why there is none yet. Raises UNREAD."""
    readings: list[EpochInfo] = []
    fault: EvenkeelError | None = None
    for method, read in _TIPS.items():
        try:
            tip = await read(rpc)
        except UNREAD as error:
            fault = fault or error
            continue
        if life.built_at_ms is None:  # without a time, two readings must agree
            found = [one for one in readings if abs(one.block_height - tip.block_height) <= APART_BLOCKS]
        else:
            found = [tip] if life.allows(tip.block_height, now_ms) else []
            _note(rpc, method, None if found else tip.block_height)
        if found:
            return _by_height(min(tip, *found, key=lambda one: one.block_height), life)
        readings.append(tip)
    if not readings:
        raise fault or NotUnderstood("solana rpc", f"no height at {rpc.host}")
    said = " and ".join(str(one.block_height) for one in readings)
    why = f"finalized height {said} at {rpc.host} and the limit {life.lvbh_max} do not bear each other out"
    if life.built_at_ms is None:
        return why
    return await _by_count(rpc, life.built_at_ms, now_ms) or f"{why}, and too few blocks were finalized since"


def _by_height(tip: EpochInfo, life: Life) -> Passed | str:
    beyond = tip.block_height - life.lvbh_max
    if beyond <= 0:
        return f"finalized height {tip.block_height} has not passed {life.lvbh_max}"
    # Not one slot in two is without a block for long: so far back a list must go.
    since_slot = tip.absolute_slot - 2 * (beyond + LIFE_WITH_MARGIN)
    words = f"finalized height {tip.block_height} passed {life.lvbh_max}"
    return Passed(words, beyond, tip.absolute_slot, since_slot)


async def _by_count(rpc: SolanaRpc, built_at_ms: int, now_ms: int) -> Passed | None:
    """The proof by the finalized blocks made since the build: more than a blockhash lives."""
    newest = await rpc.get_slot("finalized")
    for back in COUNTED_SLOTS:
        slots = await rpc.get_blocks(newest - back, newest)
        beyond = len(slots) - 1 - LIFE_WITH_MARGIN
        if beyond <= 0:
            continue
        first_ms = await rpc.get_block_time(slots[0]) * 1000
        if first_ms >= built_at_ms + CHAIN_CLOCK_MS:
            since_slot = newest - max(0, now_ms - built_at_ms) // MIN_BLOCK_MS - 2 * LIFE_WITH_MARGIN
            words = f"{len(slots) - 1} blocks were finalized after slot {slots[0]}, which is younger than its build"
            return Passed(words, beyond, newest, since_slot)
    return None


def _note(rpc: SolanaRpc, method: str, height: int | None) -> None:
    """Name a height that is not believed, or say that the last one was."""
    source = f"solana {method} at {rpc.host}"
    odd = [] if height is None else [Oddity(source, "", "block height", str(height), lost=False)]
    rpc.oddities.answered(source, odd)


async def _limit_of_blockhash(rpc: SolanaRpc) -> int:
    return (await rpc.get_latest_blockhash("processed")).last_valid_block_height


async def _limit_of_epoch(rpc: SolanaRpc) -> int:
    return (await rpc.get_epoch_info("processed")).block_height + BLOCKHASH_LIFE_BLOCKS


async def _limit_of_height(rpc: SolanaRpc) -> int:
    return await rpc.get_block_height("processed") + BLOCKHASH_LIFE_BLOCKS


async def _tip_of_epoch(rpc: SolanaRpc) -> EpochInfo:
    return await rpc.get_epoch_info("finalized")


async def _tip_of_blockhash(rpc: SolanaRpc) -> EpochInfo:
    newest = await rpc.get_latest_blockhash("finalized")
    return EpochInfo(0, newest.context_slot, newest.last_valid_block_height - BLOCKHASH_LIFE_BLOCKS)


_LIMITS = {
    "getLatestBlockhash": _limit_of_blockhash,
    "getEpochInfo": _limit_of_epoch,
    "getBlockHeight": _limit_of_height,
}
_TIPS = {"getEpochInfo": _tip_of_epoch, "getLatestBlockhash": _tip_of_blockhash}
"""Slot and height of one bank each: behind one address two calls may be answered by two nodes."""
