"""Read the chain from where reading stopped, or a transaction's blocks again, and order nothing."""

from __future__ import annotations

from prefect import flow
from pydantic import Field

from evenkeel.errors import OperatorError
from evenkeel.types import Frozen
from flows.forms import Form
from flows.hedging.failing import READ, said_if_it_fails
from flows.hedging.opened import open_hedging
from flows.running import desk_for_run
from tasks.hedging.desk import HedgingDesk
from tasks.hedging.reading import read_blocks, read_chain


class BackfillRequest(Form):
    """Which blocks to read."""

    first: int | None = Field(
        default=None, ge=0, description="first block to read again; empty: where reading stopped"
    )


class Backfilled(Frozen):
    """Up to which block all was read, how many fills were new, and how many were taken back with their blocks."""

    block: int
    fills: int
    taken_back: int
    skipped: dict[str, int]


async def backfill_chain(at: HedgingDesk, first: int | None = None) -> Backfilled:
    """Read every block up to the cutoff; of what was stored before nothing changes. Raises UNREAD, OperatorError for a first
    block beyond what was read, LostRace while another process hedges in this account, which reads by itself.
    """
    fills = taken_back = 0
    async with at.desk.leases.exclusive(
        at.lease, f"the hedging in {at.account}, which reads the chain itself,"
    ) as fence:
        await at.desk.clock.refresh()
        cursor = at.desk.store.hedging.cursor(at.chain, at.contract)
        if first is not None:
            if cursor is None:
                raise OperatorError(
                    f"nothing is read yet: reading begins at hedging.chain.start_block ({at.settings.chain.start_block})"
                )
            fills += (await read_blocks(at, first, cursor.next_block - 1, fence)).fills
        while True:
            progress = await read_chain(at, fence)
            fills, taken_back = fills + progress.fills, taken_back + progress.reversed
            if not progress.behind and not progress.reversed:
                break
    cursor = at.desk.store.hedging.cursor(at.chain, at.contract)
    skipped = {} if cursor is None else {why: int(count) for why, count in cursor.skipped.items()}
    return Backfilled(
        block=cursor.next_block - 1 if cursor else at.settings.chain.start_block - 1,
        fills=fills,
        taken_back=taken_back,
        skipped=skipped,
    )


async def read_transaction(at: HedgingDesk, transaction: str) -> Backfilled:
    """Account for one transaction: everything up to the cutoff is read, and its own block once more. Raises what
    `backfill_chain` does, and OperatorError where no node knows it or its block is above the cutoff.
    """
    block = await at.reader.block_of(transaction)
    if block is None:
        raise OperatorError(f"no node knows transaction {transaction}")
    before = await backfill_chain(at)
    if block > before.block:
        raise OperatorError(
            f"{transaction} is in block {block}, and the cutoff ({at.settings.chain.cutoff}) ends at {before.block}: "
            "try again when the chain has gone on"
        )
    again = await backfill_chain(at, max(block, at.settings.chain.start_block))
    return again.model_copy(update={"fills": before.fills + again.fills})


@flow(name="hedging-backfill", flow_run_name="hedging-backfill")
async def hedging_backfill(request: BackfillRequest) -> Backfilled:
    """Read the chain up to its cutoff, and order nothing."""
    async with said_if_it_fails(READ), desk_for_run(open_hedging, trades=True) as at:
        return await backfill_chain(at, request.first)
