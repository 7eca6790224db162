"""A window of blocks in one transaction: logs, fills, exposure, hashes, cursor; and the reversal of blocks that are gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from sqlalchemy import ColumnElement, Connection, Table, delete, select, update

from evenkeel.errors import Bug, Retryable
from state.database import fetch, fetch_one, insert_all_new, insert_new, table_of, values_of
from state.hedging.amounts import ZERO, minus
from state.hedging.models import (
    FillRow,
    FillTable,
    HedgeBlock,
    HedgeBlockTable,
    HedgeCursor,
    HedgeCursorTable,
    QuarantineRow,
    QuarantineTable,
    RawLogRow,
    RawLogTable,
    VaultMoveRow,
    VaultMoveTable,
)
from state.hedging.moving import move_by_fills

CURSORS, BLOCKS = table_of(HedgeCursorTable), table_of(HedgeBlockTable)
LOGS, FILLS = table_of(RawLogTable), table_of(FillTable)
MOVES, QUARANTINE = table_of(VaultMoveTable), table_of(QuarantineTable)
KEPT_BLOCKS = 256
"""Hashes that are kept; older blocks with fills have theirs in the fills' rows."""
R = TypeVar("R", RawLogRow, FillRow, VaultMoveRow, QuarantineRow)


@dataclass(frozen=True)
class WindowRows:
    """Blocks `first` to `last` of a contract, wholly read, as rows. `hashes` are of blocks with logs and of `last`.

    `parent_hash` is of the block before `first`, "" where it was not read; `newest` how far the cutoff lets us read.
    """

    chain: str
    contract: str
    first: int
    last: int
    last_hash: str
    at_ms: int
    newest: int
    parent_hash: str = ""
    hashes: Mapping[int, str] = field(default_factory=dict)
    logs: Sequence[RawLogRow] = ()
    fills: Sequence[FillRow] = ()
    moves: Sequence[VaultMoveRow] = ()
    quarantined: Sequence[QuarantineRow] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Booked:
    """What of a window was new."""

    fills: tuple[FillRow, ...] = ()
    quarantined: tuple[QuarantineRow, ...] = ()
    moved_cursor: bool = False


def book_window(db: Connection, window: WindowRows, now_ms: int) -> Booked:
    """Store what is new of a window; of one that was stored before nothing changes. The cursor moves where the window begins
    at it. Raises Bug for a window that leaves a gap, Retryable where its blocks are no continuation of those that were read.
    """
    cursor = cursor_of(db, window.chain, window.contract, lock=True)
    if cursor is not None and window.first > cursor.next_block:
        raise Bug(f"blocks {cursor.next_block} to {window.first - 1} of {window.chain} would be left out")
    _check_hashes(db, window, cursor)
    fills = _new(db, FILLS, window, window.fills)
    quarantined = _new(db, QUARANTINE, window, window.quarantined)
    _new(db, LOGS, window, window.logs)
    _new(db, MOVES, window, window.moves)
    move_by_fills(db, fills, now_ms)
    moves = cursor is None or window.last >= cursor.next_block
    if moves:
        _move_cursor(db, window, cursor, now_ms)
    return Booked(tuple(fills), tuple(quarantined), moves)


def reverse_from(db: Connection, chain: str, contract: str, block: int, now_ms: int) -> list[FillRow]:
    """Take back what was booked of these blocks and on: a row with the opposite figures for each, exposure with it, and the
    cursor set to `block`. Return the fills that were taken back.
    """
    cursor = cursor_of(db, chain, contract, lock=True)
    if cursor is None:
        return []
    fills = _live(db, FillRow, FILLS, chain, contract, block)
    opposite = [
        one.model_copy(
            update={
                "id": None,
                "shares": minus(ZERO, one.shares),
                "usdc": minus(ZERO, one.usdc),
                "recorded_ms": now_ms,
                "is_live": False,
                "reversal_of": one.id,
            }
        )
        for one in fills
    ]
    moves = [
        one.model_copy(update={"id": None, "units": -one.units, "is_live": False, "reversal_of": one.id})
        for one in _live(db, VaultMoveRow, MOVES, chain, contract, block)
    ]
    for table in (FILLS, MOVES, LOGS, QUARANTINE):
        gone = (table.c.chain == chain, table.c.contract == contract, table.c.block >= block, table.c.is_live)
        db.execute(update(table).where(*gone).values(is_live=False))
    for table, rows in ((FILLS, opposite), (MOVES, moves)):
        if rows:
            db.execute(table.insert(), [values_of(one) for one in rows])
    move_by_fills(db, opposite, now_ms)
    mine = (BLOCKS.c.chain == chain, BLOCKS.c.contract == contract)
    db.execute(delete(BLOCKS).where(*mine, BLOCKS.c.number >= block))
    if block < cursor.next_block:
        before = fetch_one(db, HedgeBlock, select(BLOCKS).where(*mine, BLOCKS.c.number == block - 1))
        values = {"next_block": block, "last_hash": before.hash if before else "", "updated_ms": now_ms}
        db.execute(update(CURSORS).where(*_at(chain, contract)).values(**values))
    return fills


