"""Every hour, bring the venues' ledgers into ours: funding payments, fills, rates, prices and the perpetual's series."""

from __future__ import annotations

from functools import partial

from prefect import flow

from flows.running import desk_for_run
from tasks.carry.books.collect import Collected, collect_accounts
from tasks.carry.desk import noted_in, open_desks


@flow(name="collect", flow_run_name="collect")
async def collect() -> Collected:
    """Collect once; running it twice adds nothing."""
    faults: dict[str, str] = {}
    async with desk_for_run(partial(open_desks, without=noted_in(faults))) as desks:
        return await collect_accounts(desks, faults)
