"""Each day, pull the shares of profits that are due or could not be pulled before, each once."""

from __future__ import annotations

from prefect import flow

from evenkeel.types import Frozen
from flows.running import settings_for_run
from strategy.accounts.share import ChargeState
from tasks.accounts.alerts import judge_ledger, note
from tasks.accounts.desk import AccountsDesk, open_accounts_desk
from tasks.accounts.trading import paid, pull_charges


class Collected(Frozen):
    """How many charges were paid, and what stands in the way of each of the others, by its name."""

    paid: int
    open: dict[str, str]


async def collect_charges(desk: AccountsDesk) -> Collected:
    """Pull everything that is to be paid; running it twice pulls nothing twice."""
    core = desk.desk
    ends = await pull_charges(core)
    note(core.store, judge_ledger(core.store))
    left = core.store.accounts.charges(ChargeState.DUE, ChargeState.OUTSTANDING)
    why = {one.charge_id: ends.get(one.charge_id) for one in left}
    named = {
        name: end if isinstance(end, str) else str(getattr(end, "reason", "")) for name, end in why.items()
    }
    return Collected(paid=paid(ends), open=named)


@flow(name="collect-shares", flow_run_name="collect-shares")
async def collect_shares() -> Collected:
    """Collect once."""
    with settings_for_run() as settings:
        async with open_accounts_desk(settings) as desk:
            return await collect_charges(desk)
