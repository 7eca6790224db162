"""The chain into the ledger: window after window up to the cutoff, each in one transaction; what is gone is reversed."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from evenkeel.errors import OperatorError
from state.hedging.models import FillRow, HedgeCursor, QuarantineRow, RawLogRow, VaultMoveRow
from state.hedging.windows import Booked, WindowRows
from state.models import Fence
from state.watch_models import Severity
from tasks.hedging.desk import HedgingDesk
from venues.raindex.types import ChainFill, Quarantined, RawLog, VaultMove, Window

REORGANISED = "chain reorganised"
"""The alert of fills that the chain took back after they were hedged or were to be."""
QUARANTINED = "fill quarantined"
"""The alert of a log of our own order that cannot be counted."""
MOST_REVERSALS = 3
"""In one reading: a chain that changes more often is read in the next pass."""


@dataclass
class Progress:
    """What one reading of the chain came to. `behind` blocks are readable and not read yet."""

    windows: int = 0
    fills: int = 0
    reversed: int = 0
    behind: int = 0


async def read_chain(at: HedgingDesk, fence: Fence | None, *, most_windows: int | None = None) -> Progress:
    """Read on from the cursor. Raises UNREAD where the chain cannot be read; what was stored until then stays."""
    progress, reversals = Progress(), 0
    most = at.settings.chain.windows_per_pass if most_windows is None else most_windows
    while progress.windows < most:
        cursor = at.desk.store.hedging.cursor(at.chain, at.contract)
        first = cursor.next_block if cursor else at.settings.chain.start_block
        window = await at.reader.window(first, at.settings.chain.window_blocks)
        if cursor is not None and await _has_changed(at, cursor, window):
            progress.reversed += await take_back_changed(at, cursor, fence)
            reversals += 1
            if reversals >= MOST_REVERSALS:
                break
            continue
        if window is None:
            break
        booked = book(at, window, fence)
        progress.windows += 1
        progress.fills += len(booked.fills)
        progress.behind = max(0, window.newest - window.last)
        if not progress.behind:
            break
    return progress


def book(at: HedgingDesk, window: Window, fence: Fence | None) -> Booked:
    """Store a window, and say what of it could not be counted."""
    booked = at.desk.store.hedging.book_window(rows_of(at, window), fence)
    for one in booked.quarantined:
        at.desk.store.alert(
            QUARANTINED,
            Severity.CRITICAL,
            f"log {one.log_index} of {one.transaction} ({one.symbol or 'no known symbol'}) is not counted: {one.why}; "
            "compare the vaults with the ledger",
            subject=one.symbol or at.chain,
            news=True,
            anew=True,
        )
    return booked


async def read_blocks(at: HedgingDesk, first: int, last: int, fence: Fence | None) -> Progress:
    """Read blocks again that were read before, or up to the cursor: what is stored already changes nothing. Raises UNREAD,
    OperatorError for blocks beyond what was read.
    """
    cursor = at.desk.store.hedging.cursor(at.chain, at.contract)
    if cursor is not None and first > cursor.next_block:
        raise OperatorError(
            f"blocks from {cursor.next_block} on are not read yet: begin there, not at {first}"
        )
    progress = Progress()
    while first <= last:
        window = await at.reader.window(first, min(at.settings.chain.window_blocks, last - first + 1))
        if window is None:
            progress.behind = last - first + 1
            break
        progress.fills += len(book(at, window, fence).fills)
        progress.windows += 1
        first = window.last + 1
    return progress


async def _has_changed(at: HedgingDesk, cursor: HedgeCursor, window: Window | None) -> bool:
    """Whether the block before the cursor is another one than what was read. A window says it with its first block's parent."""
    if not cursor.last_hash:
        return False
    if window is not None and window.first == cursor.next_block and window.parent_hash:
        return window.parent_hash != cursor.last_hash
    return await at.reader.hash_of(cursor.next_block - 1) != cursor.last_hash


async def take_back_changed(at: HedgingDesk, cursor: HedgeCursor, fence: Fence | None) -> int:
    """Find the newest block that is still the same, reverse what was booked after it, and read on from there."""
    hedging, below = at.desk.store.hedging, cursor.next_block
    from_block = at.settings.chain.start_block
    while kept := hedging.kept_hashes(at.chain, at.contract, below=below):
        same = None
        for one in kept:
            if await at.reader.hash_of(one.number) == one.hash:
                same = one.number
                break
        if same is not None:
            from_block = same + 1
            break
        below = kept[-1].number
    gone = hedging.reverse_from(at.chain, at.contract, from_block, fence)
    if gone:
        symbols = ", ".join(sorted({one.symbol for one in gone}))
        at.desk.store.alert(
            REORGANISED,
            Severity.WARNING,
            f"{at.chain} changed from block {from_block} on: {len(gone)} fills of {symbols} are reversed and read again; "
            "what was hedged of fills that stay away is hedged back as ordinary exposure",
            subject=at.chain,
            news=True,
            anew=True,
        )
    return len(gone)


def rows_of(at: HedgingDesk, window: Window) -> WindowRows:
    """Return a window as the ledger takes it."""
    chain, contract, now = at.chain, at.contract, at.desk.clock.now_ms()

    def placed(one: RawLog | ChainFill | VaultMove | Quarantined, log_index: int) -> dict[str, Any]:
        where = {"chain": chain, "contract": contract, "transaction": one.transaction}
        return where | {"log_index": log_index, "block": one.block}

    return WindowRows(
        chain=chain,
        contract=contract,
        first=window.first,
        last=window.last,
        last_hash=window.last_hash,
        parent_hash=window.parent_hash,
        at_ms=window.at_ms,
        newest=window.newest,
        hashes=window.hashes,
        logs=[
            RawLogRow(
                **placed(one, one.index),
                block_hash=one.block_hash,
                topics=list(one.topics),
                data=one.data.hex(),
            )
            for one in window.logs
        ],
        fills=[
            FillRow(
                **placed(one, one.log_index),
                block_hash=one.block_hash,
                at_ms=one.at_ms,
                recorded_ms=now,
                kind=one.kind,
                symbol=one.symbol,
                side=one.side,
                shares=one.shares,
                usdc=one.usdc,
                token=one.token,
                ratio=one.ratio,
            )
            for one in window.fills
        ],
        moves=[
            VaultMoveRow(
                **placed(one, one.log_index),
                block_hash=one.block_hash,
                at_ms=one.at_ms,
                kind=one.kind,
                token=one.token,
                vault_id=one.vault_id,
                units=Decimal(one.units),
            )
            for one in window.moves
        ],
        quarantined=[
            QuarantineRow(
                **placed(one, one.log_index),
                why=one.why,
                symbol=one.symbol,
                at_ms=now,
            )
            for one in window.quarantined
        ],
        skipped=dict(window.skipped),
    )