def cursor_of(db: Connection, chain: str, contract: str, *, lock: bool = False) -> HedgeCursor | None:
    """Return up to where a contract was read; None before the first window."""
    query = select(CURSORS).where(*_at(chain, contract))
    return fetch_one(db, HedgeCursor, query.with_for_update() if lock else query)


def kept_hashes(db: Connection, chain: str, contract: str, below: int, most: int) -> list[HedgeBlock]:
    """Return hashes of blocks as they were read, newest first, below a block: those that are kept, then those of fills."""
    mine = (BLOCKS.c.chain == chain, BLOCKS.c.contract == contract, BLOCKS.c.number < below)
    found = fetch(db, HedgeBlock, select(BLOCKS).where(*mine).order_by(BLOCKS.c.number.desc()).limit(most))
    oldest = found[-1].number if found else below
    if len(found) < most:
        older = (
            FILLS.c.chain == chain,
            FILLS.c.contract == contract,
            FILLS.c.block < oldest,
            FILLS.c.is_live,
        )
        query = select(FILLS.c.block, FILLS.c.block_hash).where(*older).distinct()
        query = query.order_by(FILLS.c.block.desc()).limit(most - len(found))
        found += [
            HedgeBlock(chain=chain, contract=contract, number=number, hash=its)
            for number, its in db.execute(query).all()
        ]
    return found


def _at(chain: str, contract: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return (CURSORS.c.chain == chain, CURSORS.c.contract == contract)


def _check_hashes(db: Connection, window: WindowRows, cursor: HedgeCursor | None) -> None:
    """Raise Retryable where the window was read of another chain than what is kept."""
    if cursor is None:
        return
    changed = f"{window.chain} has changed below block {window.last}: what was read of it is checked first"
    follows = window.first == cursor.next_block
    if follows and cursor.last_hash and window.parent_hash not in ("", cursor.last_hash):
        raise Retryable(changed)
    span = (BLOCKS.c.number >= window.first, BLOCKS.c.number <= window.last)
    mine = (BLOCKS.c.chain == window.chain, BLOCKS.c.contract == window.contract)
    for one in fetch(db, HedgeBlock, select(BLOCKS).where(*mine, *span)):
        if window.hashes.get(one.number, one.hash) != one.hash:
            raise Retryable(changed)


def _new(db: Connection, table: Table, window: WindowRows, rows: Sequence[R]) -> list[R]:
    """Insert those that are not stored and live; return them. Raises Retryable for one that is stored with another block."""
    if not rows:
        return []
    span = (table.c.block >= window.first, table.c.block <= window.last, table.c.is_live)
    query = select(table.c.transaction, table.c.log_index).where(table.c.chain == window.chain, *span)
    known = {tuple(row) for row in db.execute(query).all()}
    fresh = [one for one in rows if (one.transaction, one.log_index) not in known]
    if fresh and insert_all_new(db, table, [values_of(one) for one in fresh]) != len(fresh):
        raise Retryable(
            f"a log of blocks {window.first} to {window.last} stands in another block of the ledger"
        )
    return fresh


def _live(db: Connection, row_type: type[R], table: Table, chain: str, contract: str, block: int) -> list[R]:
    mine = (table.c.chain == chain, table.c.contract == contract, table.c.block >= block, table.c.is_live)
    return fetch(db, row_type, select(table).where(*mine).order_by(table.c.block, table.c.log_index))


def _move_cursor(db: Connection, window: WindowRows, cursor: HedgeCursor | None, now_ms: int) -> None:
    rows = [
        HedgeBlock(chain=window.chain, contract=window.contract, number=number, hash=its)
        for number, its in window.hashes.items()
    ]
    if rows:
        insert_all_new(db, BLOCKS, [values_of(one) for one in rows])
    skipped: dict[str, int] = {**(cursor.skipped if cursor else {})}
    for why, count in window.skipped.items():
        skipped[why] = skipped.get(why, 0) + count
    moved = HedgeCursor(
        chain=window.chain,
        contract=window.contract,
        next_block=window.last + 1,
        last_hash=window.last_hash,
        newest=window.newest,
        at_ms=window.at_ms,
        skipped=skipped,
        updated_ms=now_ms,
    )
    if cursor is None:
        insert_new(db, CURSORS, values_of(moved))
        return
    db.execute(update(CURSORS).where(*_at(window.chain, window.contract)).values(**values_of(moved)))
    mine = (BLOCKS.c.chain == window.chain, BLOCKS.c.contract == window.contract)
    numbers = select(BLOCKS.c.number).where(*mine).order_by(BLOCKS.c.number.desc())
    oldest = db.execute(numbers.offset(KEPT_BLOCKS - 1).limit(1)).scalar()
    if oldest is not None:
        db.execute(delete(BLOCKS).where(*mine, BLOCKS.c.number < oldest))
